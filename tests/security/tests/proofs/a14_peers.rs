//! A14: processes of a container that look into those the runtime brings in. Without a user namespace a container with
//! `CAP_SYS_PTRACE` may trace whatever it sees, hidden or not, so nothing of the host may hang on what it sees:
//! neither its root nor its working directory nor a descriptor (the same way out as CVE-2016-9962).

use oci_tests::{Bundle, Canary, Environment, Runtime, eventually};
use security::Attack;

#[test]
fn execs_bring_nothing_of_the_host_into_sight_of_a_tracer() {
    let Some(environment) = Environment::get() else { return };
    let canary = Canary::new();
    let dir = canary.dir().to_str().expect("UTF-8");
    // The caller is in the canary's directory and has it open.
    let runtime = Runtime::new().wrapped(["bash", "-c", &format!("cd {dir}; exec 3<.; exec \"$0\" \"$@\"")]);
    let bundle = Attack::build("peer").into_bundle(Bundle::new(), "/peer").without_seccomp();
    let bundle =
        bundle.capabilities(&["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE", "CAP_KILL"]).args(&["/peer", dir, "/results"]);
    let container = runtime.start(&bundle);
    let results = || crate::text(&bundle.path("/results"));
    for _ in 0..environment.attempts(500) {
        let _ = container.exec(&["/bin/true"]);
    }
    eventually(30, "a process that was stopped", || {
        let _ = container.exec(&["/bin/true"]);
        results().contains("stopped")
    });
    let found = results();
    assert!(!found.contains("read ") && !found.contains(&canary.secret()), "a file of the host was read: {found}");
}
