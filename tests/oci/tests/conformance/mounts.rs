//! config.md "Mounts": order, options, sources and destinations, and that no destination leads out of the root.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use oci_tests::{Bundle, Canary, Environment, MountLine, Output, Runtime, mounts_of};
use serde_json::json;

use crate::{place, refused_for};

fn directory() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("a mode");
    fs::write(dir.path().join("file"), "of the host\n").expect("a file");
    dir
}

/// The mount at the target in a container that idles.
#[track_caller]
fn mounted(bundle: Bundle, target: &str) -> MountLine {
    let runtime = Runtime::new();
    let bundle = bundle.idle();
    let container = runtime.start(&bundle);
    let mounts = mounts_of(container.pid());
    mounts.into_iter().rfind(|mount| mount.target == target).unwrap_or_else(|| panic!("nothing is mounted at {target}"))
}

#[track_caller]
fn has(mount: &MountLine, options: &[&str]) {
    for option in options {
        assert!(mount.options.split(',').any(|there| there == *option), "{option} is not set: {mount:?}");
    }
}

fn run(bundle: Bundle, script: &str) -> Output {
    Runtime::new().run(&bundle.shell(script))
}

#[test]
fn file_systems_are_mounted_with_their_options() {
    let Some(_) = Environment::get() else { return };
    let bundle = Bundle::new().mount(json!({
        "destination": "/scratch", "type": "tmpfs", "source": "scratch",
        "options": ["nosuid", "nodev", "noexec", "noatime", "size=4m", "mode=0710"],
    }));
    let mount = mounted(bundle, "/scratch");
    assert_eq!((mount.fstype.as_str(), mount.source.as_str()), ("tmpfs", "scratch"));
    has(&mount, &["nosuid", "nodev", "noexec", "noatime", "rw"]);
    let bundle = Bundle::new().mount(json!({
        "destination": "/scratch", "type": "tmpfs", "source": "tmpfs", "options": ["size=4m", "mode=0710", "ro"],
    }));
    let output = run(bundle, "stat -c %a /scratch; df -k /scratch | tail -1 | awk '{print $2}'; touch /scratch/f");
    assert_eq!(output.stdout, "710\n4096\n");
    assert!(!output.success(), "written to a read-only mount: {output}");
}

#[test]
fn bind_mounts_show_the_source() {
    let Some(_) = Environment::get() else { return };
    let dir = directory();
    let bundle = Bundle::new().bind(dir.path(), "/data", &[]).bind(&dir.path().join("file"), "/etc/one", &[]);
    let output = run(bundle, "cat /data/file /etc/one; echo back > /data/new").ok();
    assert_eq!(output.stdout, "of the host\nof the host\n");
    assert_eq!(fs::read_to_string(dir.path().join("new")).expect("a file"), "back\n");
}

#[test]
fn the_type_or_an_option_says_bind() {
    let Some(_) = Environment::get() else { return };
    let dir = directory();
    for (kind, options) in [("none", json!(["bind"])), ("bind", json!([])), ("", json!(["rbind"]))] {
        let mount = json!({ "destination": "/data", "type": kind, "source": dir.path(), "options": options });
        assert_eq!(run(Bundle::new().mount(mount), "cat /data/file").ok().stdout, "of the host\n");
    }
    refused_for(
        run(Bundle::new().mount(json!({ "destination": "/data", "source": dir.path() })), "true"),
        &["mounts[7].type"],
    );
}

#[test]
fn bind_mounts_take_options() {
    let Some(_) = Environment::get() else { return };
    let dir = directory();
    let mount = mounted(Bundle::new().bind(dir.path(), "/data", &["ro", "nosuid", "nodev", "noexec"]), "/data");
    has(&mount, &["ro", "nosuid", "nodev", "noexec"]);
    let output = run(Bundle::new().bind(dir.path(), "/data", &["ro"]), "echo x > /data/file");
    assert!(!output.success(), "{output}");
    assert_eq!(fs::read_to_string(dir.path().join("file")).expect("a file"), "of the host\n");
}

/// "ro" is for the mount, "rro" for all below too (mount_setattr(2)).
#[test]
fn recursive_options_reach_below() {
    let Some(_) = Environment::get() else { return };
    let write = "touch /outer/f && echo outer; touch /outer/inner/f && echo inner; true";
    for (option, expected) in [("ro", "inner\n"), ("rro", ""), ("rw", "outer\ninner\n")] {
        // What is bound is the host's: make the tree there.
        let tree = directory();
        fs::create_dir(tree.path().join("inner")).expect("a directory");
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "tmpfs"])
            .arg(tree.path().join("inner"))
            .status()
            .is_ok_and(|status| status.success());
        assert!(mounted, "cannot mount a tmpfs");
        let _guard = Unmount(tree.path().join("inner"));
        let bundle = Bundle::new().bind(tree.path(), "/outer", &[option]);
        assert_eq!(run(bundle, write).ok().stdout, expected, "{option}");
    }
}

