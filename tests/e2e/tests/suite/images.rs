//! Images: names, listing, history, archives.

use std::collections::BTreeSet;
use std::fs;

use e2e::Daemon;

#[test]
fn names_list_tag_history_remove() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    for client in daemon.clients() {
        client.run(&["tag", "busybox", "example.test/team/app:v1"]);
        let listed: BTreeSet<String> =
            client.run(&["images", "--format", "{{.Repository}}:{{.Tag}}"]).lines().map(str::to_owned).collect();
        assert!(listed.contains("busybox:latest") && listed.contains("example.test/team/app:v1"), "{listed:?}");
        let inspected = client.json(&["image", "inspect", "example.test/team/app:v1"]);
        assert_eq!(inspected[0]["Config"]["Cmd"], serde_json::json!(["sh"]));
        assert_eq!(inspected[0]["Os"], "linux");
        assert!(inspected[0]["Id"].as_str().unwrap().starts_with("sha256:"));
        assert!(client.run(&["history", "-q", "busybox"]).lines().count() >= 1);
        let removed = client.run(&["rmi", "example.test/team/app:v1"]);
        assert_eq!(removed, "Untagged: example.test/team/app:v1");
        client.try_run(&["rmi", "example.test/team/app:v1"]).expect_error(1, "No such image: example.test/team/app:v1");
    }
}

#[test]
fn an_image_in_use_is_not_removed() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    for client in daemon.clients() {
        client.run(&["create", "--name", "c1", "busybox"]);
        client.try_run(&["rmi", "busybox"]).expect_error(1, "conflict: unable to ");
        assert_eq!(client.run(&["images", "-q", "busybox"]).lines().count(), 1);
        client.run(&["rm", "c1"]);
    }
    daemon.docker().run(&["rmi", "busybox"]);
    assert_eq!(daemon.docker().run(&["images", "-aq"]), "");
    let blobs = daemon.data_root().join("content/blobs/sha256");
    assert_eq!(fs::read_dir(blobs).unwrap().count(), 0, "removal gives the disk back");
}

#[test]
fn save_and_load_go_round() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let dir = tempfile::tempdir().unwrap();
    for client in daemon.clients() {
        let archive = dir.path().join("saved.tar");
        let archive = archive.to_str().unwrap();
        client.run(&["tag", "busybox", "second:tag"]);
        client.run(&["save", "-o", archive, "busybox:latest", "second:tag"]);
        let before = client.json(&["image", "inspect", "busybox"])[0].clone();
        client.run(&["rmi", "busybox", "second:tag"]);
        let loaded = client.run(&["load", "-i", archive]);
        assert!(
            loaded.contains("Loaded image: busybox:latest") && loaded.contains("Loaded image: second:tag"),
            "{loaded}"
        );
        let after = client.json(&["image", "inspect", "busybox"])[0].clone();
        assert_eq!(before["Id"], after["Id"]);
        assert_eq!(before["RootFS"], after["RootFS"]);
        assert_eq!(client.run(&["run", "--rm", "second:tag", "echo", "alive"]), "alive");
        client.run(&["rmi", "second:tag"]);
    }
}

#[test]
fn archives_of_real_docker_and_skopeo_load() {
    let Some(daemon) = Daemon::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    daemon.twin().run(&["save", "-o", &path("docker.tar"), "busybox:latest"]);
    let skopeo = |target: String| {
        let source = format!("docker-archive:{}", path("docker.tar"));
        let status = std::process::Command::new("skopeo").args(["copy", "--quiet", &source, &target]).status();
        assert!(status.expect("skopeo runs").success());
    };
    skopeo(format!("oci-archive:{}:oci:1", path("oci.tar")));
    skopeo(format!("docker-archive:{}:legacy:1", path("legacy.tar")));
    for (archive, name) in [("docker.tar", "busybox:latest"), ("oci.tar", "oci:1"), ("legacy.tar", "legacy:1")] {
        for client in daemon.clients() {
            let loaded = client.run(&["load", "-i", &path(archive)]);
            assert!(loaded.contains("Loaded image"), "{loaded}");
            assert_eq!(client.run(&["run", "--rm", name, "echo", archive]), archive);
            client.run(&["rmi", name]);
        }
    }
    // And the other way: what we save, real docker runs.
    daemon.busybox();
    daemon.docker().run(&["tag", "busybox", "dhow-e2e-ours:1"]);
    daemon.docker().run(&["save", "-o", &path("ours.tar"), "dhow-e2e-ours:1"]);
    daemon.twin().run(&["load", "-i", &path("ours.tar")]);
    assert_eq!(daemon.twin().run(&["run", "--rm", "dhow-e2e-ours:1", "echo", "there"]), "there");
    daemon.twin().run(&["rmi", "dhow-e2e-ours:1"]);
}

#[test]
fn export_and_import_make_a_flat_image() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    for client in daemon.clients() {
        client.run(&["run", "--name", "c1", "busybox", "sh", "-c", "echo x > /mark"]);
        let tar = client.try_run(&["export", "c1"]);
        tar.expect_code(0);
        client
            .try_run_with(&["import", "-c", "CMD [\"cat\", \"/mark\"]", "-", "flat:1"], &tar.stdout_bytes)
            .expect_code(0);
        assert_eq!(client.run(&["run", "--rm", "flat:1"]), "x");
        client.run(&["rm", "c1"]);
        client.run(&["rmi", "flat:1"]);
    }
}

#[test]
fn compressed_root_file_systems_import() {
    let Some(daemon) = Daemon::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let source = daemon.environment.fixtures.join("busybox.tar");
    for (program, ending) in [("gzip", "gz"), ("xz", "xz"), ("bzip2", "bz2"), ("zstd", "zst")] {
        let packed = dir.path().join(format!("b.tar.{ending}"));
        let output = std::process::Command::new(program).arg("-c").arg(&source).output();
        let Ok(output) = output else { continue };
        fs::write(&packed, output.stdout).unwrap();
        let name = format!("packed:{ending}");
        daemon.docker().run(&["import", packed.to_str().unwrap(), &name]);
        assert_eq!(daemon.docker().run(&["run", "--rm", &name, "/bin/echo", "ok"]), "ok");
    }
}

#[test]
fn prune_takes_what_nobody_needs() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    for client in daemon.clients() {
        client.run(&["run", "--name", "gone", "busybox", "true"]);
        client.run(&["run", "-d", "--name", "stays", "busybox", "sleep", "100"]);
        client.run(&["run", "--name", "d1", "busybox", "sh", "-c", "echo > /x"]);
        client.run(&["commit", "d1"]);
        client.run(&["container", "prune", "-f"]);
        assert_eq!(client.run(&["ps", "-a", "--format", "{{.Names}}"]), "stays");
        client.run(&["image", "prune", "-f"]);
        assert_eq!(client.run(&["images", "-q"]).lines().count(), 1);
        client.run(&["volume", "create", "unused"]);
        client.run(&["volume", "prune", "-af"]);
        assert_eq!(client.run(&["volume", "ls", "-q"]), "");
        assert!(client.run(&["system", "df"]).contains("Images"));
        client.run(&["rm", "-f", "stays"]);
    }
}
