//! config-linux.md "Rootfs Mount Propagation".

use oci_tests::{Bundle, Environment, Runtime};
use serde_json::json;

use crate::refused_for;

/// The propagation fields of the root in `/proc/PID/mountinfo`.
fn root(word: Option<&str>) -> String {
    let runtime = Runtime::new();
    let bundle = match word {
        Some(word) => Bundle::new().idle().set("/linux/rootfsPropagation", json!(word)),
        None => Bundle::new().idle(),
    };
    let container = runtime.start(&bundle);
    let text = container.proc("mountinfo");
    let line = text.lines().find(|line| line.split(' ').nth(4) == Some("/")).expect("the root").to_owned();
    line.split(" - ").next().unwrap_or_default().split(' ').skip(6).collect::<Vec<_>>().join(" ")
}

#[test]
fn the_root_propagates_as_it_is_to() {
    let Some(_) = Environment::get() else { return };
    assert_eq!(root(Some("private")), "");
    assert_eq!(root(Some("rprivate")), "");
    assert!(root(Some("shared")).contains("shared:"));
    assert!(root(Some("rshared")).contains("shared:"));
    assert!(!root(Some("slave")).contains("shared:"));
    assert!(!root(Some("rslave")).contains("shared:"));
    assert!(root(Some("unbindable")).contains("unbindable"));
    assert!(!root(None).contains("shared:"), "mounts of the container would reach the host");
    refused_for(
        Runtime::new().run(&Bundle::new().set("/linux/rootfsPropagation", json!("sideways"))),
        &["linux.rootfsPropagation", "sideways"],
    );
}

/// Whatever the propagation, a mount the container makes does not appear in the host's own directories.
#[test]
fn mounts_of_the_container_stay_in_it() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    for word in ["private", "slave", "shared"] {
        let capabilities = ["CAP_SYS_ADMIN"];
        let bundle = Bundle::new()
            .without_seccomp()
            .capabilities(&capabilities)
            .set("/linux/rootfsPropagation", json!(word))
            .shell("mount -t tmpfs inner /mnt && touch /mnt/seen && echo mounted; exec sleep 100000");
        let container = runtime.start(&bundle);
        oci_tests::eventually(30, "the mount", || container.proc("mountinfo").contains(" inner "));
        assert!(!bundle.path("/mnt/seen").exists() || word == "shared", "{word}");
        let own = std::fs::read_to_string("/proc/self/mountinfo").expect("one's own mounts");
        assert!(word == "shared" || !own.contains(" inner "), "{word}");
    }
}
