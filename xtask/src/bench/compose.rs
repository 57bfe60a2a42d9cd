//! `docker compose up --detach --wait` and `down` of `examples/three-tier`, images present, beside a real dockerd.

use std::net::TcpListener;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use super::sample::Sample;
use super::side::{Row, Side, row};
use crate::peers::Peers;
use crate::{shell, three_tier};

const PROJECT: &str = "dhow-bench-three-tier";

/// Both sides are driven by the unmodified docker client.
pub fn rows(peers: &Peers, docker: &Side, dhow: &Side, rounds: usize) -> Result<Vec<Row>> {
    three_tier::make(peers)?;
    let images = shell::target().join("fixtures/three-tier.tar");
    dhow.run(&["load", "--quiet", "--input", images.to_str().context("the target directory's name is not UTF-8")?])?;
    let docker_on_dhowd = Side { client: docker.client.clone(), socket: dhow.socket.clone() };
    let (mut peer_up, mut peer_down, mut our_up, mut our_down) =
        (Sample::default(), Sample::default(), Sample::default(), Sample::default());
    // Below the directory for temporary files, which the peers' private root shares with the host.
    let scratch = tempfile::tempdir()?;
    let example = scratch.path().join("three-tier");
    shell::run(shell::command("cp", ["-R"]).arg(three_tier::directory()).arg(&example))?;
    let file = example.join("compose.yaml");
    let file = file.to_str().context("the directory for temporary files has a name that is not UTF-8")?;
    let compose = |side: &Side, args: &[&str]| compose(side, peers, file, args);
    eprintln!("measuring `docker compose up` and `down`");
    // A round that does not count comes first: it makes the database in the volume.
    for round in 0..=(rounds / 4).max(3) {
        for (side, up, down) in [(docker, &mut peer_up, &mut peer_down), (&docker_on_dhowd, &mut our_up, &mut our_down)]
        {
            let (mut first_up, mut first_down) = (Sample::default(), Sample::default());
            let (up, down) = if round == 0 { (&mut first_up, &mut first_down) } else { (up, down) };
            up.measure(|| compose(side, &["up", "--detach", "--wait"]))?;
            down.measure(|| compose(side, &["down"]))?;
        }
    }
    for side in [docker, &docker_on_dhowd] {
        compose(side, &["down", "--volumes"])?;
    }
    Ok(vec![
        row("`docker compose up --detach --wait` of three tiers, images and data present", 2.0, &peer_up, &our_up),
        row("`docker compose down` of the same", 2.0, &peer_down, &our_down),
    ])
}

fn compose(side: &Side, peers: &Peers, file: &str, args: &[&str]) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let publish = listener.local_addr()?.to_string();
    drop(listener);
    let words = [&["compose", "--progress", "quiet", "--project-name", PROJECT, "--file", file], args].concat();
    let mut command = side.command(&words);
    command.env("PUBLISH", publish).stdout(Stdio::null());
    let output = three_tier::with_compose(&mut command, peers)?.output().context("cannot run docker compose")?;
    ensure!(output.status.success(), "compose {} failed: {}", args.join(" "), String::from_utf8_lossy(&output.stderr));
    Ok(())
}
