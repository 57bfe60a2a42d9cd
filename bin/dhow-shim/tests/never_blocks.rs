//! A container goes on writing whatever becomes of its log: full disk, limits, a path that is no file.
//! Needs root and `/bin/busybox`; says so and passes where they are missing.

mod common;

use std::path::Path;
use std::process::Command;

use common::*;
use launch::*;

/// Moves this test, and the shims it starts, into mounts of their own.
fn unshare_mounts() {
    sys::clone::unshare(sys::clone::flags::NEWNS).unwrap();
    sys::mount::make_all_private().unwrap();
}

fn mount(args: &[&str], at: &Path) {
    std::fs::create_dir_all(at).unwrap();
    assert!(Command::new("mount").args(args).arg(at).status().unwrap().success());
}

fn log_path(plan: &mut LaunchPlan) -> &mut String {
    match &mut plan.log {
        LogConfig::JsonFile { path, .. } => path,
        LogConfig::None => unreachable!(),
    }
}

/// Texts of the log's lines, and how many lines it says were dropped.
fn read_log(path: &Path) -> (Vec<String>, u64) {
    let mut dropped = 0;
    let mut texts = Vec::new();
    for line in std::fs::read_to_string(path).unwrap().lines() {
        let text = line.strip_prefix("{\"log\":\"").unwrap_or_else(|| panic!("a torn line: {line}"));
        assert!(line.ends_with("Z\"}"), "a torn line: {line}");
        let text = text.split("\\n").next().unwrap();
        match text.strip_prefix("dhow: ").and_then(|rest| rest.strip_suffix(" lines dropped")) {
            Some(count) => dropped += count.parse::<u64>().unwrap(),
            None => texts.push(text.to_owned()),
        }
    }
    (texts, dropped)
}

#[test]
fn a_full_file_system_costs_lines_and_they_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let Some(root) = rootfs(dir.path()) else { return };
    unshare_mounts();
    for (max_size, max_files) in [(0, 1), (30_000, 2)] {
        let small = dir.path().join(format!("small-{max_files}"));
        mount(&["-t", "tmpfs", "-o", "size=256k", "tmpfs"], &small);
        let filler = small.join("filler");
        std::fs::write(&filler, vec![0u8; 160 * 1024]).unwrap();

        let own = tempfile::tempdir_in(dir.path()).unwrap();
        std::fs::create_dir(own.path().join("run")).unwrap();
        let mut plan = plan(own.path(), &root, PIPES_STDIN, &["sh"]);
        let path = small.join("log");
        path.to_str().unwrap().clone_into(log_path(&mut plan));
        let LogConfig::JsonFile { max_size: size, max_files: files, .. } = &mut plan.log else { unreachable!() };
        (*size, *files) = (max_size, max_files);
        let mut shim = Shim::start(own);
        let mut client = shim.attach(true);
        shim.started(&plan, &[]);

        // A megabyte into less than a hundred kilobytes.
        say(&mut client, "seq 20000; echo written\n");
        read_until(&mut client, "written\n");
        let (Response::State(state), _) = shim.request(Request::State, &[]) else { panic!() };
        assert_eq!(state.log_dropped_lines > 0, max_size == 0, "rotation makes room of its own: {state:?}");
        // Nothing at all is left, not even for a new file.
        let _ = std::fs::write(small.join("more"), vec![0u8; 256 * 1024]);
        say(&mut client, "seq 20000; echo again\n");
        read_until(&mut client, "again\n");
        std::fs::remove_file(&filler).unwrap();
        std::fs::remove_file(small.join("more")).unwrap();
        say(&mut client, "echo resumed; exit 3\n");
        assert_eq!(shim.wait().code, 3);
        let (Response::State(state), _) = shim.request(Request::State, &[]) else { panic!() };
        let (texts, dropped) = read_log(&path);
        assert_eq!(texts.last().unwrap(), "resumed");
        assert!(dropped > 0 && state.log_dropped_lines > 0);
        if max_size == 0 {
            // Every line is either there or counted, once.
            assert_eq!(texts.len() as u64 + dropped, 2 * 20_001 + 1);
            assert_eq!(dropped, state.log_dropped_lines);
        }
        shim.forget();
    }
}

#[test]
fn a_limit_on_files_is_no_end_of_the_shim() {
    let dir = tempfile::tempdir().unwrap();
    let Some(root) = rootfs(dir.path()) else { return };
    let plan = plan(dir.path(), &root, PIPES, &["sh", "-c", "seq 20000; sleep 1; seq 20000"]);
    let mut shim = Shim::start(dir);
    // RLIMIT_FSIZE
    sys::process::set_rlimit_of(i32::try_from(shim.child.id()).unwrap(), 1, 100_000, 100_000).unwrap();
    shim.started(&plan, &[]);
    assert_eq!(shim.wait().code, 0);
    let (texts, _) = read_log(&shim.dir.path().join("json.log"));
    let (Response::State(state), _) = shim.request(Request::State, &[]) else { panic!() };
    assert_eq!(texts.len() as u64 + state.log_dropped_lines, 40_000);
    shim.forget();
}

#[test]
fn a_log_that_is_no_regular_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let Some(_) = rootfs(dir.path()) else { return };
    let fifo = dir.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let terminal = Path::new("/dev/null");
    // Somebody reads, so that opening alone would succeed.
    let _reader = std::fs::OpenOptions::new().read(true).write(true).open(&fifo).unwrap();
    for path in [&fifo, terminal] {
        let dir = tempfile::tempdir().unwrap();
        let root = rootfs(dir.path()).unwrap();
        let mut plan = plan(dir.path(), &root, PIPES, &["true"]);
        path.to_str().unwrap().clone_into(log_path(&mut plan));
        let response = Shim::start(dir).try_launch(&plan, &[]);
        assert!(matches!(response, Response::Failed { stage: FailureStage::Log, .. }), "{path:?}: {response:?}");
    }
}
