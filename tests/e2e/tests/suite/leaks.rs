//! What comes goes again.

use e2e::Daemon;
use e2e::leaks::{census, descriptors};

use crate::eventually;

#[test]
fn two_hundred_cycles_leave_nothing() {
    let Some(daemon) = Daemon::with_network() else { return };
    daemon.busybox();
    let docker = daemon.docker();
    let cycles = if daemon.environment.long { 200 } else { 10 };
    let cycle = |number: usize| {
        let name = format!("cycle{number}");
        docker.run(&["create", "--name", &name, "-p", "127.0.0.1::80", "-v", "/data", "busybox", "sleep", "1000"]);
        docker.run(&["start", &name]);
        docker.run(&["exec", &name, "true"]);
        docker.run(&["stop", "-t", "0", &name]);
        docker.run(&["rm", "-v", &name]);
    };
    // The first rounds fill caches and pools.
    (0..5).for_each(cycle);
    std::thread::sleep(std::time::Duration::from_millis(500));
    let before = census(&daemon);
    let open = descriptors(&daemon);
    (0..cycles).for_each(cycle);
    let mut last = census(&daemon);
    let settled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        eventually(15, "the baseline", || {
            last = census(&daemon);
            last == before
        });
    }));
    assert!(settled.is_ok(), "before: {before:?}\nafter {cycles} cycles: {last:?}");
    let now = descriptors(&daemon);
    assert!(now <= open + 8, "descriptors grew from {open} to {now} in {cycles} cycles");
}
