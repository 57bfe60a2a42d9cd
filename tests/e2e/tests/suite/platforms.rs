//! Images for several platforms: pulled, shown, run, saved, pushed and removed platform by platform.

use std::process::Command;

use e2e::{Client, Daemon};

use crate::registry::Registry;

/// Architectures of the image: this host's first.
pub const ARCHITECTURES: [&str; 3] = ["amd64", "arm64", "s390x"];

/// Puts one image for each architecture into a registry, as `app:ARCH`. Each says in `WHICH` for what it is; the
/// program in it is this host's, so that every one of them runs.
pub fn fill(daemon: &Daemon, address: &str) {
    let archive = daemon.environment.fixtures.join("busybox.tar");
    let docker = daemon.docker();
    for arch in ARCHITECTURES {
        let name = format!("{address}/app:{arch}");
        let (platform, which) = (format!("linux/{arch}"), format!("ENV WHICH={arch} PATH=/bin"));
        docker.run(&["import", "--platform", &platform, "-c", &which, archive.to_str().unwrap(), &name]);
        docker.run(&["push", &name]);
        docker.run(&["rmi", &name]);
    }
}

/// The same with an index over all of them, made by Docker's own client; gives its name.
fn multi(daemon: &Daemon, registry: &Registry) -> String {
    fill(daemon, &registry.address);
    let name = format!("{}/app:multi", registry.address);
    let images = ARCHITECTURES.map(|arch| format!("{}/app:{arch}", registry.address));
    let mut create = vec!["manifest", "create", "--insecure", &name];
    create.extend(images.iter().map(String::as_str));
    daemon.docker().run(&create);
    daemon.docker().run(&["manifest", "push", "--insecure", "--purge", &name]);
    name
}

fn which(client: &Client, name: &str, platform: Option<&str>) -> String {
    let mut args = vec!["run", "--rm", "--pull", "never"];
    args.extend(platform.into_iter().flat_map(|platform| ["--platform", platform]));
    args.extend([name, "sh", "-c", "echo $WHICH"]);
    client.run(&args)
}

const ABSENT: &str = "was found but does not provide the specified platform (linux/riscv64)";

#[test]
fn a_second_platform_is_added_to_the_first() {
    let Some(mut daemon) = Daemon::start() else { return };
    let registry = Registry::start();
    let name = multi(&daemon, &registry);
    for ours in [false, true] {
        let client = if ours { daemon.dhow() } else { daemon.docker() };
        client.run(&["pull", &name]);
        client.try_run(&["image", "inspect", "--platform", "linux/arm64", &name]).expect_error(1, "does not provide");
        client.run(&["pull", "--platform", "linux/arm64", &name]);
        assert_eq!(client.run(&["images", "-q"]).lines().count(), 1, "one image");
        assert_eq!(which(&client, &name, None), "amd64", "this host's, when nothing is said");
        assert_eq!(which(&client, &name, Some("linux/arm64")), "arm64");
        assert_eq!(which(&client, &name, Some("linux/amd64")), "amd64");
        let arm = client.json(&["image", "inspect", "--platform", "linux/arm64", &name]);
        assert_eq!((&arm[0]["Architecture"], &arm[0]["Config"]["Env"][0]), (&"arm64".into(), &"WHICH=arm64".into()));
        client.run(&["history", "--platform", "linux/arm64", &name]);
        for command in [&["image", "inspect"][..], &["history"], &["save"], &["push"], &["rmi"]] {
            let mut args = command.to_vec();
            args.extend(["--platform", "linux/riscv64", &name]);
            client.try_run(&args).expect_error(1, ABSENT);
        }
        client
            .try_run(&["run", "--rm", "--pull", "never", "--platform", "linux/s390x", &name, "true"])
            .expect_code(125);
        let container = client.run(&["create", "--platform", "linux/arm64", &name, "true"]);
        let shown = client.inspect(&container);
        assert_eq!(shown["ImageManifestDescriptor"]["platform"]["architecture"], "arm64");
        client.run(&["rm", &container]);
        // What is here is found again by a new daemon.
        daemon.kill();
        daemon.launch();
        assert_eq!(which(&client, &name, Some("linux/arm64")), "arm64");
        client.run(&["rmi", &name]);
    }
}

