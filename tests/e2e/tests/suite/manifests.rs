//! `manifest`: lists made by Docker's client and by ours, each with the other's, at Debian's registry and at ours.

use std::fs;

use e2e::{Client, Daemon, Environment};
use serde_json::Value;

use crate::platforms::{ARCHITECTURES, fill};
use crate::registry::Registry;
use crate::registry_serve::serve;

/// Both say the same, on both streams.
#[track_caller]
fn same(docker: &Client, dhow: &Client, args: &[&str]) -> String {
    let (theirs, ours) = (docker.try_run(args), dhow.try_run(args));
    assert_eq!((theirs.code, &theirs.stdout, &theirs.stderr), (ours.code, &ours.stdout, &ours.stderr), "{args:?}");
    theirs.stdout
}

#[test]
fn both_clients_make_the_same_lists_and_use_each_others() {
    let Some(daemon) = Daemon::start() else { return };
    let registry = Registry::start();
    fill(&daemon, &registry.address);
    let [docker, dhow] = daemon.clients();
    let name = |name: &str| format!("{}/{name}", registry.address);
    let (list, images) = (name("list:1"), ARCHITECTURES.map(|arch| name(&format!("app:{arch}"))));
    let image = |at: usize| images[at].as_str();
    let files = || {
        let dir = daemon.dir.path().join("config/manifests");
        let mut files = Vec::new();
        for list in fs::read_dir(dir).into_iter().flatten().flatten() {
            for file in fs::read_dir(list.path()).unwrap().flatten() {
                files.push((file.path(), fs::read_to_string(file.path()).unwrap()));
            }
        }
        files.sort();
        files
    };
    let mut pushed = Vec::new();
    let mut kept = Vec::new();
    for (one, other) in [(&docker, &dhow), (&dhow, &docker)] {
        let made = one.run(&["manifest", "create", "--insecure", &list, image(0), image(1)]);
        assert_eq!(made, format!("Created manifest list {list}"));
        other
            .try_run(&["manifest", "create", "--insecure", &list, image(2)])
            .expect_error(1, "refusing to amend an existing manifest list with no --amend flag");
        other.run(&["manifest", "create", "--insecure", "--amend", &list, image(2)]);
        let features = ["--os-features", "sse4,neon", "--os-features", "neon"];
        let mut annotate = vec!["manifest", "annotate", "--arch", "arm64", "--variant", "v8", "--os-version", "10.0"];
        annotate.extend(features);
        annotate.extend([list.as_str(), image(1)]);
        one.run(&annotate);
        kept.push(files());
        let shown = same(&docker, &dhow, &["manifest", "inspect", &list]);
        let shown: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(shown["manifests"].as_array().unwrap().len(), 3);
        same(&docker, &dhow, &["manifest", "inspect", "-v", &list]);
        same(&docker, &dhow, &["manifest", "inspect", &list, image(0)]);
        same(&docker, &dhow, &["manifest", "inspect", "-v", &list, image(0)]);
        pushed.push(other.run(&["manifest", "push", "--insecure", &list]));
        assert_eq!(other.run(&["manifest", "push", "--insecure", "-p", &list]), *pushed.last().unwrap());
        assert!(files().is_empty(), "purged");
    }
    assert_eq!(pushed[0], pushed[1], "the same digests");
    assert_eq!(pushed[0].lines().count(), 4, "three manifests and the list: {}", pushed[0]);
    assert_eq!(kept[0], kept[1], "the same files");
    // From the registry.
    for args in [&["manifest", "inspect", "--insecure"][..], &["manifest", "inspect", "--insecure", "-v"]] {
        for name in [list.as_str(), image(0)] {
            let mut args = args.to_vec();
            args.push(name);
            assert!(!same(&docker, &dhow, &args).is_empty());
        }
    }
    assert_eq!(dhow.run(&["run", "--rm", &list, "sh", "-c", "echo $WHICH"]), "amd64");
}

#[test]
fn what_is_wrong_is_said_in_dockers_words() {
    let Some(daemon) = Daemon::start() else { return };
    let registry = Registry::start();
    fill(&daemon, &registry.address);
    let [docker, dhow] = daemon.clients();
    let name = |name: &str| format!("{}/{name}", registry.address);
    let (list, image, absent) = (name("list"), name("app:amd64"), name("nosuch:1"));
    docker.run(&["manifest", "create", "--insecure", &list, &image]);
    docker.run(&["manifest", "push", "--insecure", &list]);
    docker.run(&["manifest", "create", "--insecure", "other/list", &image]);
    let create =
        |list: &'static str, image: &str| ["manifest", "create", "--insecure", list, image].map(str::to_owned).to_vec();
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let wrong = [
        create("BAD", &image),
        create("new", "BAD"),
        create("new", &absent),
        create("new", &list),
        words(&format!("manifest annotate {list} {image} --os linux --arch vax")),
        words(&format!("manifest annotate {list} {absent}")),
        words("manifest annotate BAD x"),
        words("manifest annotate x BAD"),
        words("manifest annotate x y"),
        words(&format!("manifest inspect --insecure {absent}")),
        words(&format!("manifest inspect {list} {absent}")),
        words("manifest inspect other/list"),
        words("manifest push other/list"),
        words("manifest push nosuch"),
        words("manifest rm nosuch BAD"),
    ];
    for args in wrong {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        same(&docker, &dhow, &args);
        assert_eq!(dhow.try_run(&args).code, 1, "{args:?}");
    }
    dhow.run(&["manifest", "rm", &list, "other/list"]);
    assert_eq!(fs::read_dir(daemon.dir.path().join("config/manifests")).unwrap().count(), 0);
}

#[test]
fn lists_go_to_our_registry_with_a_login() {
    let Some(environment) = Environment::get() else { return };
    let Some(daemon) = Daemon::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let users = dir.path().join("users");
    // `ann` with the password `secret`, bcrypt at cost 5.
    fs::write(&users, "ann:$2b$05$WavBL6xz69LpEOuu0uClb.v3Di6yCMqUPa0H0rwMaiH1KaIf8XC8S\n").unwrap();
    let (mut child, address) =
        serve(environment, "dhow", &dir.path().join("registry"), &["--htpasswd", users.to_str().unwrap()]);
    let [docker, dhow] = daemon.clients();
    let list = format!("{address}/team/list:1");
    let images = ARCHITECTURES.map(|arch| format!("{address}/app:{arch}"));
    let mut create = vec!["manifest", "create", "--insecure", &list];
    create.extend(images.iter().map(String::as_str));
    assert_ne!(dhow.try_run(&create).code, 0, "not without a login");
    docker.try_run_with(&["login", "-u", "ann", "--password-stdin", &address], b"secret").expect_code(0);
    fill(&daemon, &address);
    let mut pushed = Vec::new();
    for client in [&dhow, &docker] {
        client.run(&create);
        pushed.push(client.run(&["manifest", "push", "--insecure", "--purge", &list]));
        assert_eq!(same(&docker, &dhow, &["manifest", "inspect", "--insecure", &list]).matches("digest").count(), 3);
    }
    assert_eq!(pushed[0], pushed[1]);
    // The blobs came along into the list's own repository.
    assert_eq!(dhow.run(&["run", "--rm", "--platform", "linux/s390x", &list, "sh", "-c", "echo $WHICH"]), "s390x");
    let _ = child.kill();
    let _ = child.wait();
}
