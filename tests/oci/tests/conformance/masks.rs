//! config-linux.md "Masked Paths" and "Readonly Paths", and `root.readonly`.

use oci_tests::{Bundle, Environment, Output, Runtime};
use serde_json::json;

use crate::refused_for;

fn run(bundle: Bundle, script: &str) -> Output {
    Runtime::new().run(&bundle.shell(script))
}

#[test]
fn masked_paths_cannot_be_read() {
    let Some(_) = Environment::get() else { return };
    let bundle = Bundle::new()
        .file("/etc/secret", "hidden\n", 0o644)
        .file("/srv/dir/file", "hidden\n", 0o644)
        .set("/linux/maskedPaths", json!(["/etc/secret", "/srv/dir", "/not/there", "/proc/kcore"]));
    let output = run(bundle, "cat /etc/secret; ls -A /srv/dir; head -c 10 /proc/kcore; test ! -e /not/there").ok();
    assert_eq!(output.stdout, "");
    // Nor does writing reach what is below.
    let bundle = Bundle::new().file("/srv/dir/file", "", 0o644).set("/linux/maskedPaths", json!(["/srv/dir"]));
    assert!(!run(bundle, "echo x > /srv/dir/new").success());
}

#[test]
fn read_only_paths_cannot_be_written() {
    let Some(_) = Environment::get() else { return };
    let bundle = Bundle::new()
        .file("/srv/dir/file", "kept\n", 0o644)
        .set("/linux/readonlyPaths", json!(["/srv/dir", "/etc/passwd", "/proc/sys", "/not/there"]));
    let output = run(
        bundle,
        "cat /srv/dir/file; for f in /srv/dir/file /srv/dir/new /etc/passwd /proc/sys/net/ipv4/ip_forward; do
         (echo 1 > $f) 2>/dev/null && echo written $f; done; true",
    )
    .ok();
    assert_eq!(output.stdout, "kept\n");
}

#[test]
fn paths_must_be_absolute() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    refused_for(runtime.run(&Bundle::new().set("/linux/maskedPaths", json!(["proc/x"]))), &["linux.maskedPaths[0]"]);
    refused_for(runtime.run(&Bundle::new().set("/linux/readonlyPaths", json!(["x"]))), &["linux.readonlyPaths[0]"]);
}

#[test]
fn the_root_is_read_only_where_it_is_to_be() {
    let Some(_) = Environment::get() else { return };
    let output = run(Bundle::new().set("/root/readonly", json!(true)), "touch /x; touch /dev/shm/y && echo elsewhere");
    assert_eq!(output.stdout, "elsewhere\n");
    assert!(output.stderr.contains("Read-only file system"), "{output}");
    let bundle = Bundle::new().set("/root/readonly", json!(false)).shell("touch /x");
    let _ = Runtime::new().run(&bundle).ok();
    assert!(bundle.path("/x").exists());
}
