//! Figures of the shim, printed and not judged: `DHOW_SHIM_UNDER_TEST=… cargo test -p dhow-shim --test measure -- --ignored --nocapture`.
//! Only the release build's figures mean anything.
#![allow(clippy::print_stderr, reason = "the figures are the purpose")]

mod common;

use std::time::Instant;

use common::*;
use launch::*;

#[test]
#[ignore = "prints a figure"]
fn proportional_memory_while_idle() {
    let dir = tempfile::tempdir().unwrap();
    let Some(root) = rootfs(dir.path()) else { return };
    let plan = plan(dir.path(), &root, PIPES, &["sh", "-c", "seq 100000; sleep 1000"]);
    let shim = Shim::launch(dir, &plan, &[]);
    std::thread::sleep(std::time::Duration::from_secs(3));
    let text = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", shim.child.id())).unwrap();
    eprintln!("{text}");
}

#[test]
#[ignore = "prints a figure"]
fn time_of_an_exec() {
    let dir = tempfile::tempdir().unwrap();
    let Some(root) = rootfs(dir.path()) else { return };
    let plan = plan(dir.path(), &root, PIPES, &["sleep", "1000"]);
    let mut shim = Shim::launch(dir, &plan, &[]);
    let mut started = Vec::new();
    let mut whole = Vec::new();
    for number in 0..400 {
        let begin = Instant::now();
        let (response, stream) = shim.exec(&format!("e{number}"), process(&["true"]), PIPES, Streams::default());
        assert!(matches!(response, Response::ExecStarted { .. }), "{response:?}");
        started.push(begin.elapsed());
        drop(stream);
        shim.wait_event(|event| matches!(event, Event::ExecExited { .. }));
        whole.push(begin.elapsed());
    }
    started.sort();
    whole.sort();
    eprintln!("exec requested to started: least {:?}, median {:?}, p95 {:?}", started[0], started[200], started[380]);
    eprintln!("exec requested to ended: least {:?}, median {:?}, p95 {:?}", whole[0], whole[200], whole[380]);
}

#[test]
#[ignore = "prints a figure"]
fn time_from_request_to_exit() {
    let mut launch = Vec::new();
    let mut whole = Vec::new();
    for _ in 0..100 {
        let dir = tempfile::tempdir().unwrap();
        let Some(root) = rootfs(dir.path()) else { return };
        let plan = plan(dir.path(), &root, PIPES, &["true"]);
        let begin = Instant::now();
        let mut shim = Shim::launch(dir, &plan, &[]);
        launch.push(begin.elapsed());
        shim.wait();
        whole.push(begin.elapsed());
        shim.forget();
    }
    launch.sort();
    whole.sort();
    eprintln!("spawn of the shim to started: least {:?}, median {:?}, p95 {:?}", launch[0], launch[50], launch[95]);
    eprintln!("spawn of the shim to exit recorded: median {:?}, p95 {:?}", whole[50], whole[95]);
}

#[test]
#[ignore = "prints a figure"]
fn lines_a_second_into_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let Some(root) = rootfs(dir.path()) else { return };
    // 4 million lines of 100 bytes, cut from a file that stays in the page cache.
    let line = format!("{}\n", "x".repeat(99));
    std::fs::write(root.join("lines"), line.repeat(400_000)).unwrap();
    let script = "cat /lines /lines /lines /lines /lines /lines /lines /lines /lines /lines";
    let plan = plan(dir.path(), &root, PIPES, &["sh", "-c", script]);
    let begin = Instant::now();
    let mut shim = Shim::launch(dir, &plan, &[]);
    shim.wait();
    let seconds = begin.elapsed().as_secs_f64();
    let size = std::fs::metadata(shim.dir.path().join("json.log")).unwrap().len();
    eprintln!("4 million lines in {seconds:.2} s: {:.2} million lines/s, log of {size} bytes", 4.0 / seconds);
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", shim.child.id())).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    eprintln!("shim: user {} system {} hundredths of a second", fields[11], fields[12]);
    shim.forget();
}

#[test]
#[ignore = "prints a figure"]
fn bytes_a_second_to_a_client() {
    let dir = tempfile::tempdir().unwrap();
    let Some(root) = rootfs(dir.path()) else { return };
    let mut plan = plan(dir.path(), &root, PIPES, &["dd", "if=/dev/zero", "bs=65536", "count=32000"]);
    plan.log = LogConfig::None;
    let mut shim = Shim::start(dir);
    let mut client = shim.attach(false);
    shim.started(&plan, &[]);
    let begin = Instant::now();
    let len = std::io::copy(&mut client, &mut std::io::sink()).unwrap();
    let seconds = begin.elapsed().as_secs_f64();
    eprintln!("{len} bytes in {seconds:.2} s: {:.0} MB/s", len as f64 / seconds / 1e6);
    shim.wait();
    shim.forget();
}
