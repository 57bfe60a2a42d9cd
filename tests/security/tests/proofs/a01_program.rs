//! A1: the container executes or opens the runtime's own program through `/proc/PID/exe` and writes to it
//! (CVE-2019-5736). The program under attack is a copy, so that a runtime that loses is lost to this test alone.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use oci_tests::{Bundle, Canary, Environment, Runtime};
use rustix::fs::{MemfdFlags, SealFlags, StatVfsMountFlags};
use security::{Attack, Bits};
use tempfile::TempDir;

use crate::{REFUSALS, text};

/// A copy of the runtime's program in a directory of its own.
fn victim() -> (TempDir, PathBuf) {
    let program = &Environment::get().expect("a runtime").runtime;
    let dir = tempfile::tempdir().expect("a directory");
    let copy = dir.path().join(program.file_name().expect("a name"));
    oci_tests::copy_program(program, &copy);
    (dir, copy)
}

/// A bundle that attacks: a shell that is whatever executes it, and where that looks for its loader, one that keeps the
/// program open and leaves it idle.
fn bundle(victim: &Path) -> Bundle {
    let bundle = Attack::build("overwrite").into_bundle(Bundle::new(), "/overwrite");
    let bundle = bundle.file("/bin/evil", "#!/proc/self/exe\n", 0o755);
    match interpreter(victim) {
        Some(loader) => Attack::build_bare("loader", Bits::B64).into_bundle(bundle, &loader),
        // Linked statically: there is only the moment in which it runs.
        None => bundle,
    }
}

/// The path of the dynamic loader that an ELF file names.
fn interpreter(program: &Path) -> Option<String> {
    let bytes = fs::read(program).expect("the runtime's program");
    let number = |at: usize, len: usize| bytes[at..at + len].iter().rev().fold(0usize, |n, b| n << 8 | usize::from(*b));
    // Elf64_Ehdr: e_phoff at 32, e_phentsize at 54, e_phnum at 56 (elf(5)).
    let (start, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    let header = (0..count).map(|at| start + at * size).find(|at| number(*at, 4) == 3)?;
    let (offset, len) = (number(header + 8, 8), number(header + 32, 8));
    Some(String::from_utf8_lossy(&bytes[offset..offset + len]).trim_end_matches('\0').to_owned())
}

/// The attack got hold of the program, and everything it met then was a refusal.
#[track_caller]
fn assert_refused(results: &str) {
    let met: BTreeSet<&str> = results.lines().collect();
    eprintln!("the attack met {met:?}");
    assert!(met.contains("handle 0"), "the attack never got hold of the runtime's program");
    for line in met.iter().filter(|line| !line.starts_with("handle") && !line.starts_with("done")) {
        let errno = line.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0);
        assert!(REFUSALS.contains(&errno), "an attempt to write to the runtime's program met {line:?}");
    }
}

/// Execs into a container that looks for the runtime's program without pause; gives what the attack has met.
fn exec_into(bundle: impl FnOnce(&Path) -> Bundle) -> String {
    let Some(environment) = Environment::get() else { return String::new() };
    let (_dir, program) = victim();
    let before = fs::read(&program).expect("the program");
    let _canary = Canary::watching(&[&program]);
    let runtime = Runtime::with_program(&program);
    let bundle = bundle(&program);
    let container = runtime.start(&bundle);
    for attempt in 0..environment.attempts(500) {
        let evil = container.exec(&["/bin/evil", "features"]);
        if attempt == 0 {
            eprintln!("{evil}");
        }
        assert!(!evil.success() && !evil.stdout.contains("ociVersion"), "the runtime was executed: {evil}");
        // In the pause nothing of the runtime runs, so that its program is not busy.
        std::thread::sleep(Duration::from_millis(60));
    }
    let results = format!("{}{}", text(&bundle.path("/loop")), text(&bundle.path("/result")));
    drop(container);
    assert!(fs::read(&program).expect("the program") == before, "the runtime's program was overwritten");
    results
}

/// A hold on the program is enough to keep others from executing it, for moments, by asking to write to it.
#[test]
fn execs_give_no_hold_on_the_runtime() {
    let Some(_) = Environment::get() else { return };
    let results = exec_into(|program| bundle(program).args(&["/overwrite", "/loop"]));
    assert_eq!(results, "looking 0\n", "the attack got hold of the runtime's program");
}

/// Who may trace every process gets hold of an exec's program all the same, and finds it closed.
#[test]
fn execs_cannot_overwrite_the_runtime() {
    let Some(_) = Environment::get() else { return };
    let tracer = |program: &Path| bundle(program).args(&["/overwrite", "/loop"]).capabilities(&["CAP_SYS_PTRACE"]);
    assert_refused(&exec_into(tracer).replace("looking 0\n", ""));
}

#[test]
fn starts_give_no_hold_on_the_runtime() {
    let Some(environment) = Environment::get() else { return };
    let (_dir, program) = victim();
    let before = fs::read(&program).expect("the program");
    let _canary = Canary::watching(&[&program]);
    let runtime = Runtime::with_program(&program);
    // The first process is the attack, what it leaves running goes on: the pid namespace is the host's.
    let bundle = bundle(&program).args(&["/bin/evil", "features"]).without_namespace("pid");
    for _ in 0..environment.attempts(100) {
        let run = runtime.run_with(&bundle, &["--detach"]);
        assert!(!run.success(), "the runtime was executed: {run}");
        std::thread::sleep(Duration::from_millis(60));
        let _ = runtime.call(&["delete", "--force", bundle.id()]);
        runtime.prepare(&bundle);
        if runtime.finish(runtime.command_on("create", &bundle, &[])).success() {
            let start = runtime.call(&["start", bundle.id()]);
            assert!(!start.success(), "the runtime was executed: {start}");
        }
        std::thread::sleep(Duration::from_millis(60));
        let _ = runtime.call(&["delete", "--force", bundle.id()]);
    }
    assert_eq!(text(&bundle.path("/result")), "", "the attack got hold of the runtime's program");
    drop(runtime);
    assert!(fs::read(&program).expect("the program") == before, "the runtime's program was overwritten");
}

/// Between `create` and `start` the process in the container executes the runtime's program: from a read-only mount or
/// a sealed memory file.
#[test]
fn the_waiting_process_executes_what_nobody_can_write_to() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new();
    let container = runtime.create(&bundle);
    let file = fs::File::open(format!("/proc/{}/exe", container.pid())).expect("the program of the waiting process");
    let readonly = rustix::fs::fstatvfs(&file).is_ok_and(|fs| fs.f_flag.contains(StatVfsMountFlags::RDONLY));
    let sealed = rustix::fs::fcntl_get_seals(&file).is_ok_and(|seals| seals.contains(SealFlags::WRITE));
    assert!(readonly || sealed, "the program can be written to through /proc/{}/exe", container.pid());
    // The two must be told apart from any other file.
    let plain = rustix::fs::memfd_create("plain", MemfdFlags::ALLOW_SEALING).expect("a memory file");
    assert!(!rustix::fs::fcntl_get_seals(&plain).is_ok_and(|seals| seals.contains(SealFlags::WRITE)));
}
