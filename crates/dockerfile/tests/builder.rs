//! What BuildKit says of small Dockerfiles, and what we say.
//!
//! `cases/checks.txt` has Dockerfiles with the findings and the error of `docker buildx build --check` by Docker 28.5. Where
//! we mean to differ, a case has our own lines behind a `why:` that says so. `DHOW_TEST_DOCKERD=unix://…` asks the daemon
//! there again and compares with what is written down.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use dockerfile::check::{Report, run};
use dockerfile::{Base, Options, PlannedStage, Source};
use serde_json::Value;
use types::Platform;

/// A Dockerfile and what is expected of it.
#[derive(Debug, Default)]
struct Case {
    arguments: Vec<String>,
    text: String,
    builder: BTreeSet<String>,
    /// Where it is not the same.
    ours: Option<BTreeSet<String>>,
    /// Why it is not.
    why: String,
}

fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let mut expected = false;
    for line in include_str!("cases/checks.txt").lines() {
        if let Some(arguments) = line.strip_prefix("====") {
            let arguments = arguments.split_whitespace().map(str::to_owned).collect();
            cases.push(Case { arguments, ..Case::default() });
            expected = false;
            continue;
        }
        // What stands before the first case says what the file is.
        let Some(case) = cases.last_mut() else { continue };
        match line {
            "----" => expected = true,
            _ if !expected => {
                case.text.push_str(line);
                case.text.push('\n');
            }
            _ if line.starts_with("why: ") => {
                case.ours = Some(BTreeSet::new());
                case.why = line.to_owned();
            }
            _ => drop(case.ours.as_mut().unwrap_or(&mut case.builder).insert(line.to_owned())),
        }
    }
    cases
}

fn options(arguments: &[String]) -> Options {
    let amd64 = Platform::new("linux", "amd64", "");
    let mut options = Options { target_platform: amd64.clone(), build_platform: amd64, ..Options::default() };
    for argument in arguments {
        let (name, value) = argument.split_once('=').unwrap();
        match name {
            "--target" => options.target = Some(value.to_owned()),
            "--platform" => options.target_platform = value.parse().unwrap(),
            "--build-arg" => {
                let (name, value) = value.split_once('=').unwrap();
                options.build_args.insert(name.to_owned(), value.to_owned());
            }
            other => panic!("{other}"),
        }
    }
    options
}

fn base(_: &PlannedStage) -> Option<Base> {
    Some(Base { env: vec![("PATH".to_owned(), "/bin".to_owned())], ..Base::default() })
}

/// The report in the form of the cases.
fn said(report: &Report) -> BTreeSet<String> {
    let lines = |lines: Option<dockerfile::Lines>| match lines {
        Some(lines) => format!("{}-{}", lines.first, lines.last),
        None => "-".to_owned(),
    };
    let warnings = report
        .warnings
        .iter()
        .map(|warning| format!("W {} {} {}", warning.rule, lines(Some(warning.lines)), warning.detail));
    let error = report.error.as_ref().map(|error| format!("E {} {error}", lines(error.lines)));
    warnings.chain(error).collect()
}

#[test]
fn findings_are_those_of_the_builder() {
    let cases = cases();
    assert!(cases.len() > 300, "{}", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        let source = Source::new("Dockerfile", case.text.as_bytes()).unwrap();
        let report = run(&source, &options(&case.arguments), None, &mut base);
        let said = said(&report);
        let expected = case.ours.as_ref().unwrap_or(&case.builder);
        if said != *expected {
            wrong.push(format!("{}{:?}\nexpected {expected:#?}\nsaid {said:#?}\n", case.text, case.arguments));
        }
    }
    assert!(wrong.is_empty(), "{} cases are not as expected\n{}", wrong.len(), wrong.join("\n"));
}

/// What the builder says now, in the form of the cases.
fn asked(daemon: &str, case: &Case) -> BTreeSet<String> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("builder");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("Dockerfile"), &case.text).unwrap();
    let mut docker = Command::new("docker");
    // The plugin is the one that came with the daemon, whatever the machine has.
    if let Ok(peers) = std::env::var("DHOW_TEST_PEERS") {
        let plugins = directory.join("config/cli-plugins");
        std::fs::create_dir_all(&plugins).unwrap();
        let _ = std::fs::remove_file(plugins.join("docker-buildx"));
        let program = Path::new(&peers).join("sid/usr/libexec/docker/cli-plugins/docker-buildx");
        std::os::unix::fs::symlink(program, plugins.join("docker-buildx")).unwrap();
        docker.env("DOCKER_CONFIG", directory.join("config"));
    }
    docker.args(["-H", daemon, "buildx", "build", "--call", "check,format=json"]).args(&case.arguments).arg(&directory);
    let output = docker.output().expect("docker is installed");
    let answer: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}{}", case.text, String::from_utf8_lossy(&output.stderr)));
    let lines =
        |location: &Value| match location["ranges"].as_array().and_then(|ranges| ranges.first().zip(ranges.last())) {
            Some((first, last)) if first["start"]["line"].is_number() => {
                format!("{}-{}", first["start"]["line"], last["end"]["line"])
            }
            _ => "-".to_owned(),
        };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let warnings = answer["warnings"].as_array().into_iter().flatten().map(|warning| {
        format!("W {} {} {}", text(&warning["ruleName"]), lines(&warning["location"]), text(&warning["detail"]))
    });
    let error = answer.get("buildError");
    let error = error.map(|error| format!("E {} {}", lines(&error["location"]), text(&error["message"])));
    warnings.chain(error).collect()
}

/// How often the builder is asked for an answer that varies.
const ATTEMPTS: usize = 8;

#[test]
fn the_builder_still_says_what_is_written_down() {
    let Ok(daemon) = std::env::var("DHOW_TEST_DOCKERD") else { return };
    // All of them take minutes; a part of them shows that the builder is the one they were written down from.
    let step = if std::env::var("DHOW_TEST_ALL_CASES").is_ok_and(|value| value == "1") { 1 } else { 10 };
    let mut wrong = Vec::new();
    for case in cases().iter().filter(|case| !case.why.contains("either")).step_by(step) {
        // It gathers findings without an order, and says the first of some.
        let mut said = asked(&daemon, case);
        for _ in 0..ATTEMPTS {
            if said == case.builder {
                break;
            }
            said = asked(&daemon, case);
        }
        if said != case.builder {
            wrong.push(format!("{}{:?}\nwritten {:#?}\nsaid {said:#?}\n", case.text, case.arguments, case.builder));
        }
    }
    assert!(wrong.is_empty(), "{} cases are not as they were\n{}", wrong.len(), wrong.join("\n"));
}
