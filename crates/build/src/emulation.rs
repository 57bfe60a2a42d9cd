//! Platforms that this machine executes: its own, and those that the kernel has an emulator for (binfmt_misc, see the kernel's
//! admin-guide/binfmt-misc).

use std::path::Path;

use types::Platform;

/// Where the kernel lists interpreters.
const REGISTERED: &str = "/proc/sys/fs/binfmt_misc";

/// Names under which QEMU's packages register emulators, and what for.
const NAMES: [(&str, &str, &str); 11] = [
    ("qemu-x86_64", "amd64", ""),
    ("qemu-i386", "386", ""),
    ("qemu-aarch64", "arm64", ""),
    ("qemu-arm", "arm", "v7"),
    ("qemu-riscv64", "riscv64", ""),
    ("qemu-ppc64le", "ppc64le", ""),
    ("qemu-s390x", "s390x", ""),
    ("qemu-mips64el", "mips64le", ""),
    ("qemu-mips64", "mips64", ""),
    ("qemu-loongarch64", "loong64", ""),
    ("qemu-arm", "arm", "v6"),
];

/// The machine's platform first.
#[must_use]
pub fn platforms() -> Vec<Platform> {
    read(Path::new(REGISTERED), Platform::host())
}

fn read(registered: &Path, host: Platform) -> Vec<Platform> {
    let mut found = vec![host.clone()];
    if host.arch == "amd64" {
        found.push(Platform::new("linux", "386", ""));
    }
    for (name, arch, variant) in NAMES {
        let state = std::fs::read_to_string(registered.join(name)).unwrap_or_default();
        let platform = Platform::new("linux", arch, variant);
        if state.lines().next() == Some("enabled") && !found.contains(&platform) && arch != host.arch {
            found.push(platform);
        }
    }
    found
}

/// What to do to execute programs of a platform here.
#[must_use]
pub fn advice(wanted: &Platform) -> String {
    let host = Platform::host();
    if wanted.arch == host.arch {
        return format!("the program is not for this machine ({host}), or is no program");
    }
    format!(
        "this machine ({host}) has no emulator for {wanted}: register one (Debian's packages qemu-user-static and \
         binfmt-support do, or docker run --privileged --rm tonistiigi/binfmt --install {}), or have the command in a stage \
         FROM --platform=$BUILDPLATFORM",
        wanted.arch
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emulators_that_are_registered_and_enabled() {
        let dir = tempfile::tempdir().unwrap();
        let host = Platform::new("linux", "amd64", "");
        let names = |platforms: Vec<Platform>| platforms.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names(read(&dir.path().join("none"), host.clone())), ["linux/amd64", "linux/386"]);
        for (name, state) in [("qemu-aarch64", "enabled\n"), ("qemu-arm", "enabled\n"), ("qemu-s390x", "disabled\n")] {
            std::fs::write(dir.path().join(name), format!("{state}interpreter /usr/bin/x\n")).unwrap();
        }
        let found = names(read(dir.path(), host));
        assert_eq!(found, ["linux/amd64", "linux/386", "linux/arm64", "linux/arm/v7", "linux/arm/v6"]);
    }
}
