//! Root file systems of bundles: a static busybox with its applets, `/etc/passwd` with root and nobody, and the
//! directories mounts go to.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use crate::Environment;

/// Fills the directory, which exists and is empty.
pub(crate) fn make(root: &Path) {
    let fixtures = Environment::get().and_then(|environment| environment.fixtures.as_ref());
    let archive = fixtures.map(|fixtures| fixtures.join("busybox.tar")).filter(|archive| archive.is_file());
    match archive {
        Some(archive) => {
            let status = Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(root).status();
            assert!(status.is_ok_and(|status| status.success()), "cannot unpack {}", archive.display());
        }
        None => build(root),
    }
    for dir in ["dev/pts", "dev/shm", "dev/mqueue", "mnt", "run"] {
        fs::create_dir_all(root.join(dir)).expect("a directory of the root file system");
    }
}

fn build(root: &Path) {
    let busybox = Path::new("/bin/busybox");
    assert!(busybox.is_file(), "no busybox.tar and no /bin/busybox to make one of: install busybox-static");
    for dir in ["bin", "etc", "tmp", "proc", "sys", "dev", "root", "var"] {
        fs::create_dir_all(root.join(dir)).expect("a directory of the root file system");
    }
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).expect("the mode of /tmp");
    fs::copy(busybox, root.join("bin/busybox")).expect("a copy of busybox");
    let applets = Command::new(busybox).arg("--list").output().expect("busybox's applets");
    for applet in String::from_utf8_lossy(&applets.stdout).lines().filter(|applet| *applet != "busybox") {
        symlink("busybox", root.join("bin").join(applet)).expect("a link to busybox");
    }
    let passwd = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n";
    fs::write(root.join("etc/passwd"), passwd).expect("/etc/passwd");
    fs::write(root.join("etc/group"), "root:x:0:\nnogroup:x:65534:\n").expect("/etc/group");
}
