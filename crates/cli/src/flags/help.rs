//! Help texts, laid out as Docker's: usage, about, aliases, options with aligned and wrapped descriptions.

use super::{Command, Flag, Group, Kind};

/// Widest line of wrapped descriptions.
const WIDTH: usize = 80;

/// Help of one command.
pub(crate) fn command_help(command: &Command, called: &str) -> String {
    let mut out = format!("Usage:  {}\n\n{}\n", usage(called, command.synopsis), command.about);
    if command.paths.len() > 1 {
        let names: Vec<String> = command.paths.iter().map(|path| format!("dhow {path}")).collect();
        out.push_str(&format!("\nAliases:\n  {}\n", names.join(", ")));
    }
    let mut flags: Vec<&Flag> = command.all_flags().filter(|flag| !flag.hidden).collect();
    flags.sort_by_key(|flag| flag.long);
    if !flags.is_empty() {
        out.push_str("\nOptions:\n");
        out.push_str(&options(&flags));
    }
    out
}

/// `dhow cp [OPTIONS] A B`, one line per alternative of the synopsis.
pub(crate) fn usage(called: &str, synopsis: &str) -> String {
    let lines: Vec<String> =
        synopsis.split('\n').map(|line| format!("dhow {called} {line}").trim_end().to_owned()).collect();
    lines.join("\n\t")
}

/// Help of a word that groups commands.
pub(crate) fn group_help(group: &Group, commands: &[&Command]) -> String {
    let mut rows: Vec<(&str, &str)> = commands
        .iter()
        .filter_map(|command| {
            let name = command.paths.iter().find_map(|path| path.strip_prefix(group.name)?.strip_prefix(' '))?;
            Some((name, command.about.lines().next().unwrap_or_default()))
        })
        .collect();
    rows.sort_unstable();
    format!(
        "Usage:  dhow {} COMMAND\n\n{}\n\nCommands:\n{}\nRun 'dhow {} COMMAND --help' for more information on a command.\n",
        group.name,
        group.about,
        table(&rows),
        group.name
    )
}

/// Help of the program.
pub(crate) fn root_help(groups: &[Group], commands: &[&Command], globals: &[Flag]) -> String {
    const COMMON: [&str; 10] = ["run", "exec", "ps", "pull", "images", "logs", "login", "logout", "version", "info"];
    let rooted = |name: &str| commands.iter().find(|command| command.paths.contains(&name));
    let about = |command: &Command| command.about.lines().next().unwrap_or_default();
    let common: Vec<(&str, &str)> =
        COMMON.iter().filter_map(|name| rooted(name).map(|command| (*name, about(command)))).collect();
    let managed: Vec<(&str, &str)> = groups.iter().map(|group| (group.name, group.about)).collect();
    let mut others: Vec<(&str, &str)> = commands
        .iter()
        .filter_map(|command| {
            let name = command.paths.iter().find(|path| !path.contains(' '))?;
            (!COMMON.contains(name)).then(|| (*name, about(command)))
        })
        .collect();
    others.sort_unstable();
    let flags: Vec<&Flag> = globals.iter().filter(|flag| !flag.hidden).collect();
    format!(
        "Usage:  dhow [OPTIONS] COMMAND\n\nA container engine\n\nCommon Commands:\n{}\nManagement Commands:\n{}\nCommands:\n{}\nGlobal Options:\n{}\nRun 'dhow COMMAND --help' for more information on a command.\n",
        table(&common),
        table(&managed),
        table(&others),
        options(&flags)
    )
}

fn table(rows: &[(&str, &str)]) -> String {
    rows.iter().map(|(name, about)| format!("  {name:<11} {about}\n")).collect()
}

fn options(flags: &[&Flag]) -> String {
    let left: Vec<String> = flags
        .iter()
        .map(|flag| {
            let short = flag.short.map_or("    ".to_owned(), |short| format!("-{short}, "));
            let value = if flag.value.is_empty() { String::new() } else { format!(" {}", flag.value) };
            format!("  {short}--{}{value}", flag.long)
        })
        .collect();
    let column = left.iter().map(String::len).max().unwrap_or(0) + 3;
    let mut out = String::new();
    for (flag, left) in flags.iter().zip(left) {
        let mut help = flag.help.to_owned();
        if !flag.default.is_empty() {
            let quoted = matches!(flag.kind, Kind::Text);
            help.push_str(&if quoted {
                format!(" (default {:?})", flag.default)
            } else {
                format!(" (default {})", flag.default)
            });
        }
        let mut line = format!("{left:<column$}");
        let mut used = column;
        let mut first = true;
        for word in help.split_whitespace() {
            if !first && used + 1 + word.len() > WIDTH.max(column + 30) {
                out.push_str(line.trim_end());
                out.push('\n');
                line = " ".repeat(column);
                used = column;
                first = true;
            }
            if !first {
                line.push(' ');
                used += 1;
            }
            line.push_str(word);
            used += word.len();
            first = false;
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}
