//! A4: masked and read-only paths laid bare, by exchanging what the runtime hides them with or where it finds them
//! (CVE-2025-31133, CVE-2025-62161).

use std::os::unix::fs::symlink;
use std::path::Path;

use oci_tests::{Bundle, Canary, Container, Environment, MASKED_PATHS, Output, READONLY_PATHS, Runtime, eventually};
use security::Swapper;
use serde_json::json;

use crate::{SHOW_MOUNTS, assert_inside, fill_dev, started_or_refused, text};

/// Looks at every path the configuration hides or locks. Prints a line for each fault; redirects nothing into
/// `/dev/null`, which may be anything here, and writes nothing even where it could.
fn inspect() -> String {
    let masked = MASKED_PATHS.join(" ");
    let readonly = READONLY_PATHS.join(" ");
    format!(
        "for path in {masked}; do
            [ -e $path ] || continue
            if [ -d $path ]; then
                [ -z \"$(ls -A $path)\" ] || echo FAULT $path is not empty
                if touch $path/new; then echo FAULT $path can be written to; fi
            else
                [ \"$(stat -c %t:%T $path)\" = 1:3 ] || echo FAULT $path is not a null device
                [ \"$(head -c 64 $path | wc -c)\" = 0 ] || echo FAULT $path has content
            fi
        done
        for path in {readonly} /proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe; do
            [ -e $path ] || continue
            if [ -d $path ]; then
                for file in $(find $path -maxdepth 3 -type f | head -n 40); do
                    if (: >> $file); then echo FAULT $file can be opened for writing; fi
                done
            else
                if (: >> $path); then echo FAULT $path can be opened for writing; fi
            fi
        done
        echo inspected"
    )
}

/// As [`inspect`], with nothing but what the shell does by itself: it is quick, and its process is the only one.
fn glance() -> String {
    "for path in /proc/kcore /proc/keys /proc/timer_list /proc/interrupts; do
        [ -e $path ] || continue
        if read -r line < $path || [ -n \"$line\" ]; then echo FAULT $path has content; fi
    done
    for path in /proc/sys/kernel/core_pattern /proc/sys/kernel/hostname /proc/sysrq-trigger; do
        [ -e $path ] || continue
        if (: >> $path); then echo FAULT $path can be opened for writing; fi
    done
    echo inspected"
        .to_owned()
}

#[track_caller]
fn assert_hidden(output: &Output) {
    if started_or_refused(output) {
        assert!(output.stdout.contains("inspected"), "{output}");
        assert!(!output.stdout.contains("FAULT"), "{output}");
    }
}

/// Where the null device may lead: to what the host would run, to what would stop it, and nowhere, at which some
/// runtimes believe that there is nothing to hide.
const LINKS: [&str; 3] = ["/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/nowhere"];

#[test]
fn hidden_paths_are_empty_and_locked_paths_are_locked() {
    let Some(_) = Environment::get() else { return };
    let _canary = Canary::new();
    let runtime = Runtime::new();
    let output = runtime.run(&Bundle::new().shell(&inspect())).ok();
    assert_hidden(&output);
    // What the test looks for is there when nothing is hidden.
    let bare = Bundle::new().shell(&inspect()).remove("/linux/maskedPaths").remove("/linux/readonlyPaths");
    assert!(runtime.run(&bare).ok().stdout.contains("FAULT"), "the inspection finds nothing even in an open container");
}

#[test]
fn a_null_device_of_a_volume_in_motion_hides_nothing_less() {
    let Some(environment) = Environment::get() else { return };
    let _canary = Canary::new();
    let runtime = Runtime::new();
    let attempts = environment.attempts(2000) / LINKS.len() / 2;
    for link in LINKS {
        let volume = tempfile::tempdir().expect("a volume");
        fill_dev(volume.path());
        symlink(link, volume.path().join("l")).expect("a link");
        let bundle = Bundle::new()
            .set(
                "/mounts/1",
                json!({ "destination": "/dev", "type": "bind", "source": volume.path(), "options": ["bind"] }),
            )
            .shell(&glance());
        race(&runtime, &bundle, volume.path(), attempts);
    }
}

#[test]
fn a_null_device_of_the_image_in_motion_hides_nothing_less() {
    let Some(environment) = Environment::get() else { return };
    let _canary = Canary::new();
    let runtime = Runtime::new();
    let attempts = environment.attempts(2000) / LINKS.len() / 2;
    for link in LINKS {
        let bundle = Bundle::new().without_mount("/dev").link("/dev/l", link).shell(&glance());
        fill_dev(&bundle.path("/dev"));
        race(&runtime, &bundle, &bundle.path("/dev"), attempts);
    }
}

#[track_caller]
fn race(runtime: &Runtime, bundle: &Bundle, dev: &Path, attempts: usize) {
    let _swapper = Swapper::start(&dev.join("null"), &dev.join("l"));
    let mut started = 0;
    for _ in 0..attempts {
        let output = runtime.run(bundle);
        assert_hidden(&output);
        started += usize::from(output.success());
    }
    eprintln!("{started} of {attempts} started");
    assert!(started > 0, "no container started: nothing was raced");
}

/// The attacker exchanges the directory that procfs is mounted on with one that looks the same: the masks must be laid
/// on procfs, wherever it is.
#[test]
fn a_proc_of_the_image_in_motion_is_hidden_all_the_same() {
    let Some(environment) = Environment::get() else { return };
    let _canary = Canary::new();
    let runtime = Runtime::new();
    let look = "exec > /log 2>&1
    for proc in /proc /other; do
        [ -d $proc/1 ] || continue
        if read -r line < $proc/timer_list; then echo FAULT $proc/timer_list has content; fi
        if (: >> $proc/sys/kernel/core_pattern); then echo FAULT $proc/sys can be written to; fi
        if (: >> $proc/sysrq-trigger); then echo FAULT $proc/sysrq-trigger can be written to; fi
    done
    echo inspected";
    let mut bundle = Bundle::new().shell(look);
    for path in MASKED_PATHS.iter().chain(&READONLY_PATHS).filter_map(|path| path.strip_prefix("/proc/")) {
        for proc in ["/proc", "/other"] {
            bundle = bundle.directory(&format!("{proc}/{path}"));
        }
    }
    let swapper = Swapper::start(&bundle.path("/proc"), &bundle.path("/other"));
    // Each start looks up fifteen paths below /proc.
    let (mut started, attempts) = (0, environment.attempts(2000) / 4);
    for _ in 0..attempts {
        runtime.prepare(&bundle);
        swapper.resume();
        let created = runtime.finish(runtime.command_on("create", &bundle, &[]));
        // All mounts are made; what is looked at must not move meanwhile.
        swapper.pause();
        let log = bundle.path("/log");
        if started_or_refused(&created) {
            let _ = std::fs::remove_file(&log);
            let container = Container::of(&runtime, &bundle);
            if runtime.call(&["start", bundle.id()]).success() {
                eventually(30, "the end of the inspection", || text(&log).contains("inspected"));
                assert!(!text(&log).contains("FAULT"), "{}", text(&log));
                started += 1;
            }
            drop(container);
        }
    }
    eprintln!("{started} of {attempts} started");
    assert!(started > 0, "no container started: nothing was raced");
}

/// A masked path that is a link: what it leads to in the root is hidden, never what it leads to on the host.
#[test]
fn masks_of_links_stay_inside() {
    let Some(_) = Environment::get() else { return };
    let canary = Canary::new();
    let runtime = Runtime::new();
    let out = canary.dir().join("d");
    let bundle = Bundle::new()
        .link("/out", &out)
        .link("/up", format!("../../../../../../../..{}", out.display()))
        .set("/linux/maskedPaths", json!(["/out", "/up/file", "/out/file"]))
        .set("/linux/readonlyPaths", json!(["/out", "/up", "/up/deep"]))
        .shell(SHOW_MOUNTS);
    assert_inside(&runtime.run(&bundle), &canary);
}
