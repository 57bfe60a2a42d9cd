//! The kernel takes the compiled default profile and acts on it. Needs root, since a filter without
//! no_new_privs does; each filter binds only the thread that loads it.

use seccomp::{Arch, Context, KernelVersion, Profile, compile};

/// What chroot(2) to a missing directory answers under the filter for `caps`.
fn chroot_under(profile: &Profile, caps: u64) -> Option<i32> {
    let arch = Arch::native()?;
    let context = Context { caps, arch, kernel: KernelVersion { major: 6, minor: 1 } };
    let program = compile(profile, &context).unwrap();
    std::thread::spawn(move || {
        sys::seccomp::load(&program, 0).ok()?;
        // Ordinary work goes on: files, memory, a further thread.
        assert!(std::fs::read("/proc/self/status").is_ok());
        assert!(std::net::UdpSocket::bind("127.0.0.1:0").is_ok());
        std::thread::spawn(|| ()).join().unwrap();
        std::os::unix::fs::chroot("/no/such/directory").unwrap_err().raw_os_error()
    })
    .join()
    .unwrap()
}

#[test]
fn the_default_profile_holds() {
    let profile = Profile::docker_default();
    let Some(with) = chroot_under(&profile, 1 << 18) else { return };
    assert_eq!(with, 2, "with the capability the call is made, and finds nothing");
    assert_eq!(chroot_under(&profile, 0), Some(1), "without it the filter refuses");
    assert_eq!(chroot_under(&profile, u64::MAX), Some(2));
}
