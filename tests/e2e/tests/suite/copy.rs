//! `cp` both ways.

use std::fs;

use e2e::Daemon;

#[test]
fn files_and_trees_go_in_and_out() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    for client in daemon.clients() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        fs::create_dir_all(at("tree/sub")).unwrap();
        fs::write(at("tree/sub/file"), "content").unwrap();
        std::os::unix::fs::symlink("sub/file", at("tree/link")).unwrap();
        for running in [true, false] {
            client.run(&[
                "run",
                "-d",
                "--name",
                "c1",
                "busybox",
                "sh",
                "-c",
                "mkdir -p /data; ln -s /data /alias; sleep 1000",
            ]);
            crate::eventually(20, "the link", || client.try_run(&["exec", "c1", "test", "-e", "/alias"]).code == 0);
            if !running {
                client.run(&["stop", "-t", "0", "c1"]);
            }
            client.run(&["cp", &at("tree"), "c1:/data/"]);
            client.run(&["cp", &at("tree/sub/file"), "c1:/alias/renamed"]);
            let out = at(if running { "out-running" } else { "out-stopped" });
            client.run(&["cp", "c1:/data/.", &out]);
            assert_eq!(fs::read_to_string(format!("{out}/tree/sub/file")).unwrap(), "content");
            assert_eq!(fs::read_link(format!("{out}/tree/link")).unwrap().to_str(), Some("sub/file"));
            assert_eq!(fs::read_to_string(format!("{out}/renamed")).unwrap(), "content");
            client
                .try_run(&["cp", "c1:/nowhere", &out])
                .expect_error(1, "Could not find the file /nowhere in container c1");
            client.run(&["rm", "-f", "c1"]);
        }
    }
}

#[test]
fn a_stream_goes_through_standard_output_and_input() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    for client in daemon.clients() {
        client.run(&["create", "--name", "c1", "busybox"]);
        let archive = client.try_run(&["cp", "c1:/etc", "-"]);
        archive.expect_code(0);
        client.try_run_with(&["cp", "-", "c1:/tmp"], &archive.stdout_bytes).expect_code(0);
        let listing = client.try_run(&["cp", "c1:/tmp/etc/passwd", "-"]);
        assert!(listing.stdout.contains("root:x:0:0"), "{listing:?}");
        client.run(&["rm", "c1"]);
    }
}

#[test]
fn volumes_and_read_only_mounts_are_seen() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let docker = daemon.docker();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("inside"), "from the host").unwrap();
    let bind = format!("{}:/mnt/host:ro", dir.path().display());
    for running in [true, false] {
        docker.run(&[
            "run",
            "-d",
            "--name",
            "c1",
            "-v",
            &bind,
            "-v",
            "vol:/vol",
            "busybox",
            "sh",
            "-c",
            "echo kept > /vol/file; sleep 1000",
        ]);
        crate::eventually(5, "the file in the volume", || {
            docker.try_run(&["exec", "c1", "cat", "/vol/file"]).code == 0
        });
        if !running {
            docker.run(&["stop", "-t", "0", "c1"]);
        }
        let out = tempfile::tempdir().unwrap();
        let target = out.path().to_str().unwrap();
        docker.run(&["cp", "c1:/mnt/host/inside", target]);
        docker.run(&["cp", "c1:/vol/file", target]);
        assert_eq!(fs::read_to_string(out.path().join("inside")).unwrap(), "from the host");
        assert_eq!(fs::read_to_string(out.path().join("file")).unwrap(), "kept\n");
        let refused = docker.try_run(&["cp", &format!("{target}/file"), "c1:/mnt/host/new"]);
        assert_ne!(refused.code, 0, "a read-only mount takes no files");
        assert!(!dir.path().join("new").exists());
        docker.run(&["rm", "-f", "c1"]);
    }
}

#[test]
fn links_in_a_container_lead_nowhere_outside() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let docker = daemon.docker();
    let canary = tempfile::tempdir().unwrap();
    fs::write(canary.path().join("secret"), "host").unwrap();
    let host = canary.path().to_str().unwrap();
    for running in [true, false] {
        docker.run(&[
            "run",
            "-d",
            "--name",
            "c1",
            "busybox",
            "sh",
            "-c",
            &format!("ln -s {host} /escape; ln -s ../../../../../..{host} /up; sleep 1000"),
        ]);
        crate::eventually(5, "the links", || docker.try_run(&["exec", "c1", "readlink", "/up"]).code == 0);
        if !running {
            docker.run(&["stop", "-t", "0", "c1"]);
        }
        let out = tempfile::tempdir().unwrap();
        for path in ["c1:/escape/secret", "c1:/up/secret"] {
            assert_ne!(docker.try_run(&["cp", path, out.path().to_str().unwrap()]).code, 0);
        }
        let new = out.path().join("new");
        fs::write(&new, "x").unwrap();
        let _ = docker.try_run(&["cp", new.to_str().unwrap(), "c1:/escape/new"]);
        let _ = docker.try_run(&["cp", new.to_str().unwrap(), "c1:/up/new"]);
        assert_eq!(fs::read_dir(canary.path()).unwrap().count(), 1, "nothing was written on the host");
        docker.run(&["rm", "-f", "c1"]);
    }
}