struct Unmount(std::path::PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn mounts_are_made_in_order() {
    let Some(_) = Environment::get() else { return };
    let dir = directory();
    let tmpfs = json!({ "destination": "/a", "type": "tmpfs", "source": "tmpfs" });
    let bundle = Bundle::new().mount(tmpfs.clone()).bind(dir.path(), "/a/b", &[]);
    assert_eq!(run(bundle, "cat /a/b/file").ok().stdout, "of the host\n");
    let bundle = Bundle::new().bind(dir.path(), "/a/b", &[]).mount(tmpfs);
    assert!(!run(bundle, "cat /a/b/file").success(), "the later mount covers the earlier one");
}

#[test]
fn relative_sources_are_the_bundles() {
    let Some(_) = Environment::get() else { return };
    let bundle = Bundle::new();
    fs::create_dir(bundle.dir().join("beside")).expect("a directory");
    fs::write(bundle.dir().join("beside/file"), "in the bundle\n").expect("a file");
    let mount = json!({ "destination": "/data", "type": "bind", "source": "beside", "options": ["bind"] });
    assert_eq!(run(bundle.mount(mount), "cat /data/file").ok().stdout, "in the bundle\n");
}

/// Configurations of before 1.0.2 have them.
#[test]
fn relative_destinations_are_meant_from_the_root() {
    let Some(_) = Environment::get() else { return };
    let dir = directory();
    assert_eq!(
        run(Bundle::new().bind(dir.path(), "data/here", &[]), "cat /data/here/file").ok().stdout,
        "of the host\n"
    );
}

#[test]
fn sources_that_are_not_there_are_refused() {
    let Some(_) = Environment::get() else { return };
    refused_for(run(Bundle::new().bind("/no/such/source".as_ref(), "/data", &[]), "true"), &["/no/such/source"]);
    let runtime = Runtime::new();
    let unknown = Bundle::new().mount(json!({ "destination": "/x", "type": "nosuchfs", "source": "x" }));
    refused_for(runtime.run(&unknown), &["nosuchfs"]);
    let option = json!({ "destination": "/x", "type": "tmpfs", "source": "x", "options": ["flavour=sweet"] });
    refused_for(runtime.run(&Bundle::new().mount(option)), &["/x"]);
}

#[test]
fn destinations_stay_in_the_root() {
    let Some(_) = Environment::get() else { return };
    let canary = Canary::new();
    let dir = directory();
    let target = canary.dir().join("t");
    for way in
        [target.clone(), std::path::Path::new("/..").join("..").join(target.strip_prefix("/").expect("absolute"))]
    {
        let bundle = Bundle::new().link("/way", &way).bind(dir.path(), "/way", &[]);
        let output = run(bundle, "cat /way/file");
        if !output.success() {
            let _ = output.refused();
        }
    }
}

#[test]
fn a_temporary_file_system_may_begin_with_what_was_there() {
    let Some(_) = Environment::get() else { return };
    let bundle = Bundle::new()
        .file("/etc/conf.d/deep/file", "kept\n", 0o640)
        .link("/etc/conf.d/link", "deep/file")
        .mount(json!({ "destination": "/etc/conf.d", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"] }));
    let original = bundle.path("/etc/conf.d/deep/file");
    let bundle =
        bundle.shell("cat /etc/conf.d/link; stat -c %a /etc/conf.d/deep/file; echo new > /etc/conf.d/deep/file");
    assert_eq!(Runtime::new().run(&bundle).ok().stdout, "kept\n640\n");
    assert_eq!(fs::read_to_string(original).expect("the file"), "kept\n");
    let dir = directory();
    let output = run(Bundle::new().bind(dir.path(), "/data", &["tmpcopyup"]), "true");
    refused_for(output, &["tmpcopyup"]);
}

#[test]
fn the_group_file_system_shows_the_containers_group() {
    let Some(_) = Environment::get() else { return };
    // pids is what every host has, and v2 has the group itself.
    let script =
        if place::is_v2() { "cat /sys/fs/cgroup/cgroup.procs" } else { "cat /sys/fs/cgroup/pids/cgroup.procs" };
    let bundle = Bundle::new().namespace("cgroup", None);
    let output = run(bundle, script).ok();
    assert!(output.stdout.lines().any(|line| line == "1"), "{output}");
    let output = run(Bundle::new(), "mkdir /sys/fs/cgroup/x /sys/fs/cgroup/pids/x 2>/dev/null");
    assert!(!output.success(), "a group was made in a read-only mount: {output}");
}

#[test]
fn propagation_of_a_mount_is_set() {
    let Some(_) = Environment::get() else { return };
    let field = |option: &str| {
        let dir = directory();
        let runtime = Runtime::new();
        // The root must not be private, or nothing could be shared from it.
        let bundle =
            Bundle::new().set("/linux/rootfsPropagation", json!("rslave")).bind(dir.path(), "/data", &[option]).idle();
        let container = runtime.start(&bundle);
        let line =
            container.proc("mountinfo").lines().find(|line| line.contains(" /data ")).unwrap_or_default().to_owned();
        let optional: Vec<&str> = line.split(" - ").next().unwrap_or_default().split(' ').skip(6).collect();
        optional.join(" ")
    };
    assert_eq!(field("rprivate"), "");
    assert!(field("rshared").contains("shared:"));
    assert!(!field("rslave").contains("shared:"));
    assert_eq!(field("unbindable"), "unbindable");
}

/// A word that no bind mount knows is refused by name and not passed over.
#[test]
fn options_of_file_systems_are_refused_for_bind_mounts() {
    let Some(environment) = Environment::get() else { return };
    if !environment.is_ours() {
        return;
    }
    let dir = directory();
    refused_for(run(Bundle::new().bind(dir.path(), "/data", &["flavour"]), "true"), &["mounts[7].options", "flavour"]);
}

#[test]
fn links_are_not_followed_where_the_option_says_so() {
    let Some(_) = Environment::get() else { return };
    let dir = directory();
    std::os::unix::fs::symlink("file", dir.path().join("link")).expect("a link");
    let output = run(Bundle::new().bind(dir.path(), "/data", &["nosymfollow"]), "cat /data/file; cat /data/link");
    assert_eq!(output.stdout, "of the host\n");
    assert!(!output.success());
}
