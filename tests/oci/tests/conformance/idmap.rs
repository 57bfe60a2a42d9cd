//! config.md "Mounts", `uidMappings` and `gidMappings`: the same files under other ids (mount_setattr(2)).

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};

use oci_tests::{Bundle, Environment, Output, Runtime};
use serde_json::{Value, json};

use crate::refused_for;

fn directory() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).expect("a mode");
    for (name, id) in [("zero", 0), ("ten", 10)] {
        let path = dir.path().join(name);
        fs::write(&path, "").expect("a file");
        lchown(&path, Some(id), Some(id)).expect("an owner");
    }
    dir
}

fn mount(dir: &tempfile::TempDir, options: &[&str], first: Option<u32>) -> Value {
    let mut mount = json!({ "destination": "/data", "type": "bind", "source": dir.path(), "options": options });
    if let Some(first) = first {
        let map = json!([{ "containerID": 0, "hostID": first, "size": 100 }]);
        mount["uidMappings"] = map.clone();
        mount["gidMappings"] = map;
    }
    mount
}

/// Not every file system can map ids: tmpfs since Linux 6.3, overlayfs since 5.19.
fn is_mappable(output: &Output) -> bool {
    let refused = !output.success() && output.stderr.contains("nvalid argument");
    if refused {
        eprintln!("left out: the file system of temporary files cannot map ids on this kernel");
    }
    !refused
}

const LOOK: &str = "stat -c %u:%g /data/zero /data/ten";

#[test]
fn a_mount_has_mappings_of_its_own() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let dir = directory();
    for option in ["idmap", "ridmap"] {
        let bundle = Bundle::new().mount(mount(&dir, &["rbind", option], Some(5000))).shell(LOOK);
        let output = runtime.run(&bundle);
        if !is_mappable(&output) {
            return;
        }
        assert_eq!(output.ok().stdout, "5000:5000\n5010:5010\n", "{option}");
    }
    // What is written through the mount is owned the other way round.
    let bundle =
        Bundle::new().user(5003, 5003, &[]).mount(mount(&dir, &["bind", "idmap"], Some(5000))).shell("touch /data/new");
    let _ = runtime.run(&bundle).ok();
    assert_eq!(fs::metadata(dir.path().join("new")).expect("the file").uid(), 3);
}

#[test]
fn mappings_alone_ask_for_it_too() {
    let Some(_) = Environment::get() else { return };
    let dir = directory();
    let output = Runtime::new().run(&Bundle::new().mount(mount(&dir, &["bind"], Some(5000))).shell(LOOK));
    if is_mappable(&output) {
        assert_eq!(output.ok().stdout, "5000:5000\n5010:5010\n");
    }
}

#[test]
fn a_mount_takes_the_mappings_of_the_containers_namespace() {
    let Some(_) = Environment::get() else { return };
    let dir = directory();
    let bundle = Bundle::new().user_namespace(300_000).mount(mount(&dir, &["bind", "idmap"], None)).shell(LOOK);
    let output = Runtime::new().run(&bundle);
    if is_mappable(&output) {
        assert_eq!(output.ok().stdout, "0:0\n10:10\n", "the files of the host are the container's");
    }
}

#[test]
fn a_mount_in_a_user_namespace_may_have_others() {
    let Some(_) = Environment::get() else { return };
    let dir = directory();
    // Ids of the disk from 0 are 300050 and on, which the container calls 50 and on.
    let bundle =
        Bundle::new().user_namespace(300_000).mount(mount(&dir, &["bind", "idmap"], Some(300_050))).shell(LOOK);
    let output = Runtime::new().run(&bundle);
    if is_mappable(&output) {
        assert_eq!(output.ok().stdout, "50:50\n60:60\n");
    }
}

#[test]
fn mappings_that_cannot_be_are_refused() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let dir = directory();
    refused_for(
        runtime.run(&Bundle::new().mount(mount(&dir, &["bind", "idmap"], None))),
        &["mounts[7].uidMappings", "mappings"],
    );
    let mut half = mount(&dir, &["bind", "idmap"], Some(5000));
    half.as_object_mut().expect("an object").shift_remove("gidMappings");
    refused_for(runtime.run(&Bundle::new().mount(half)), &["mounts[7].gidMappings"]);
    let mut tmpfs = mount(&dir, &[], Some(5000));
    tmpfs["type"] = json!("tmpfs");
    refused_for(runtime.run(&Bundle::new().mount(tmpfs)), &["mounts[7]", "bind"]);
}
