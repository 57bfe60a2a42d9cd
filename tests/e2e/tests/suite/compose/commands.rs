//! Every command of Compose against both engines: the same exit codes, and the same words but for ids and times.

use std::process::Stdio;

use e2e::{Daemon, Project, clients};

use super::{engines, free_address, name, pair};
use crate::eventually;

const PROJECT: &str = r#"
services:
  one:
    image: busybox
    command: [sh, -c, "echo one says $$WORD; sleep 0.2; echo and warns >&2; exec sleep 1000"]
    stop_signal: KILL
    environment:
      WORD: hello
    ports: ["${PUBLISH:-0}:80"]
    volumes: ["data:/data"]
    depends_on:
      job:
        condition: service_completed_successfully
    healthcheck:
      test: [CMD, "true"]
      interval: 10s
      start_period: 10s
      start_interval: 200ms
  two:
    image: busybox
    command: [sleep, "1000"]
    stop_signal: KILL
    init: true
  job:
    image: busybox
    command: [sh, -c, "echo done"]
volumes:
  data: {}
"#;

/// What to type; a `<` says what comes on standard input.
const COMMANDS: &[&[&str]] = &[
    &[
        "ps",
        "--all",
        "--orphans=false",
        "--format",
        "{{.Service}} {{.Name}} {{.Image}} {{.Command}} {{.State}} {{.ExitCode}} {{.Health}} {{.Ports}}",
    ],
    &["ps", "--services"],
    &["ps", "--status", "exited", "--services"],
    &["ps", "--filter", "status=running", "--services"],
    &["ls", "--filter", "name=NAME"],
    &["volumes", "--format", "{{.Name}} {{.Driver}}"],
    &["images", "--format", "json"],
    &["logs", "--no-color", "one"],
    &["logs", "--no-log-prefix", "--tail", "1", "one"],
    &["logs", "--no-color", "--no-log-prefix", "job"],
    &["logs", "--no-color", "--since", "1h", "--until", "0s", "job"],
    &["exec", "-T", "one", "echo", "hi"],
    &[
        "exec",
        "-T",
        "--env",
        "A=1",
        "--workdir",
        "/tmp",
        "--user",
        "1000:1000",
        "one",
        "sh",
        "-c",
        "echo $A $WORD; pwd; id -u",
    ],
    &["exec", "-T", "one", "sh", "-c", "echo out; echo err >&2; exit 3"],
    &["exec", "-T", "one", "nosuch"],
    &["exec", "-T", "nosuch", "true"],
    &["exec", "-T", "one", "cat", "<", "of standard input"],
    &["exec", "--detach", "one", "touch", "/detached"],
    &["exec", "-T", "one", "sh", "-c", "nslookup two | grep Name"],
    &["cp", "compose.yaml", "one:/tmp/copied"],
    &["exec", "-T", "one", "wc", "-l", "/tmp/copied"],
    &["cp", "one:/tmp/copied", "out"],
    &["cp", "one:/nosuch", "out"],
    &["top", "one"],
    &["top"],
    &["port", "one", "80"],
    &["port", "one", "81"],
    &["stats", "--no-stream", "--format", "{{.Name}}"],
    &["pause", "two"],
    &["ps", "--format", "{{.Service}} {{.State}} {{.Health}}"],
    &["exec", "-T", "two", "true"],
    &["unpause", "two"],
    &["stop", "--timeout", "0", "two"],
    &["ps", "--all", "--format", "{{.Service}} {{.State}} {{.ExitCode}}"],
    &["start", "two"],
    &["kill", "two"],
    &["restart", "--timeout", "0", "two"],
    &["ps", "--format", "{{.Service}} {{.State}}"],
    &["run", "--rm", "-T", "--no-deps", "one", "sh", "-c", "echo $WORD; exit 4"],
    &["run", "--rm", "-T", "two", "cat", "<", "for a run"],
    &["run", "--detach", "--name", "NAME-extra", "two", "sleep", "1000"],
    &["ps", "--all", "--format", "{{.Name}} {{.Command}}"],
    &["wait", "job"],
    &["scale", "two=2"],
    &["ps", "--services"],
    &["exec", "-T", "--index", "2", "two", "hostname"],
    &["create", "--force-recreate", "two"],
    &["ps", "--all", "--format", "{{.Service}} {{.State}}"],
    &["commit", "one", "NAME-committed"],
    &["export", "--output", "exported.tar", "one"],
    &["rm", "--stop", "--force", "two"],
    &["down", "--timeout", "0"],
    &["ps", "--all", "--quiet"],
    &["volumes", "--quiet"],
    &["down", "--volumes"],
];

