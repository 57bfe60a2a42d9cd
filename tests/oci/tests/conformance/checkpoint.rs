//! checkpoint and restore through CRIU, where there is one; and what is refused without asking it.

use std::fs;

use oci_tests::{Bundle, Console, Environment, Runtime, eventually};

use crate::refused_for;

/// Whether criu is there and works on this kernel.
fn has_criu() -> bool {
    let check = std::process::Command::new("criu").arg("check").output();
    let works = check.is_ok_and(|output| output.status.success());
    if !works {
        eprintln!("left out: there is no criu on PATH that works on this kernel");
    }
    works
}

/// Counts into a file of a directory, which goes on counting after a restore.
fn counter() -> Bundle {
    Bundle::new().without_seccomp().shell("i=0; while :; do i=$((i + 1)); echo $i > /count; sleep 0.05; done")
}

fn count(bundle: &Bundle) -> u64 {
    fs::read_to_string(bundle.path("/count")).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

#[test]
fn a_container_goes_on_where_it_was() {
    let Some(_) = Environment::get() else { return };
    if !has_criu() {
        return;
    }
    let runtime = Runtime::new();
    let bundle = counter();
    let images = tempfile::tempdir().expect("a directory");
    let path = images.path().to_str().expect("UTF-8");
    let mut command = {
        runtime.prepare(&bundle);
        runtime.command_on("run", &bundle, &["--detach"])
    };
    // What the container writes to must be there again.
    command.stdin(std::process::Stdio::null());
    let mut words = vec!["-c".to_owned(), "exec \"$@\" >/dev/null 2>&1 </dev/null".to_owned(), "sh".to_owned()];
    words.push(command.get_program().to_string_lossy().into_owned());
    words.extend(command.get_args().map(|arg| arg.to_string_lossy().into_owned()));
    let mut shell = std::process::Command::new("sh");
    shell.args(words);
    let _ = runtime.finish(shell).ok();
    eventually(30, "a count", || count(&bundle) > 5);
    let output = runtime.call(&["checkpoint", "--image-path", path, bundle.id()]);
    assert!(output.success(), "{output}\n{}", fs::read_to_string(images.path().join("dump.log")).unwrap_or_default());
    refused_for(runtime.call(&["state", bundle.id()]), &["does not exist"]);
    let before = count(&bundle);
    let flags = ["--detach", "--image-path", path];
    let output = runtime.finish(runtime.command_on("restore", &bundle, &flags));
    assert!(
        output.success(),
        "{output}\n{}",
        fs::read_to_string(images.path().join("restore.log")).unwrap_or_default()
    );
    eventually(30, "a higher count", || count(&bundle) > before + 3);
    assert!(runtime.call(&["state", bundle.id()]).ok().stdout.contains("\"running\""));
    let _ = runtime.call(&["delete", "--force", bundle.id()]).ok();
}

#[test]
fn what_cannot_be_saved_is_refused_by_name() {
    let Some(environment) = Environment::get() else { return };
    if !environment.is_ours() {
        return;
    }
    let (runtime, console) = (Runtime::new(), Console::new());
    let bundle = Bundle::new().terminal().idle();
    let container = runtime.start_on(&bundle, &console);
    let _terminal = console.receive();
    refused_for(runtime.call(&["checkpoint", container.id()]), &["terminal"]);
    assert_eq!(container.status(), "running");
    let bundle = Bundle::new().idle();
    let container = runtime.start(&bundle);
    refused_for(runtime.call(&["checkpoint", "--lazy-pages", container.id()]), &["lazy-pages"]);
    refused_for(
        runtime.call(&["checkpoint", "--manage-cgroups-mode", "some", container.id()]),
        &["manage-cgroups-mode"],
    );
    refused_for(runtime.call(&["checkpoint", "--empty-ns", "uts", container.id()]), &["empty-ns"]);
    container.kill();
    refused_for(runtime.call(&["checkpoint", container.id()]), &["stopped"]);
}

#[test]
fn without_criu_the_container_goes_on() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new().idle();
    let container = runtime.start(&bundle);
    let images = tempfile::tempdir().expect("a directory");
    let mut command =
        runtime.command(&["checkpoint", "--image-path", images.path().to_str().expect("UTF-8"), container.id()]);
    command.env("PATH", "/nowhere");
    refused_for(runtime.finish(command), &["criu"]);
    assert_eq!(container.status(), "running");
}