#[test]
fn the_tree_shows_what_is_here_and_what_is_used() {
    let Some(daemon) = Daemon::start() else { return };
    let registry = Registry::start();
    let name = multi(&daemon, &registry);
    daemon.busybox();
    let [docker, dhow] = daemon.clients();
    docker.run(&["pull", &name]);
    docker.run(&["pull", "--platform", "linux/arm64", &name]);
    docker.run(&["tag", &name, "other:1"]);
    docker.run(&["create", "--platform", "linux/arm64", &name, "true"]);
    for args in [&["image", "ls", "--tree"][..], &["images", "--tree", "-a"], &["images", "--tree", "other"]] {
        let (theirs, ours) = (docker.try_run(args), dhow.try_run(args));
        assert_eq!(theirs.expect_code(0).stdout, ours.expect_code(0).stdout, "{args:?}");
    }
    for flag in ["--quiet", "--no-trunc", "--digests", "--format=json"] {
        let args = ["images", "--tree", flag];
        let (theirs, ours) = (docker.try_run(&args), dhow.try_run(&args));
        assert_eq!((theirs.expect_code(1).stderr.trim(), theirs.code), (ours.stderr.trim(), ours.code));
    }
    let tree = dhow.run(&["images", "--tree", "other"]);
    let row = |word: &str| tree.lines().find(|line| line.contains(word)).unwrap_or_else(|| panic!("{word}: {tree}"));
    assert!(!row("linux/amd64").contains(" U ") && row("linux/arm64").contains(" U "), "{tree}");
    assert!(row("linux/s390x").contains(" 0B "), "not here: {tree}");
    // As the terminal shows it, in colours and with columns that fit.
    for width in ["40", "63", "120"] {
        let shown = |client: &Client| {
            let start = format!("{} -H {} images --tree", client.program.display(), client.host);
            let script = format!(
                "log_user 0; match_max 100000; set stty_init {{rows 24 cols {width}}}\nspawn -noecho {start}\n\
                 expect eof\nputs -nonewline $expect_out(buffer)"
            );
            let output = Command::new("expect").args(["-c", &script]).env("TERM", "xterm").output();
            String::from_utf8(output.expect("expect runs").stdout).unwrap()
        };
        let theirs = shown(&docker);
        assert!(theirs.contains("IMAGE"), "{theirs}");
        assert_eq!(theirs, shown(&dhow));
    }
    // Older versions of the API know nothing of manifests.
    for (version, manifests) in [("1.46", false), ("1.47", true)] {
        let path = format!("http://x/v{version}/images/json?manifests=1");
        let socket = daemon.socket_path();
        let output = Command::new("curl").arg("-s").arg("--unix-socket").arg(socket).arg(path).output();
        let list: serde_json::Value = serde_json::from_slice(&output.unwrap().stdout).unwrap();
        let multi = list.as_array().unwrap().iter().find(|image| image["RepoTags"].to_string().contains("multi"));
        assert_eq!(multi.unwrap()["Manifests"].as_array().map(Vec::len), manifests.then_some(3), "{version}");
    }
}

#[test]
fn archives_carry_every_platform_or_one() {
    let Some(daemon) = Daemon::start() else { return };
    let registry = Registry::start();
    let name = multi(&daemon, &registry);
    let path = |file: &str| daemon.dir.path().join(file).to_str().unwrap().to_owned();
    let (whole, part) = (path("whole.tar"), path("part.tar"));
    for client in daemon.clients() {
        for platform in ["linux/amd64", "linux/arm64"] {
            client.run(&["pull", "--platform", platform, &name]);
        }
        let id = client.inspect(&name)["Id"].clone();
        client.run(&["save", "-o", &whole, &name]);
        client.run(&["save", "--platform", "linux/arm64", "-o", &part, &name]);
        client.run(&["rmi", &name]);
        assert!(client.run(&["load", "-i", &whole]).contains(&format!("Loaded image: {name}")));
        assert_eq!(client.inspect(&name)["Id"], id);
        assert_eq!(which(&client, &name, Some("linux/arm64")), "arm64");
        assert_eq!(which(&client, &name, None), "amd64");
        client.run(&["rmi", &name]);
        // One platform alone is an image of its own.
        client.run(&["load", "-i", &part]);
        assert_ne!(client.inspect(&name)["Id"], id);
        assert_eq!(client.inspect(&name)["Architecture"], "arm64");
        assert_eq!(which(&client, &name, None), "arm64");
        client.run(&["rmi", &name]);
        client.run(&["load", "--platform", "linux/arm64", "-i", &whole]);
        assert_eq!(client.inspect(&name)["Id"], id);
        client.try_run(&["image", "inspect", "--platform", "linux/amd64", &name]).expect_error(1, "does not provide");
        assert_eq!(which(&client, &name, Some("linux/arm64")), "arm64");
        client.run(&["rmi", &name]);
        client.try_run(&["load", "--platform", "linux/riscv64", "-i", &whole]).expect_error(1, "linux/riscv64");
        assert_eq!(client.run(&["images", "-aq"]), "");
    }
    // Several of them: newer clients repeat the parameter.
    let dhow = daemon.dhow();
    ARCHITECTURES.iter().for_each(|arch| drop(dhow.run(&["pull", "--platform", arch, &name])));
    dhow.run(&["save", "--platform", "linux/arm64,linux/s390x", "-o", &whole, &name]);
    dhow.run(&["rmi", &name]);
    dhow.run(&["load", "-i", &whole]);
    assert_eq!(which(&dhow, &name, Some("linux/s390x")), "s390x");
    dhow.try_run(&["image", "inspect", "--platform", "linux/amd64", &name]).expect_error(1, "does not provide");
}

