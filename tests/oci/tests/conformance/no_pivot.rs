//! `--no-pivot`, for hosts whose root is an initramfs: the root is moved and not pivoted into.

use oci_tests::{Bundle, Canary, Environment, Runtime};

#[test]
fn the_root_is_the_containers_without_a_pivot_too() {
    let Some(_) = Environment::get() else { return };
    let canary = Canary::new();
    let runtime = Runtime::new();
    let script = format!("ls /; cat {}/secret; cat /proc/self/mountinfo", canary.dir().display());
    let output = runtime.run_with(&Bundle::new().shell(&script), &["--no-pivot"]).ok();
    assert!(!output.stdout.contains(&canary.secret()), "{output}");
    assert!(output.stdout.lines().any(|line| line == "bin") && !output.stdout.contains("boot\n"), "{output}");
    // Nothing of the host's is mounted where the container could go.
    assert!(!output.stdout.contains(canary.dir().to_str().expect("UTF-8")), "{output}");
}

#[test]
fn an_exec_goes_into_the_same_root() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new().file("/mark", "here\n", 0o644).idle();
    let container = runtime.start_with(&bundle, &["--no-pivot"]);
    assert_eq!(container.exec(&["/bin/cat", "/mark"]).ok().stdout, "here\n");
    container.kill();
    container.delete();
}
