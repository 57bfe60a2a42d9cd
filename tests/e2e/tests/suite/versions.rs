//! The versions of a tag: what it pointed at, and pointing it back.

use e2e::{Client, Daemon};

use crate::registry::Registry;

/// Makes `name` point at something new and gives its id.
fn next(docker: &Client, name: &str, mark: &str) -> String {
    docker.run(&["run", "--name", "made", "busybox", "sh", "-c", &format!("echo {mark} >/mark")]);
    docker.run(&["commit", "made", name]);
    docker.run(&["rm", "made"]);
    docker.json(&["image", "inspect", name])[0]["Id"].as_str().unwrap().to_owned()
}

fn mark(docker: &Client, name: &str) -> String {
    docker.run(&["run", "--rm", name, "cat", "/mark"])
}

#[test]
fn tags_go_back_to_what_they_were() {
    let Some(mut daemon) = Daemon::start() else { return };
    daemon.busybox();
    let (docker, dhow) = (daemon.docker(), daemon.dhow());
    let ids: Vec<String> = ["one", "two", "three"].iter().map(|mark| next(&docker, "app:1", mark)).collect();
    let log = dhow.run(&["image", "log", "--no-trunc", "-q", "app:1"]);
    assert_eq!(log.lines().collect::<Vec<_>>(), [&*ids[2], &ids[1], &ids[0]]);
    let log = dhow.run(&["image", "log", "app:1"]);
    assert!(log.contains("commit") && log.contains("current") && log.matches("here").count() == 2, "{log}");

    let told = dhow.run(&["image", "rollback", "app:1"]);
    let short = |id: &str| id["sha256:".len()..][..12].to_owned();
    assert_eq!(told, format!("app:1: {} -> {}", short(&ids[2]), short(&ids[1])));
    assert_eq!(mark(&docker, "app:1"), "two");
    // The client cuts the time off to whole seconds.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let events = docker.run(&["events", "--since", "1m", "--until", "0s", "--filter", "event=rollback"]);
    assert!(events.contains(&format!("image rollback {}", ids[1])) && events.contains("name=app:1"), "{events}");
    // Each goes further back, and what was left is found by its id.
    dhow.run(&["image", "rollback", "app:1"]);
    assert_eq!(mark(&docker, "app:1"), "one");
    dhow.try_run(&["image", "rollback", "app:1"]).expect_error(1, "app:1 has no version 1");
    dhow.run(&["image", "rollback", "app:1", &short(&ids[2])]);
    assert_eq!(mark(&docker, "app:1"), "three");
    dhow.run(&["image", "rollback", "app:1", "1"]);
    assert_eq!(mark(&docker, "app:1"), "one");

    // A tag that was taken away comes back, after a crash too.
    docker.run(&["tag", "app:1", "other:1"]);
    docker.run(&["rmi", "app:1"]);
    daemon.kill();
    daemon.launch();
    let (docker, dhow) = (daemon.docker(), daemon.dhow());
    assert!(dhow.run(&["image", "log", "app:1"]).contains("untag"));
    dhow.run(&["image", "rollback", "app:1"]);
    assert_eq!(mark(&docker, "app:1"), "one");
    for (name, words) in [("nosuch:1", "has no version"), ("app@sha256:12", "invalid"), ("", "invalid")] {
        dhow.try_run(&["image", "rollback", name]).expect_error(1, words);
    }
    dhow.try_run(&["image", "log", "nosuch:1"]).expect_error(1, "No such image");
}

#[test]
fn a_version_that_was_pruned_is_fetched_by_its_digest() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let (docker, dhow) = (daemon.docker(), daemon.dhow());
    let registry = Registry::start();
    let name = format!("{}/app:1", registry.address);
    for mark in ["one", "two"] {
        next(&docker, &name, mark);
        docker.run(&["push", &name]);
    }
    docker.run(&["image", "prune", "-f"]);
    assert!(dhow.run(&["image", "log", &name]).contains("to be fetched"));
    let told = dhow.run(&["image", "rollback", &name]);
    assert!(told.starts_with("Fetching sha256:"), "{told}");
    assert_eq!(mark(&docker, &name), "one");
}

#[test]
fn what_differs_between_two_images() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let (docker, dhow) = (daemon.docker(), daemon.dhow());
    let script = "mkdir -p /var/lib/dpkg /old && echo x >/old/gone && echo aaaa >/same-size && \
                  printf 'Package: tool\\nVersion: 1.0\\n\\nPackage: lib\\nVersion: 3\\n' >/var/lib/dpkg/status";
    docker.run(&["run", "--name", "aa", "busybox", "sh", "-c", script]);
    docker.run(&["commit", "-c", "ENV MODE=one", "-c", "LABEL kept=yes", "aa", "app:a"]);
    let script = "rm -r /old && echo bbbb >/same-size && touch -r /bin/busybox /same-size && echo new >/new && \
                  printf 'Package: tool\\nVersion: 1.1\\n' >/var/lib/dpkg/status";
    docker.run(&["run", "--name", "bb", "app:a", "sh", "-c", script]);
    docker.run(&["commit", "-c", "ENV MODE=two", "-c", "USER 7", "bb", "app:b"]);
    let shown = dhow.run(&["image", "diff", "--files", "app:a", "app:b"]);
    for line in [
        "Layers: 2 shared",
        "  ~ Env.MODE one -> two",
        "  + User 7",
        "  ~ tool 1.0 -> 1.1",
        "  - lib 3",
        "Files: 1 added, 2 removed, 2 modified",
        "  + /new",
        "  - /old",
        "  - /old/gone",
        "  ~ /same-size",
        "  ~ /var/lib/dpkg/status",
    ] {
        assert!(shown.lines().any(|shown| shown.trim_end() == line), "{line:?} in\n{shown}");
    }
    assert!(!shown.contains("kept") && !shown.contains("~ /bin"), "{shown}");
    let none = dhow.run(&["image", "diff", "app:a", "app:a"]);
    assert!(none.ends_with("Layers: 2 shared\nFiles: 0 added, 0 removed, 0 modified"), "{none}");
    let json = dhow.json(&["image", "diff", "--format", "json", "app:b", "app:a"]);
    assert_eq!(json["Files"].as_array().unwrap().len(), 5);
    dhow.try_run(&["image", "diff", "app:a", "nosuch"]).expect_error(1, "No such image");
}
