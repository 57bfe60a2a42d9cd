//! What is asked of the front end beside builds, compared with Docker's own daemon.

use std::fs;

use e2e::{Client, Daemon};
use serde_json::Value;

use crate::build::with_buildx;

const FILES: [(&str, &str); 5] = [
    (
        "clean",
        "ARG V=1\n# base what everything begins with\nFROM busybox AS base\nARG V\n# WORD what is said\nARG WORD=hi\n\
         RUN --mount=type=secret,id=token,required=true --mount=type=ssh true\nFROM base AS final\nRUN true\n",
    ),
    ("findings", "FROM busybox as Base\nMAINTAINER me\nENV a b\nCMD echo $undefined\nWORKDIR rel\n"),
    ("secret", "FROM busybox\nARG PASSWORD\nENV TOKEN=x\n"),
    ("broken", "FROM busybox as Base\nRUNN x\n"),
    ("variable", "FROM busybox\nRUN true\nCOPY ${x:?needed} /\n"),
];

/// Code and output, without the addresses of Docker's pages on rules.
fn asked(client: &Client, file: &str, call: &[&str]) -> (i32, String) {
    let mut args = vec!["buildx", "build", "--progress", "quiet", "-f", file];
    args.extend(call);
    let dir = std::path::Path::new(file).parent().unwrap().to_str().unwrap();
    args.push(dir);
    let output = client.try_run(&args);
    let cut = |line: &str| line.split(" - https://").next().unwrap().trim_end().to_owned();
    let text = output.stdout.lines().map(cut).collect::<Vec<_>>().join("\n");
    (output.code, text)
}

/// The same as JSON, also without the builder's own definition of where the file came from.
fn json(client: &Client, file: &str, call: &str) -> (i32, Value) {
    let (code, text) = asked(client, file, &["--call", &format!("{call},format=json")]);
    let mut value: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
    for list in ["warnings", "sources"] {
        for entry in value[list].as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
            entry.remove("url");
            entry.remove("definition");
        }
    }
    (code, value)
}

#[test]
fn checks_outlines_and_targets_are_dockers() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let (ours, theirs) = (with_buildx(daemon.docker()), with_buildx(daemon.twin()));
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(".dockerignore"), "*.log\n").unwrap();
    for (name, text) in FILES {
        let file = dir.path().join(name);
        fs::write(&file, text).unwrap();
        let file = file.to_str().unwrap();
        for call in ["check", "outline", "targets"] {
            let how = format!("{call} of {name}");
            assert_eq!(asked(&ours, file, &["--call", call]), asked(&theirs, file, &["--call", call]), "{how}");
            assert_eq!(json(&ours, file, call), json(&theirs, file, call), "{how} as JSON");
        }
        let strict = ["--check", "--build-arg", "BUILDKIT_DOCKERFILE_CHECK=error=true"];
        assert_eq!(asked(&ours, file, &strict), asked(&theirs, file, &strict), "strict {name}");
    }
    // A build that findings fail says them, and one that is only asked about makes no image.
    let file = dir.path().join("findings");
    let args = ["build", "--network", "none", "-f", file.to_str().unwrap(), "--build-arg"];
    let args = [&args[..], &["BUILDKIT_DOCKERFILE_CHECK=error=true", dir.path().to_str().unwrap()]].concat();
    let failed = ours.try_run(&args);
    failed.expect_error(1, "lint violation found for rules: ");
    assert!(
        failed.stderr.contains("StageNameCasing: Stage name 'Base' should be lowercase (line 1)"),
        "{}",
        failed.stderr
    );
    assert_eq!(ours.run(&["images", "-q"]).lines().count(), 1);
    let args = ["build", "--call", "nonsense", "-f", file.to_str().unwrap(), dir.path().to_str().unwrap()];
    ours.try_run(&args).expect_error(1, "unsupported request frontend.nonsense");
}
