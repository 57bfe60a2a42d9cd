//! What the builder keeps on the disk: shown and removed by the unmodified clients, collected by itself.

use std::fs;
use std::process::Stdio;

use e2e::{Client, Daemon, Options};
use serde_json::Value;

use crate::build::{build, build_args, context, with_buildx};
use crate::eventually;

/// Two layers of 3 and 2 MB, and a cache of 5.
const FILE: &str = "FROM busybox\n\
    RUN --mount=type=cache,target=/cache dd if=/dev/zero of=/cache/x bs=1M count=5\n\
    COPY one.txt /\n\
    RUN dd if=/dev/zero of=/big bs=1M count=3\n\
    RUN dd if=/dev/zero of=/more bs=1M count=2\n";

/// What `docker system df` says, by type: sizes, and whether in use.
fn kept(client: &Client) -> Vec<(String, i64, bool)> {
    let usage = client.json(&["system", "df", "-v", "--format", "{{json .}}"]);
    let records = usage["BuildCache"].as_array().cloned().unwrap_or_default();
    let text = |record: &Value, field: &str| record[field].as_str().unwrap_or_default().to_owned();
    let mut kept: Vec<_> = records
        .iter()
        .map(|record| (text(record, "CacheType"), bytes(&text(record, "Size")), text(record, "InUse") == "true"))
        .collect();
    kept.sort();
    kept
}

/// `5.25MB` in bytes.
fn bytes(text: &str) -> i64 {
    let digits = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let factor = match &text[digits..] {
        "kB" => 1e3,
        "MB" => 1e6,
        _ => 1.,
    };
    (text[..digits].parse::<f64>().unwrap() * factor) as i64
}

fn of<'a>(kept: &'a [(String, i64, bool)], kind: &str) -> Vec<&'a (String, i64, bool)> {
    kept.iter().filter(|(found, ..)| found == kind).collect()
}

#[test]
fn everything_that_is_kept_is_shown_and_can_be_removed() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let dir = context(FILE);
    let client = with_buildx(daemon.docker());
    build(&client, "kept", dir.path());
    let all = kept(&client);
    assert_eq!(of(&all, "regular").len(), 4, "{all:?}");
    assert!(of(&all, "source.local").len() >= 2, "{all:?}");
    assert!(of(&all, "exec.cachemount").iter().all(|(_, size, used)| *size >= 5_000_000 && !used), "{all:?}");
    let du = client.run(&["buildx", "du", "--verbose"]);
    for words in
        ["cached mount /cache from exec /bin/sh -c dd", "local source for context", "Parents:", "Mutable:      true"]
    {
        assert!(du.contains(words), "{words} is missing:\n{du}");
    }

    // What the image has stays until everything is asked for, as with Docker.
    let removed = client.run(&["buildx", "prune", "-f", "--filter", "type=exec.cachemount"]);
    assert!(removed.contains("5.2"), "{removed}");
    let all = kept(&client);
    assert!(of(&all, "exec.cachemount").is_empty() && of(&all, "regular").len() == 4, "{all:?}");
    client.run(&["buildx", "prune", "-f"]);
    assert_eq!(kept(&client).len(), 4);
    assert_eq!(fs::read_dir(daemon.data_root().join("build/cache")).unwrap().count(), 0);
    client.run(&["rmi", "kept"]);

    // Down to a size the newest stays: the last layer needs those below it.
    client.run(&["buildx", "prune", "-f", "--max-used-space", "4500000"]);
    let all = kept(&client);
    let total: i64 = all.iter().map(|(_, size, _)| size).sum();
    assert!(total <= 4_500_000 && !all.is_empty(), "{all:?}");
    let pruned = client.run(&["system", "prune", "-f"]);
    assert!(pruned.contains("Deleted build cache objects:"), "{pruned}");
    assert_eq!(kept(&client), []);

    // Docker's own client without the plugin asks by another way.
    fs::remove_file(client.config.join("cli-plugins/docker-buildx")).unwrap();
    client.try_run(&["builder", "prune", "-f", "--filter", "colour=red"]).expect_error(1, "invalid filter 'colour'");
}

#[test]
fn what_a_build_uses_stays() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let client = with_buildx(daemon.docker());
    let dir = context("FROM busybox\nRUN echo base > /base\n");
    build(&client, "base", dir.path());
    client.run(&["rmi", "base"]);
    let slow = "FROM busybox\nRUN echo base > /base\nRUN --mount=type=cache,target=/cache touch /cache/x && \
                while test ! -e /cache/go; do sleep 0.1; done; cat /base\n";
    fs::write(dir.path().join("Dockerfile"), slow).unwrap();
    let mut command = client.command(&build_args("slow", dir.path().to_str().unwrap()));
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let caches = daemon.data_root().join("build/cache");
    let cache =
        || fs::read_dir(&caches).unwrap().flatten().map(|entry| entry.path()).find(|path| path.join("x").exists());
    eventually(30, "the beginning of the step", || cache().is_some());
    let du = client.run(&["buildx", "du", "--filter", "inuse=true"]);
    assert!(du.contains("false"), "{du}");
    client.run(&["buildx", "prune", "-af"]);
    let all = client.run(&["buildx", "du", "--verbose"]);
    assert!(all.contains("RUN echo base") && all.contains("cached mount /cache"), "{all}");
    fs::write(cache().unwrap().join("go"), "").unwrap();
    assert!(child.wait().unwrap().success());
    client.run(&["buildx", "prune", "-af"]);
    assert_eq!(kept(&client), []);
}

#[test]
fn too_much_is_collected_by_itself() {
    let config = tempfile::NamedTempFile::new().unwrap();
    let policies = r#"{"builder": {"gc": {"policy": [{"maxUsedSpace": "2MB", "filter": ["type=exec.cachemount"]}]}}}"#;
    fs::write(config.path(), policies).unwrap();
    let flags = vec!["--config-file".to_owned(), config.path().display().to_string()];
    let Some(daemon) = Daemon::start_with(Options { flags, ..Options::default() }) else { return };
    daemon.busybox();
    let client = with_buildx(daemon.docker());
    let inspect = client.run(&["buildx", "inspect"]);
    assert!(inspect.contains("Max Used Space: 2MiB") && inspect.contains("type==exec.cachemount"), "{inspect}");
    let dir = context(FILE);
    build(&client, "much", dir.path());
    eventually(60, "the collection", || of(&kept(&client), "exec.cachemount").is_empty());
    assert_eq!(of(&kept(&client), "regular").len(), 4);
}

#[test]
fn policies_that_make_no_sense_are_named() {
    let Some(daemon) = Daemon::start() else { return };
    for (text, words) in [
        (
            r#"{"builder": {"gc": {"defaultKeepStorage": "lots"}}}"#,
            "builder.gc.defaultKeepStorage: \"lots\" is not a size",
        ),
        (r#"{"builder": {"gc": {"policy": [{"filter": ["x=y"]}]}}}"#, "invalid filter 'x'"),
        (r#"{"builder": {"history": {"maxEntries": "many"}}}"#, "builder.history.maxEntries"),
        (r#"{"builder": {"unknown": 1}}"#, "builder.unknown is not known"),
    ] {
        let config = tempfile::NamedTempFile::new().unwrap();
        fs::write(config.path(), text).unwrap();
        let mut command = daemon.program();
        let refused = command.arg("--validate").arg("--config-file").arg(config.path()).output().unwrap();
        let told = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success() && told.contains(words), "{told}");
    }
}
