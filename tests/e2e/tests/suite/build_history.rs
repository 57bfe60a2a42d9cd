//! The history of builds, as the unmodified plugin shows it.

use std::fs;

use e2e::{Client, Daemon, Options};

use crate::build::{build, build_args, context, with_buildx};
use crate::eventually;

fn names(client: &Client) -> Vec<String> {
    client.run(&["buildx", "history", "ls", "--format", "{{.Ref}}"]).lines().map(str::to_owned).collect()
}

#[test]
fn builds_are_remembered_with_their_logs_and_errors() {
    let Some(mut daemon) = Daemon::start() else { return };
    daemon.busybox();
    let client = with_buildx(daemon.docker());
    let token = format!("dhow-planted-{}", daemon.pid());
    let secret = tempfile::NamedTempFile::new().unwrap();
    fs::write(secret.path(), &token).unwrap();
    let dir = context("FROM busybox\nRUN --mount=type=secret,id=token echo said $((40+2))\n");
    let source = format!("id=token,src={}", secret.path().display());
    let mut args = build_args("good", dir.path().to_str().unwrap());
    args.splice(1..1, ["--secret", source.as_str(), "--label", "colour=red"]);
    client.try_run(&args).expect_code(0);
    let bad = context("FROM busybox\nRUN echo before && exit 3\n");
    client.try_run(&build_args("bad", bad.path().to_str().unwrap())).expect_code(1);

    let check = |client: &Client| {
        let found = names(client);
        assert_eq!(found.len(), 2, "{found:?}");
        let list = client.run(&["buildx", "history", "ls"]);
        assert!(list.contains("Completed") && list.contains("Error"), "{list}");
        let good = client.json(&["buildx", "history", "inspect", "^1", "--format", "json"]);
        assert_eq!(good["Status"], "completed");
        assert_eq!(good["NumTotalSteps"], good["NumCompletedSteps"]);
        assert_eq!(good["Labels"][0]["Name"], "colour", "{good}");
        let logs = client.try_run(&["buildx", "history", "logs", "^1"]);
        assert!(logs.stderr.contains("said 42"), "{}", logs.stderr);
        let inspect = client.run(&["buildx", "history", "inspect"]);
        assert!(inspect.contains("exit code: 3") && inspect.contains(">>> RUN echo before && exit 3"), "{inspect}");
        let list = client.run(&["buildx", "history", "ls", "--filter", "status=error"]);
        assert!(list.contains("Error") && !list.contains("Completed"), "{list}");
        found
    };
    let found = check(&client);
    // The document of the image is there as long as the image is.
    let attachments = client.run(&["buildx", "history", "inspect", "^1"]);
    assert!(attachments.contains("Attachments:"), "{attachments}");
    let history = daemon.data_root().join("build/history");
    eventually(30, "the files of both builds", || fs::read_dir(&history).unwrap().count() == 3);
    let leaked = std::process::Command::new("grep").args(["-rlF", &token]).arg(daemon.data_root()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&leaked.stdout), "");

    daemon.stop();
    daemon.launch();
    let client = with_buildx(daemon.docker());
    assert_eq!(check(&client), found);
    let bundle = dir.path().join("bundle.dockerbuild");
    client.run(&["buildx", "history", "export", "-o", bundle.to_str().unwrap(), "^1"]);
    assert!(fs::metadata(&bundle).unwrap().len() > 100);
    client.try_run(&["buildx", "history", "rm", "nowhere"]).expect_error(1, "no record of a build nowhere");
    client.run(&["buildx", "history", "rm", "--all"]);
    assert!(names(&client).is_empty());
    eventually(30, "the removal of files", || fs::read_dir(&history).unwrap().count() == 0);
}

#[test]
fn only_so_many_are_remembered() {
    let config = tempfile::NamedTempFile::new().unwrap();
    fs::write(config.path(), r#"{"builder": {"history": {"maxEntries": 2}}}"#).unwrap();
    let flags = vec!["--config-file".to_owned(), config.path().display().to_string()];
    let Some(daemon) = Daemon::start_with(Options { flags, ..Options::default() }) else { return };
    daemon.busybox();
    let client = with_buildx(daemon.docker());
    let dir = context("FROM busybox\nCOPY one.txt /\n");
    for _ in 0..4 {
        build(&client, "many", dir.path());
    }
    eventually(30, "the removal of old records", || names(&client).len() == 2);
    let history = daemon.data_root().join("build/history");
    eventually(30, "the removal of their files", || fs::read_dir(&history).unwrap().count() == 2);
}
