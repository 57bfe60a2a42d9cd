//! Flags before the command, and finding the command.

use crate::{
    Error, Result, cmd,
    config::plugin,
    flags::{Flag, Kind, command_help, group_help, parse, root_help},
    session::{Globals, Session},
    term::output,
};

const TLS: &str = "TLS to the daemon is not supported yet";

const GLOBALS: &[Flag] = &[
    Flag::text("config", "Directory of the client configuration (default \"~/.docker\")"),
    Flag::text("context", "Context to use instead of DOCKER_HOST and the current one").short('c'),
    Flag::switch("debug", "Show what is done").short('D'),
    Flag::text("host", "Address of the engine").short('H').kind(Kind::Text, "list"),
    Flag::text("log-level", "Level of log messages").short('l').hidden(),
    Flag::switch("tls", "").refused(TLS),
    Flag::text("tlscacert", "").refused(TLS),
    Flag::text("tlscert", "").refused(TLS),
    Flag::text("tlskey", "").refused(TLS),
    Flag::switch("tlsverify", "").refused(TLS),
    Flag::switch("version", "Print the version and quit").short('v'),
];

/// Runs the command the arguments name.
pub(crate) fn run(args: &[String]) -> Result<u8> {
    let mut globals = Globals::default();
    let mut rest = args;
    while let Some((word, tail)) = rest.split_first() {
        if !word.starts_with('-') || word == "-" {
            break;
        }
        rest = global(word, tail, &mut globals)?;
        if rest.is_empty() && matches!(word.as_str(), "--version" | "-v" | "--help" | "-h") {
            return answer(word);
        }
    }
    dispatch(rest, Session::new(globals))
}

fn answer(word: &str) -> Result<u8> {
    if matches!(word, "--version" | "-v") {
        output::print_line(&format!("dhow version {}", env!("CARGO_PKG_VERSION")))?;
    } else {
        output::print(&root_help(cmd::GROUPS, cmd::COMMANDS, GLOBALS))?;
    }
    Ok(0)
}

/// Takes one global flag; returns what follows it.
fn global<'a>(word: &str, tail: &'a [String], globals: &mut Globals) -> Result<&'a [String]> {
    if matches!(word, "--help" | "-h" | "--version" | "-v") {
        // These end the command line; nothing after them is looked at.
        return Ok(&[]);
    }
    let fail = |text: String| Error::Message {
        text: format!("{text}\n\nUsage:  dhow [OPTIONS] COMMAND [ARG...]\n"),
        code: 125,
        hint: Some("Run 'dhow --help' for more information".into()),
    };
    let (name, attached) = match (word.strip_prefix("--"), word.strip_prefix('-')) {
        (Some(long), _) => match long.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (long.to_owned(), None),
        },
        (None, Some(short)) => {
            let mut letters = short.chars();
            let letter = letters.next().unwrap_or('-');
            let value = letters.as_str();
            let value = value.strip_prefix('=').unwrap_or(value);
            (letter.to_string(), (!value.is_empty()).then(|| value.to_owned()))
        }
        (None, None) => unreachable!("only words that begin with a dash come here"),
    };
    let flag = GLOBALS
        .iter()
        .find(|flag| flag.long == name || (name.len() == 1 && flag.short.is_some_and(|c| name.starts_with(c))));
    let Some(flag) = flag else {
        return Err(fail(if word.starts_with("--") {
            format!("unknown flag: --{name}")
        } else {
            format!("unknown shorthand flag: '{name}' in {word}")
        }));
    };
    if let Some(why) = flag.refused {
        return Err(fail(format!("--{} is not supported: {why}", flag.long)));
    }
    if flag.kind == Kind::Switch {
        globals.debug = attached.as_deref() != Some("false");
        return Ok(tail);
    }
    let (value, tail) = match (attached, tail.split_first()) {
        (Some(value), _) => (value, tail),
        (None, Some((value, tail))) => (value.clone(), tail),
        (None, None) => return Err(fail(format!("flag needs an argument: {word}"))),
    };
    match flag.long {
        "host" if globals.host.is_some() => return Err(fail("specify only one -H".into())),
        "host" => globals.host = Some(value),
        "context" => globals.context = Some(value),
        "config" => globals.config_dir = Some(value),
        _ => {}
    }
    Ok(tail)
}

