//! Results of one daemon for another (`--cache-to`, `--cache-from`), with the unmodified plugin.

use std::fs;
use std::path::Path;

use e2e::{Client, Daemon};
use serde_json::Value;

use crate::build::{build_args, context, with_buildx};
use crate::registry_serve::Registry;

const FILE: &str = "FROM busybox AS tools\nRUN echo tool > /tool\n\
    FROM busybox\nRUN --mount=type=cache,id=pool,target=/pool test -e /pool/here || echo $((6*7)) > /pool/here\n\
    COPY one.txt /\nCOPY --from=tools /tool /\nRUN --mount=type=cache,id=pool,target=/pool cat /pool/here /tool > /made\n";

#[track_caller]
fn run(client: &Client, dir: &Path, options: &[&str]) -> String {
    let mut args = build_args("exchanged", dir.to_str().unwrap());
    args.splice(1..1, options.iter().copied());
    let output = client.try_run(&args);
    output.expect_code(0);
    output.stderr.clone()
}

/// Steps that were known.
fn cached(told: &str) -> usize {
    told.lines().filter(|line| line.ends_with(" CACHED")).count()
}

fn made(client: &Client) -> String {
    client.run(&["run", "--rm", "--network", "none", "exchanged", "cat", "/made", "/one.txt"])
}

#[test]
fn a_daemon_that_knows_nothing_takes_results_from_a_directory() {
    let (Some(first), Some(second)) = (Daemon::start(), Daemon::start()) else { return };
    first.busybox();
    second.busybox();
    let (one, two) = (with_buildx(first.docker()), with_buildx(second.docker()));
    let dir = context(FILE);
    let exchange = tempfile::tempdir().unwrap();
    let to = exchange.path().join("cache");
    let export = format!("type=local,dest={},mode=max,cache-mounts=true", to.display());
    let import = format!("type=local,src={}", to.display());
    run(&one, dir.path(), &["--cache-to", &export]);
    // In the form that BuildKit gives it.
    let document = |path: &Path| -> Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
    let blob =
        |value: &Value| to.join("blobs/sha256").join(value["digest"].as_str().unwrap().trim_start_matches("sha256:"));
    let manifest = document(&blob(&document(&to.join("index.json"))["manifests"][0]));
    assert_eq!(manifest["config"]["mediaType"], "application/vnd.buildkit.cacheconfig.v0");
    let config = document(&blob(&manifest["config"]));
    assert!(config["records"].as_array().unwrap().len() >= 5, "{config}");
    assert!(manifest["layers"].as_array().unwrap().iter().all(|layer| blob(layer).exists()), "{manifest}");

    // Bases and five steps.
    let told = run(&two, dir.path(), &["--cache-from", &import]);
    assert_eq!(cached(&told), cached(&run(&one, dir.path(), &[])), "{told}");
    assert!(!told.contains("ERROR"), "{told}");
    assert_eq!(made(&two), made(&one));
    // What came is kept: the next build does without the directory.
    assert_eq!(cached(&run(&two, dir.path(), &[])), cached(&told));

    // A step that has to run finds in its cache what the other daemon had there.
    two.run(&["buildx", "prune", "-af"]);
    let changed = FILE.replace("cat /pool/here /tool > /made", "cat /pool/here > /made");
    fs::write(dir.path().join("Dockerfile"), changed).unwrap();
    let told = run(&two, dir.path(), &["--cache-from", &import]);
    assert!(cached(&told) >= 4, "{told}");
    assert_eq!(made(&two), "42\none");

    // A cache that is not there is told, and the build goes on.
    let nowhere = format!("type=local,src={}", exchange.path().join("nowhere").display());
    run(&two, dir.path(), &["--cache-from", &nowhere]);
    // Damage is found, and the steps run.
    fs::write(dir.path().join("Dockerfile"), FILE).unwrap();
    two.run(&["rmi", "exchanged"]);
    two.run(&["image", "prune", "-f"]);
    two.run(&["buildx", "prune", "-af"]);
    for layer in manifest["layers"].as_array().unwrap() {
        fs::remove_file(blob(layer)).unwrap();
        fs::write(blob(layer), "nothing").unwrap();
    }
    let told = run(&two, dir.path(), &["--cache-from", &import]);
    // The base alone.
    assert_eq!(cached(&told), 1, "{told}");
    assert_eq!(made(&two), "42\ntool\none");
}