/// With `--wait` a service that ends is an error.
#[track_caller]
fn begin(project: &Project) {
    project.run(&["up", "--detach"]);
    let health = || project.run(&["ps", "--format", "{{.Health}}", "one"]);
    eventually(20, "health", || health() == "healthy");
}

/// Digits and what is made of ids become one sign, blanks one blank; lines that come in no order are sorted.
fn settled(text: &str, name: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in text.replace(name, "NAME").lines() {
        let words = line.split_whitespace().map(|word| {
            let id = word.trim_matches(['"', ',', '(', ')']);
            let hex = id.len() >= 12 && id.trim_start_matches("sha256:").bytes().all(|byte| byte.is_ascii_hexdigit());
            if hex { "ID".to_owned() } else { word.to_owned() }
        });
        lines.push(words.collect::<Vec<_>>().join(" "));
    }
    lines.sort_unstable();
    lines.join("\n")
}

/// What may differ: a command, and the reason.
const EXCEPTIONS: &[(&str, &str)] =
    &[("images", "sizes and ids are those of each engine's own store"), ("top", "process ids and times")];

#[test]
fn every_command_says_what_it_says_on_dockerd() {
    let Some(daemon) = Daemon::with_network() else { return };
    let (name, address) = (name(), free_address());
    let mut transcripts = Vec::new();
    for engine in pair() {
        let project = engine.small(&daemon, &name, PROJECT).with("PUBLISH", &address);
        begin(&project);
        let directory = daemon.dir.path().join(&name);
        let mut transcript = Vec::new();
        for command in COMMANDS {
            let words: Vec<String> = command.iter().map(|word| word.replace("NAME", &name)).collect();
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let (words, input) = match words.as_slice() {
                [words @ .., "<", input] => (words, Some(input.as_bytes())),
                words => (words, None),
            };
            let mut run = project.command(words);
            run.current_dir(&directory).stderr(Stdio::piped());
            let output = clients::finish(run, words, input);
            transcript.push((words.join(" "), output.code, output.stdout, output.stderr));
        }
        assert_eq!(std::fs::read_to_string(directory.join("out")).unwrap(), PROJECT, "{engine:?}: a copy out");
        let removed = project.client.try_run(&["rm", "--force", "--volumes", &format!("{name}-extra")]);
        let image = project.client.try_run(&["rmi", &format!("{name}-committed")]);
        eprintln!("{engine:?}: {} {}", removed.stdout, image.stderr);
        transcripts.push(transcript);
    }
    let mut differing = Vec::new();
    for (theirs, ours) in transcripts[0].iter().zip(&transcripts[1]) {
        let own = EXCEPTIONS.iter().any(|(command, _)| theirs.0.starts_with(command));
        let same = settled(&theirs.2, &name) == settled(&ours.2, &name);
        // Progress on standard error comes in any order; what is wrong is its last line.
        let last = |text: &str| settled(text.lines().last().unwrap_or_default(), &name);
        let wrong = theirs.1 != 0 && !theirs.0.starts_with("run") && last(&theirs.3) != last(&ours.3);
        if theirs.1 != ours.1 || (!own && !same) || wrong {
            differing.push(format!(
                "{}\n  dockerd: {} {:?} {:?}\n  ours:    {} {:?} {:?}",
                theirs.0, theirs.1, theirs.2, theirs.3, ours.1, ours.2, ours.3
            ));
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

/// Following is what people leave open in a terminal: logs and events come while they happen.
#[test]
fn logs_and_events_are_followed() {
    let Some(daemon) = Daemon::with_network() else { return };
    for engine in engines() {
        let project = engine.small(&daemon, &name(), PROJECT);
        begin(&project);
        let directory = daemon.dir.path().join(&project.name);
        let follow = |what: &str, args: &[&str]| {
            let file = directory.join(what);
            let out = std::fs::File::create(&file).unwrap();
            let child = project.command(args).stdout(out).stderr(Stdio::null()).spawn().unwrap();
            (child, file)
        };
        let mut followed =
            [follow("logs", &["logs", "--follow", "--no-color"]), follow("events", &["events", "--json"])];
        let read = |at: usize, followed: &[(std::process::Child, std::path::PathBuf)]| {
            std::fs::read_to_string(&followed[at].1).unwrap_or_default()
        };
        eventually(20, "what is there already", || read(0, &followed).contains("one says hello"));
        project.run(&["restart", "--timeout", "0", "one"]);
        eventually(20, "a line of the new run", || read(0, &followed).matches("one says hello").count() == 2);
        eventually(20, "an event", || {
            read(1, &followed)
                .lines()
                .any(|line| line.contains("\"action\":\"restart\"") && line.contains("\"service\":\"one\""))
        });
        for (child, _) in &mut followed {
            let _ = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
            let _ = child.wait();
        }
    }
}