fn dispatch(words: &[String], session: Session) -> Result<u8> {
    let Some(first) = words.first() else { return answer("--help") };
    if first == "help" {
        return help(&words[1..]);
    }
    if let Some((command, called, used)) = cmd::find(words) {
        let parsed = parse(command, called, &words[used..])?;
        if parsed.help {
            output::print(&command_help(command, called))?;
            return Ok(0);
        }
        return (command.run)(&parsed, &session);
    }
    if let Some(group) = cmd::GROUPS.iter().find(|group| group.name == first) {
        return match words.get(1).map(String::as_str) {
            None | Some("--help" | "-h" | "help") => help(&words[..1]),
            Some(flag) if flag.starts_with('-') => {
                Err(Error::usage(format!("unknown flag: {flag}"), group.name, "COMMAND"))
            }
            Some(word) => Err(Error::new(format!(
                "dhow: unknown command: dhow {first} {word}\n\nUsage:  dhow {first}\n\nRun 'dhow {first} --help' for more information"
            ))),
        };
    }
    // `builder` is a command of the buildx plugin under its own name.
    let (name, plugin_words) = match first.as_str() {
        "builder" => ("buildx", [&["buildx".to_owned()], &words[1..]].concat()),
        other => (other, words.to_vec()),
    };
    if let Some(program) = plugin::find(session.config()?.dir(), name) {
        return plugin::exec(&program, &plugin_words, &session);
    }
    let known = cmd::nearest(first).map(|name| format!("Did you mean 'dhow {name}'? ")).unwrap_or_default();
    Err(Error::new(format!("dhow: unknown command: dhow {first}\n\n{known}Run 'dhow --help' for more information")))
}

fn help(words: &[String]) -> Result<u8> {
    let Some(first) = words.first() else { return answer("--help") };
    if let Some((command, called, _)) = cmd::find(words) {
        output::print(&command_help(command, called))?;
    } else if let Some(group) = cmd::GROUPS.iter().find(|group| group.name == first) {
        output::print(&group_help(group, cmd::COMMANDS))?;
    } else {
        return Err(Error::new(format!("unknown help topic: {}", words.join(" "))));
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn global_flags_have_every_form() {
        for line in ["-H tcp://a", "-Htcp://a", "-H=tcp://a", "--host tcp://a", "--host=tcp://a"] {
            let all = words(line);
            let mut globals = Globals::default();
            let rest = global(&all[0], &all[1..], &mut globals).unwrap();
            assert!(rest.is_empty());
            assert_eq!(globals.host.as_deref(), Some("tcp://a"), "{line}");
        }
        assert!(run(&words("--tlsverify ps")).unwrap_err().to_string().contains("TLS"));
        assert_eq!(run(&words("--foo")).unwrap_err().exit_code(), 125);
        assert!(run(&words("nonsense")).unwrap_err().to_string().contains("unknown command: dhow nonsense"));
        assert!(
            run(&words("container nonsense"))
                .unwrap_err()
                .to_string()
                .contains("unknown command: dhow container nonsense")
        );
    }

    #[test]
    fn the_command_tree() {
        let text = root_help(cmd::GROUPS, cmd::COMMANDS, GLOBALS);
        for name in [
            "run",
            "exec",
            "ps",
            "images",
            "logs",
            "container",
            "image",
            "volume",
            "network",
            "system",
            "context",
            "cp",
            "stats",
        ] {
            assert!(text.contains(&format!("\n  {name:<11} ")), "{name} is missing in:\n{text}");
        }
        for group in cmd::GROUPS {
            assert!(group_help(group, cmd::COMMANDS).lines().count() > 6, "group {} is empty", group.name);
        }
    }

    #[test]
    fn tables_are_sound() {
        let mut seen = std::collections::BTreeSet::new();
        for command in cmd::COMMANDS {
            for path in command.paths {
                assert!(seen.insert(*path), "{path} is there twice");
            }
            let (mut longs, mut shorts) = (std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
            for flag in command.all_flags() {
                assert!(longs.insert(flag.long), "{}: --{} twice", command.paths[0], flag.long);
                assert!(
                    flag.short.is_none_or(|short| shorts.insert(short)),
                    "{}: -{:?} twice",
                    command.paths[0],
                    flag.short
                );
                assert!(flag.hidden || !flag.help.is_empty(), "{}: --{} has no help", command.paths[0], flag.long);
            }
            assert!(command_help(command, command.paths[0]).starts_with("Usage:  dhow "));
        }
    }
}