#[test]
fn a_registry_has_results_for_another_daemon() {
    let (Some(first), Some(second)) = (Daemon::start(), Daemon::start()) else { return };
    let Some(registry) = Registry::start(&[]) else { return };
    first.busybox();
    second.busybox();
    let (one, two) = (with_buildx(first.docker()), with_buildx(second.docker()));
    let dir = context(FILE);
    for (name, options) in [
        ("max:x", "mode=max,compression=zstd,compression-level=1"),
        ("index:x", "mode=max,image-manifest=false,compression=uncompressed"),
    ] {
        let name = registry.name(name);
        run(&one, dir.path(), &["--cache-to", &format!("type=registry,ref={name},{options}")]);
        let wanted = cached(&run(&one, dir.path(), &[]));
        let told = run(&two, dir.path(), &["--cache-from", &name]);
        assert_eq!(cached(&told), wanted, "{name}: {told}");
        assert_eq!(made(&two), made(&one));
        two.run(&["rmi", "exchanged"]);
        two.run(&["buildx", "prune", "-af"]);
    }
    // An image can have its own with it.
    let name = registry.name("inline:x");
    run(&one, dir.path(), &["--cache-to", "type=inline", "-t", &name]);
    one.run(&["push", "-q", &name]);
    let told = run(&two, dir.path(), &["--cache-from", &name]);
    assert!(cached(&told) >= 3, "{told}");
    assert_eq!(made(&two), made(&one));
    two.run(&["rmi", "exchanged"]);
    two.run(&["buildx", "prune", "-af"]);
    // The least of it has what the image is made of, and not the stage that files were taken from.
    let name = registry.name("min:x");
    run(&one, dir.path(), &["--cache-to", &format!("type=registry,ref={name},mode=min")]);
    let told = run(&two, dir.path(), &["--cache-from", &name]);
    let tools = told.lines().position(|line| line.contains("RUN echo tool")).unwrap();
    let number = told.lines().nth(tools).unwrap().split(' ').next().unwrap();
    assert!(!told.contains(&format!("{number} CACHED")), "{told}");
    assert_eq!(made(&two), made(&one));
}

#[test]
fn what_cannot_be_exchanged_is_named() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let client = with_buildx(daemon.docker());
    let dir = context("FROM busybox\nCOPY one.txt /\n");
    let path = dir.path().to_str().unwrap();
    let refused = |option: &str, words: &str| {
        let mut args = build_args("refused", path);
        args.splice(1..1, ["--cache-to", option]);
        client.try_run(&args).expect_error(1, words);
    };
    refused(
        "type=azblob,account_url=https://x,name=y,secret_access_key=b",
        "build caches of type azblob are not supported",
    );
    refused("type=local,dest=/tmp/x,compression=estargz", "compression estargz of build caches is not supported");
    refused("type=local,dest=/tmp/x,colour=red", "the option colour=red of the build cache is not supported");
    refused("type=local,dest=/tmp/x,mode=all", "it is min or max");
    refused("type=registry,ref=127.0.0.1:1/x", "failed to export the build cache to 127.0.0.1:1/x");
    // Nothing is built before that is clear; what only the registry refuses comes after the build.
    assert_eq!(client.run(&["images", "-q"]).lines().count(), 2);
    let mut args = build_args("passed", path);
    args.splice(1..1, ["--cache-to", "type=registry,ref=127.0.0.1:1/x,ignore-error=true"]);
    client.try_run(&args).expect_code(0);
}
