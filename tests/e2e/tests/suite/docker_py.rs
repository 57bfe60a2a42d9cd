//! docker-py from PyPI, in a virtual environment of its own.

use std::path::PathBuf;
use std::process::Command;

use e2e::Daemon;

/// A Python with `docker` installed; made once and kept beside the fixtures.
fn python(daemon: &Daemon) -> PathBuf {
    let home = daemon.environment.fixtures.join("docker-py");
    let python = home.join("bin/python");
    if !home.join("ready").exists() {
        let run = |command: &mut Command| assert!(command.status().expect("python3 runs").success(), "{command:?}");
        run(Command::new("python3").args(["-m", "venv"]).arg(&home));
        run(Command::new(&python).args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "docker==7.2.0",
        ]));
        std::fs::write(home.join("ready"), "").unwrap();
    }
    python
}

#[test]
fn docker_py_drives_us() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let script = include_str!("docker_py.py");
    let output = Command::new(python(&daemon)).args(["-c", script]).env("DOCKER_HOST", daemon.host()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.ends_with("all good\n"),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