#[test]
fn one_platform_is_pushed_and_removed() {
    let Some(mut daemon) = Daemon::start() else { return };
    let registry = Registry::start();
    let name = multi(&daemon, &registry);
    for client in daemon.clients() {
        for platform in ["linux/amd64", "linux/arm64"] {
            client.run(&["pull", "--platform", platform, &name]);
        }
        let target = format!("{}/copy:{}", registry.address, if client.is_ours() { "dhow" } else { "docker" });
        client.run(&["tag", &name, &target]);
        client.run(&["push", "--platform", "linux/arm64", &target]);
        client.run(&["rmi", &target]);
        client.run(&["pull", &target]);
        assert_eq!(client.inspect(&target)["Architecture"], "arm64");
        client.run(&["rmi", &target]);
    }
    // The flag of `rmi` is newer than this docker client may be.
    let dhow = daemon.dhow();
    let id = dhow.inspect(&name)["Id"].clone();
    let container = dhow.run(&["run", "-d", "--platform", "linux/arm64", &name, "sleep", "1000"]);
    dhow.try_run(&["rmi", "--force", "--platform", "linux/arm64", &name]).expect_error(1, "(cannot be forced)");
    dhow.run(&["rm", "-f", &container]);
    assert!(dhow.run(&["rmi", "--platform", "linux/arm64", &name]).contains("Deleted: sha256:"));
    dhow.try_run(&["image", "inspect", "--platform", "linux/arm64", &name]).expect_error(1, "does not provide");
    assert_eq!(dhow.inspect(&name)["Id"], id, "the image stays");
    assert_eq!(which(&dhow, &name, None), "amd64");
    daemon.kill();
    daemon.launch();
    dhow.try_run(&["image", "inspect", "--platform", "linux/arm64", &name]).expect_error(1, "does not provide");
    dhow.run(&["pull", "--platform", "linux/arm64", &name]);
    assert_eq!(which(&dhow, &name, Some("linux/arm64")), "arm64", "and can be completed again");
    // Another index with the same manifest loses it too, which has to be forced; an image that is the manifest stays.
    let (other, part) = (format!("{}/app:two", registry.address), format!("{}/app:arm64", registry.address));
    dhow.run(&["manifest", "create", &other, &part]);
    dhow.run(&["manifest", "push", &other]);
    dhow.run(&["pull", "--platform", "linux/arm64", &other]);
    let remove = ["rmi", "--platform", "linux/arm64", &name];
    dhow.try_run(&remove).expect_error(1, "Content will be removed from all images referencing this variant.");
    dhow.run(&["pull", "--platform", "linux/arm64", &part]);
    let forced = ["rmi", "-f", "--platform", "linux/arm64", &name];
    dhow.try_run(&forced).expect_error(1, "is this manifest alone: remove that first");
    dhow.try_run(&["rmi", "-f", "--platform", "linux/arm64", &part]).expect_error(1, "remove it without a platform");
    dhow.run(&["rmi", &part]);
    dhow.run(&forced);
    for image in [&name, &other] {
        dhow.try_run(&["image", "inspect", "--platform", "linux/arm64", image]).expect_error(1, "does not provide");
    }
    dhow.run(&["rmi", &name, &other]);
    let blobs = std::fs::read_dir(daemon.data_root().join("content/blobs/sha256")).unwrap().count();
    assert_eq!(blobs, 0, "nothing stays on the disk");
}
