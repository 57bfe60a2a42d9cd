//! Updates of images: of what is here already, nothing is fetched.

use std::fs;

use e2e::Daemon;
use e2e::daemon::Options;

use crate::registry::{Proxy, Registry};
use crate::registry_serve::Programs;

/// Files of an image, of 20 kB each, that do not shrink; every tenth is another one in each version.
const FILES: u64 = 300;

fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    (0..20_000).map(|_| next()).collect()
}

/// Two versions of an image at a registry, in the form that says where its files are.
struct Versions {
    registry: Registry,
    proxy: Proxy,
}

impl Versions {
    fn make(daemon: &Daemon) -> Self {
        let registry = Registry::start();
        let peers = daemon.environment.peers.as_ref().expect("a daemon that was started so has peers");
        let programs = Programs::at(peers, daemon.dir.path().join("home").to_str().unwrap().to_owned());
        let tree = daemon.dir.path().join("tree");
        for version in [1, 2] {
            for number in 0..FILES {
                let changed = if number % 10 == 0 { version * 1_000_000 } else { 0 };
                let dir = tree.join(format!("data/{}", number / 20));
                fs::create_dir_all(&dir).unwrap();
                fs::write(dir.join(number.to_string()), noise(changed + number)).unwrap();
            }
            // Holes, and content that shrinks.
            fs::write(tree.join("data/zeros"), vec![0; 100_000]).unwrap();
            fs::write(tree.join("data/text"), format!("version {version}\n").repeat(5_000)).unwrap();
            let archive = daemon.dir.path().join("tree.tar");
            let (archive, from) = (archive.to_str().unwrap(), tree.to_str().unwrap());
            assert!(
                std::process::Command::new("tar").args(["-C", from, "-cf", archive, "."]).status().unwrap().success()
            );
            let plain = format!("{}/plain:{version}", registry.address);
            daemon.docker().run(&["import", archive, &plain]);
            daemon.docker().run(&["push", "-q", &plain]);
            daemon.docker().run(&["rmi", &plain]);
            let chunked = format!("docker://{}/app:{version}", registry.address);
            programs.run(&[
                "skopeo",
                "copy",
                "--src-tls-verify=false",
                "--dest-tls-verify=false",
                "--format=oci",
                "--dest-compress-format=zstd:chunked",
                "--dest-force-compress-format",
                &format!("docker://{plain}"),
                &chunked,
            ]);
        }
        let proxy = Proxy::before(&registry.address);
        proxy.hurry();
        Self { registry, proxy }
    }

    fn name(&self, version: u32) -> String {
        format!("{}/app:{version}", self.proxy.address)
    }

    /// Bytes that a pull brings.
    fn pull(&self, daemon: &Daemon, version: u32) -> u64 {
        let before = self.proxy.sent();
        daemon.docker().run(&["pull", &self.name(version)]);
        self.proxy.sent() - before
    }
}

/// Digest of all files of an image, in it.
fn content(daemon: &Daemon, name: &str) -> String {
    daemon.docker().run(&["create", "--name", "content", name, "x"]);
    let tree = daemon.dir.path().join("content");
    daemon.docker().run(&["cp", "content:/data", tree.to_str().unwrap()]);
    daemon.docker().run(&["rm", "content"]);
    let script = "cd \"$1\" && find . -type f | sort | xargs sha256sum | sha256sum; rm -rf \"$1\"";
    let out = std::process::Command::new("sh").args(["-c", script, "sh", tree.to_str().unwrap()]).output().unwrap();
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn an_update_brings_only_what_is_new() {
    let Some(mut daemon) = Daemon::start() else { return };
    let versions = Versions::make(&daemon);
    let whole = versions.pull(&daemon, 1);
    assert!(whole > FILES * 20_000, "{whole}");
    let update = versions.pull(&daemon, 2);
    assert!(update < whole * 15 / 100, "{update} of {whole}");
    // What is acknowledged is on disk.
    daemon.kill();
    daemon.launch();
    let name = versions.name(2);
    assert!(daemon.docker().run(&["pull", &name]).contains("up to date"));
    let sound = daemon.dhow().run(&["system", "fsck"]);
    assert!(sound.contains(" 0 damaged"), "{sound}");

    // The same files as where all of it came, in either format of layers.
    let other =
        Daemon::start_with(Options { flags: vec!["--storage-opt=compressed=keep".into()], ..Options::default() });
    let other = other.unwrap();
    versions.pull(&other, 1);
    let all = versions.pull(&other, 2);
    assert!(all > whole * 9 / 10, "who keeps compressed layers has them whole: {all} of {whole}");
    assert_eq!(content(&daemon, &name), content(&other, &name));
    let directories = Options { flags: vec!["--storage-driver=overlay2".into()], ..Options::default() };
    let directories = Daemon::start_with(directories).unwrap();
    versions.pull(&directories, 1);
    let update = versions.pull(&directories, 2);
    assert!(update < whole * 15 / 100, "{update} of {whole}");
    assert_eq!(content(&directories, &name), content(&other, &name));
}

#[test]
fn what_came_in_part_can_be_pushed_and_saved() {
    let Some(daemon) = Daemon::start() else { return };
    let versions = Versions::make(&daemon);
    versions.pull(&daemon, 1);
    versions.pull(&daemon, 2);
    let (name, target) = (versions.name(2), Registry::start());
    let digest = |text: String| text.split("igest: ").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    let pulled = digest(daemon.docker().run(&["pull", &name]));
    // What is missing is fetched from where it came from.
    let pushed = format!("{}/copy:2", target.address);
    daemon.docker().run(&["tag", &name, &pushed]);
    assert_eq!(digest(daemon.docker().run(&["push", &pushed])), pulled);
    let fresh = Daemon::start().unwrap();
    fresh.docker().run(&["pull", &pushed]);
    assert_eq!(content(&daemon, &name), content(&fresh, &pushed));

    // An archive needs it here: said once, brought by the next pull.
    let archive = daemon.dir.path().join("saved.tar");
    let archive = archive.to_str().unwrap();
    let refused = daemon.docker().try_run(&["save", "-o", archive, &name]);
    assert!(refused.code != 0 && refused.stderr.contains("pull the image again"), "{refused:?}");
    daemon.docker().run(&["pull", &name]);
    daemon.docker().run(&["save", "-o", archive, &name]);
    fresh.docker().run(&["load", "-i", archive]);
    assert_eq!(content(&fresh, &name), content(&daemon, &name));
    assert_eq!(daemon.dhow().try_run(&["system", "fsck"]).code, 0);
    drop(versions.registry);
}
