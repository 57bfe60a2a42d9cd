//! Starting the daemon: its lock, its socket, its configuration.

use std::fs;
use std::process::Stdio;

use e2e::{Daemon, Environment};

#[test]
fn two_daemons_do_not_share_a_data_root() {
    let Some(daemon) = Daemon::start() else { return };
    let other = format!("unix://{}/other.sock", daemon.dir.path().display());
    let output = std::process::Command::new(daemon.environment.programs.join("dhowd"))
        .args(["--host", &other, "--bridge", "none"])
        .arg("--data-root")
        .arg(daemon.data_root())
        .arg("--exec-root")
        .arg(daemon.dir.path().join("exec2"))
        .output()
        .unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains(&daemon.pid().to_string()) && text.contains("data"), "{text}");
    // The same socket is refused as well.
    let output = daemon.program().stdout(Stdio::null()).output().unwrap();
    assert!(!output.status.success());
    assert_eq!(daemon.dhow().run(&["ps", "-q"]), "", "the first one is unharmed");
}

#[test]
fn a_stale_socket_is_replaced_and_a_file_is_not() {
    let Some(mut daemon) = Daemon::start() else { return };
    daemon.kill();
    assert!(daemon.socket_path().exists(), "a killed daemon leaves its socket");
    daemon.launch();
    daemon.stop();
    assert!(!daemon.socket_path().exists(), "a stopped one takes it away");
    fs::write(daemon.socket_path(), "precious").unwrap();
    let output = daemon.program().output().unwrap();
    assert!(!output.status.success());
    assert_eq!(fs::read_to_string(daemon.socket_path()).unwrap(), "precious");
    fs::remove_file(daemon.socket_path()).unwrap();
}

#[test]
fn configuration_is_never_silently_misread() {
    let Some(environment) = Environment::get() else { return };
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("daemon.json");
    let run = |text: &str, flags: &[&str]| {
        fs::write(&config, text).unwrap();
        let output = std::process::Command::new(environment.programs.join("dhowd"))
            .arg("--config-file")
            .arg(&config)
            .args(["--host", &format!("unix://{}/x.sock", dir.path().display())])
            .arg("--exec-root")
            .arg(dir.path().join("exec"))
            .args(flags)
            .output()
            .unwrap();
        assert!(!output.status.success(), "{text} was accepted");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(run("{", &[]).contains("daemon.json"));
    assert!(run("{\"no-such-key\": 1}", &[]).contains("no-such-key"));
    assert!(run("{\"data-root\": 7}", &[]).contains("data-root"));
    let both = run("{\"data-root\": \"/x\"}", &["--data-root", "/y"]);
    assert!(both.contains("data-root"), "{both}");
    assert!(run("{}", &["--no-such-flag"]).contains("no-such-flag"));
}

#[test]
fn version_and_info_tell_who_we_are() {
    let Some(daemon) = Daemon::start() else { return };
    for client in daemon.clients() {
        assert_eq!(client.run(&["version", "--format", "{{.Server.APIVersion}}"]), "1.55");
        let info = client.json(&["info", "--format", "{{json .}}"]);
        assert_eq!(info["Driver"], "overlayfs");
        assert_eq!(info["OSType"], "linux");
        assert_eq!(info["LiveRestoreEnabled"], true);
        assert_eq!(info["Swarm"]["LocalNodeState"], "inactive");
    }
}

#[test]
fn dhow_starts_the_daemon_on_demand() {
    let Some(environment) = Environment::get() else { return };
    // In a mount namespace of its own, so that the default places are this test's alone.
    let script = format!(
        "mount -t tmpfs tmpfs /run && mkdir -p /var/lib/dhow && mount -t tmpfs -o mode=700 tmpfs /var/lib/dhow && \
         {dhow} import {busybox} busybox >/dev/null && {dhow} run --rm --network none busybox echo on demand; code=$?; \
         kill -TERM $(pgrep -x dhowd --ns $$ --nslist mnt); sleep 0.5; exit $code",
        dhow = environment.programs.join("dhow").display(),
        busybox = environment.fixtures.join("busybox.tar").display(),
    );
    let output = std::process::Command::new("unshare")
        .args(["--mount", "--net", "sh", "-c", &script])
        .env_remove("DOCKER_HOST")
        .env("HOME", environment.fixtures.join("nohome"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.ends_with("on demand\n"),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
