//! A5: `/dev/console` bound from or to what an attacker exchanged for the terminal (CVE-2025-52565).

use std::fs;
use std::os::unix::fs::symlink;

use oci_tests::{Bundle, Canary, Console, Environment, MountLine, Runtime};
use security::Swapper;
use serde_json::json;

use crate::{fill_dev, mount_lines};

/// Starts the bundle and gives what it printed on its terminal; none when the start was refused.
fn talk(runtime: &Runtime, bundle: &Bundle) -> Option<String> {
    let console = Console::new();
    let output = runtime.run_with(bundle, &["--detach", "--console-socket", console.path()]);
    if !output.success() {
        let _ = output.refused();
        return None;
    }
    let text = console.receive().rest();
    let _ = runtime.call(&["delete", "--force", bundle.id()]).ok();
    Some(text)
}

#[test]
fn the_console_is_the_terminal() {
    let Some(_) = Environment::get() else { return };
    let _canary = Canary::new();
    let runtime = Runtime::new();
    let bundle = Bundle::new().terminal().shell(
        "stat -f -c 'console %T' /dev/console; stat -c 'device %t' /dev/console; stat -L -f -c 'stdin %T' /proc/self/fd/0; tty",
    );
    let text = talk(&runtime, &bundle).expect("a start that nobody disturbs");
    for line in ["console devpts", "device 88", "stdin devpts", "/dev/pts/0"] {
        assert!(text.contains(line), "{line:?} is not in {text:?}");
    }
}

/// An image whose `/dev/console` is a link, or anything else.
#[test]
fn consoles_of_the_image_are_not_followed_out() {
    let Some(_) = Environment::get() else { return };
    let canary = Canary::new();
    let runtime = Runtime::new();
    let secret = canary.dir().join("secret");
    for target in [
        secret.display().to_string(),
        format!("../../../../../../../..{}", secret.display()),
        "/proc/sysrq-trigger".to_owned(),
    ] {
        // The image's own /dev, not covered by a new one.
        let bundle = Bundle::new().without_mount("/dev").terminal().link("/dev/console", &target);
        fill_dev(&bundle.path("/dev"));
        let bundle = bundle.shell("cat /proc/self/mountinfo; echo end");
        if let Some(text) = talk(&runtime, &bundle) {
            assert_terminal(&mount_lines(&text), &text);
        }
    }
}

/// The volume that is `/dev` is shared with an attacker, who exchanges `pts` with a directory of links, or `console`
/// with a link, to what the host would be hurt by.
#[test]
fn terminals_in_motion_are_bound_from_and_to_nothing_else() {
    let Some(environment) = Environment::get() else { return };
    let canary = Canary::new();
    let runtime = Runtime::new();
    // Each start looks the name in motion up twice: for the mount, and for the terminal.
    let attempts = environment.attempts(2000) / 4;
    for (name, other) in [("pts", "links"), ("console", "link")] {
        let volume = tempfile::tempdir().expect("a volume");
        let at = |name: &str| volume.path().join(name);
        fill_dev(volume.path());
        fs::create_dir(at("links")).expect("a directory");
        for number in 0..4 {
            symlink("/proc/sys/kernel/core_pattern", at("links").join(number.to_string())).expect("a link");
        }
        symlink("/proc/sys/kernel/core_pattern", at("link")).expect("a link");
        fs::write(at("console"), "").expect("a file");
        let bundle = Bundle::new()
            .set(
                "/mounts/1",
                json!({ "destination": "/dev", "type": "bind", "source": volume.path(), "options": ["bind"] }),
            )
            .terminal()
            .shell("cat /proc/self/mountinfo; echo end");
        let _swapper = Swapper::start(&at(name), &at(other));
        let mut started = 0;
        for _ in 0..attempts {
            if let Some(text) = talk(&runtime, &bundle) {
                assert_terminal(&mount_lines(&text), &text);
                started += 1;
            }
        }
        eprintln!("{name}: {started} of {attempts} started");
        assert!(started > 0, "no container started: nothing was raced");
    }
    drop(canary);
}

/// One terminal is mounted by itself, in `/dev`, and no file of the kernel is mounted anywhere but where a mask or a
/// lock belongs.
#[track_caller]
fn assert_terminal(mounts: &[MountLine], text: &str) {
    let single = |mount: &&MountLine| mount.fstype == "devpts" && mount.root != "/";
    let terminals: Vec<&str> = mounts.iter().filter(single).map(|mount| mount.target.as_str()).collect();
    // Its name is what the exchange has made of it meanwhile.
    assert!(matches!(*terminals, [target] if target.starts_with("/dev/")), "terminals at {terminals:?}: {text}");
    for mount in mounts.iter().filter(|mount| mount.fstype == "proc" && mount.root != "/") {
        assert_eq!(mount.target, format!("/proc{}", mount.root), "a file of the kernel is elsewhere: {text}");
        assert!(mount.is_readonly(), "a file of the kernel can be written to: {text}");
    }
}
