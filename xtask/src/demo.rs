//! `cargo xtask demo`: from a fresh checkout to running containers, with nothing left behind.

use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::binaries::{self, Profile};
use crate::{fixtures, shell};

pub fn run() -> Result<()> {
    shell::require_root("demo")?;
    let fixtures = fixtures::make()?;
    eprintln!("building release binaries (a few minutes the first time)");
    let programs = binaries::build(Profile::Release)?;

    let state = shell::target().join("demo");
    let socket = format!("unix://{}/dhow.sock", state.display());
    let dhow = programs.join("dhow");
    let say = |args: &[&str]| -> Result<()> {
        println!("\n$ dhow {}", args.join(" "));
        let mut command = shell::command(dhow.to_str().unwrap_or("dhow"), ["-H", &socket]);
        shell::run(command.args(args))
    };

    std::fs::create_dir_all(&state)?;
    if !shell::succeeds(&mut shell::command(dhow.to_str().unwrap_or("dhow"), ["-H", &socket, "version"])) {
        let log = std::fs::File::create(state.join("dhowd.log"))?;
        shell::command("setsid", ["--fork"])
            .arg(programs.join("dhowd"))
            .arg("--host")
            .arg(&socket)
            .arg("--data-root")
            .arg(state.join("data"))
            .arg("--exec-root")
            .arg(state.join("exec"))
            .arg("--pidfile")
            .arg(state.join("dhowd.pid"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?
            .wait()?;
        let mut tries = 0;
        while !shell::succeeds(&mut shell::command(dhow.to_str().unwrap_or("dhow"), ["-H", &socket, "version"])) {
            tries += 1;
            if tries > 100 {
                bail!("dhowd did not answer; its log is {}", state.join("dhowd.log").display());
            }
            sleep(Duration::from_millis(50));
        }
    }

    for (image, archive, cmd) in
        [("busybox:latest", "busybox.tar", "CMD [\"sh\"]"), ("debian:bookworm", "debian.tar", "CMD [\"bash\"]")]
    {
        let archive = fixtures.join(archive);
        say(&["import", "-c", cmd, "-c", fixtures::IMAGE_PATH, archive.to_str().unwrap_or_default(), image])?;
    }
    say(&["run", "--rm", "debian:bookworm", "cat", "/etc/os-release"])?;
    say(&["run", "--rm", "--memory", "64m", "busybox", "sh", "-c", "echo hello from $(hostname)"])?;
    let _ =
        shell::succeeds(&mut shell::command(dhow.to_str().unwrap_or("dhow"), ["-H", &socket, "rm", "-f", "demo-web"]));
    say(&[
        "run",
        "-d",
        "--name",
        "demo-web",
        "-p",
        "127.0.0.1:0:8000",
        "busybox",
        "sh",
        "-c",
        "echo '<h1>served by dhow</h1>' > /tmp/index.html; exec httpd -f -p 8000 -h /tmp",
    ])?;
    say(&["ps"])?;
    say(&["port", "demo-web"])?;
    say(&["exec", "demo-web", "wget", "-qO-", "http://127.0.0.1:8000/"])?;
    say(&["stats", "--no-stream", "demo-web"])?;
    say(&["rm", "-f", "demo-web"])?;

    println!(
        "\nThe daemon is still up. Try next:\n\n  export DOCKER_HOST={socket}\n  {dhow} run -it --rm debian:bookworm\n  \
         docker run --rm busybox echo hi        # Docker's own client works too\n  {dhow} images\n  {dhow} info\n\n\
         Stop it with: pkill -TERM -f 'dhowd --host {socket}'",
        dhow = dhow.display(),
    );
    Ok(())
}
