//! The system calls a shim may make once its container runs: everything else fails.
//!
//! A supervisor that is killed takes its container's log and exit code along, so a call that is not on the list
//! fails as it would on a kernel without it (`ENOSYS`), one with arguments that are not foreseen with `EPERM`, and
//! the kernel writes both to its audit log. Builds with debug assertions, which tests use, are killed instead, so
//! that a missing entry is found. Calls of another architecture kill in every build.
//! Called by [`crate::confine`].

use sys::Errno;
use sys::syscall as nr;

/// Where `struct seccomp_data` (linux/seccomp.h) has the call's number and the architecture.
const OFFSET_NR: u32 = 0;
const OFFSET_ARCH: u32 = 4;

// Instructions of classic BPF (linux/bpf_common.h).
const LD_ABS: u16 = 0x20;
const ALU_AND: u16 = 0x54;
const JMP_JEQ: u16 = 0x15;
const JMP_JGE: u16 = 0x35;
const RET: u16 = 0x06;

// What a filter may answer (linux/seccomp.h).
const KILL_PROCESS: u32 = 0x8000_0000;
const ERRNO: u32 = 0x0005_0000;
const ALLOW: u32 = 0x7fff_0000;

/// `AUDIT_ARCH_*` of linux/audit.h; none where no filter can be made.
const ARCH: Option<u32> = if cfg!(all(target_arch = "x86_64", target_pointer_width = "64")) {
    Some(0xc000_003e)
} else if cfg!(target_arch = "aarch64") {
    Some(0xc000_00b7)
} else {
    None
};

/// Set in the numbers of x32 calls, which share x86_64's architecture value.
const X32_BIT: u32 = 0x4000_0000;

/// A call on the list, with what its arguments must be.
struct Call {
    number: u32,
    checks: &'static [Check],
}

/// The low half of an argument under a mask must be one of `values`. Everything checked is an `int` to the kernel,
/// or has no meaning in its high half.
struct Check {
    argument: u32,
    mask: u32,
    values: &'static [u32],
}

const fn any(number: u32) -> Call {
    Call { number, checks: &[] }
}

const fn with(number: u32, checks: &'static [Check]) -> Call {
    Call { number, checks }
}

const fn is(argument: u32, values: &'static [u32]) -> Check {
    Check { argument, mask: u32::MAX, values }
}

const fn bits(argument: u32, mask: u32, values: &'static [u32]) -> Check {
    Check { argument, mask, values }
}

const AT_FDCWD: u32 = (-100i32).cast_unsigned();
/// How log files are opened: for appending, never through a link, never waiting for another end.
pub(crate) const LOG_FLAGS: rustix::fs::OFlags = {
    use rustix::fs::OFlags;
    OFlags::WRONLY
        .union(OFlags::CREATE)
        .union(OFlags::APPEND)
        .union(OFlags::CLOEXEC)
        .union(OFlags::NOFOLLOW)
        .union(OFlags::NONBLOCK)
};
/// Flags that make no difference: a file that must be new, and one that may be large, which is added on the way.
const OTHER_FLAGS: u32 = {
    use rustix::fs::OFlags;
    OFlags::EXCL.union(OFlags::LARGEFILE).bits()
};

/// The list. Frequent calls without conditions cost nothing: the kernel remembers that they are always allowed.
const CALLS: &[Call] = &[
    // The loop, its clients and the container's streams.
    any(nr::EPOLL_PWAIT),
    any(nr::EPOLL_CTL),
    any(nr::PPOLL),
    any(nr::READ),
    any(nr::WRITE),
    any(nr::SENDMSG),
    any(nr::RECVMSG),
    any(nr::CLOSE),
    any(nr::ACCEPT4),
    // SOL_SOCKET, SO_PEERCRED
    with(nr::GETSOCKOPT, &[is(1, &[1]), is(2, &[17])]),
    // AF_UNIX
    with(nr::SOCKETPAIR, &[is(0, &[1])]),
    any(nr::PIPE2),
    // F_GETFD, which builds with debug assertions ask for before every close; F_GETFL, F_SETFL, F_DUPFD_CLOEXEC,
    // F_SETPIPE_SZ, F_GET_SEALS
    with(nr::FCNTL, &[is(1, &[1, 3, 4, 1030, 1031, 1034])]),
    // TIOCSWINSZ
    with(nr::IOCTL, &[is(1, &[0x5414])]),
    // Children: their ends, signals to them, and letting go of those that want to be traced (PTRACE_DETACH).
    any(nr::WAIT4),
    with(nr::PIDFD_SEND_SIGNAL, &[is(3, &[0])]),
    with(nr::PTRACE, &[is(0, &[17])]),
    // The log, whose directory is the root; the exit record; sealed plans and the count of memory kills.
    with(nr::OPENAT, &[is(0, &[AT_FDCWD]), bits(2, !OTHER_FLAGS, &[LOG_FLAGS.bits()])]),
    with(nr::RENAMEAT2, &[is(0, &[AT_FDCWD]), is(2, &[AT_FDCWD]), is(4, &[0])]),
    any(nr::FSTAT),
    any(nr::FTRUNCATE),
    any(nr::PREAD64),
    // Memory, never executable.
    any(nr::BRK),
    with(nr::MMAP, &[bits(2, 4, &[0])]),
    any(nr::MUNMAP),
    any(nr::MREMAP),
    // MADV_DONTNEED
    with(nr::MADVISE, &[is(2, &[4])]),
    // Where the clock cannot be read without the kernel.
    any(nr::CLOCK_GETTIME),
    any(nr::EXIT_GROUP),
];

/// The program, or `None` on an architecture without one. `strict` kills where otherwise the call fails.
pub(crate) fn program(strict: bool) -> Option<Vec<u8>> {
    let errno = |errno: Errno| ERRNO | errno.raw_os_error().unsigned_abs();
    let (unknown, refused) =
        if strict { (KILL_PROCESS, KILL_PROCESS) } else { (errno(Errno::NOSYS), errno(Errno::PERM)) };
    let mut code = Code(Vec::new());
    code.push(LD_ABS, 0, 0, OFFSET_ARCH);
    code.push(JMP_JEQ, 1, 0, ARCH?);
    code.push(RET, 0, 0, KILL_PROCESS);
    code.push(LD_ABS, 0, 0, OFFSET_NR);
    if cfg!(target_arch = "x86_64") {
        code.push(JMP_JGE, 0, 1, X32_BIT);
        code.push(RET, 0, 0, KILL_PROCESS);
    }
    for call in CALLS {
        let len: usize = call.checks.iter().map(Check::len).sum();
        code.push(JMP_JEQ, 0, u8::try_from(len + 1).ok()?, call.number);
        for check in call.checks {
            code.check(check, refused)?;
        }
        code.push(RET, 0, 0, ALLOW);
    }
    code.push(RET, 0, 0, unknown);
    Some(code.0)
}

impl Check {
    /// Instructions it takes.
    fn len(&self) -> usize {
        2 + usize::from(self.mask != u32::MAX) + self.values.len()
    }
}

struct Code(Vec<u8>);

impl Code {
    /// One `struct sock_filter`; `yes` and `no` count the instructions skipped.
    fn push(&mut self, code: u16, yes: u8, no: u8, k: u32) {
        self.0.extend_from_slice(&code.to_ne_bytes());
        self.0.extend_from_slice(&[yes, no]);
        self.0.extend_from_slice(&k.to_ne_bytes());
    }

    /// Goes on behind itself, or answers `refused`.
    fn check(&mut self, check: &Check, refused: u32) -> Option<()> {
        let low_half = if cfg!(target_endian = "little") { 0 } else { 4 };
        self.push(LD_ABS, 0, 0, 16 + 8 * check.argument + low_half);
        if check.mask != u32::MAX {
            self.push(ALU_AND, 0, 0, check.mask);
        }
        for (at, value) in check.values.iter().enumerate() {
            self.push(JMP_JEQ, u8::try_from(check.values.len() - at).ok()?, 0, *value);
        }
        self.push(RET, 0, 0, refused);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{AtFlags, CWD, Mode, OFlags};

    /// What the program answers: the machine of the kernel, for the instructions used here.
    fn verdict(program: &[u8], arch: u32, number: u32, arguments: [u64; 6]) -> u32 {
        let mut data = Vec::new();
        data.extend_from_slice(&number.to_ne_bytes());
        data.extend_from_slice(&arch.to_ne_bytes());
        data.extend_from_slice(&[0; 8]);
        for argument in arguments {
            data.extend_from_slice(&argument.to_ne_bytes());
        }
        let (instructions, rest) = program.as_chunks::<8>();
        assert!(rest.is_empty());
        let (mut at, mut accumulator) = (0, 0u32);
        loop {
            let [a, b, yes, no, k @ ..] = instructions[at];
            let (code, k) = (u16::from_ne_bytes([a, b]), u32::from_ne_bytes(k));
            at += 1;
            let skip = |holds: bool| usize::from(if holds { yes } else { no });
            match code {
                LD_ABS => accumulator = u32::from_ne_bytes(data[k as usize..][..4].try_into().unwrap()),
                ALU_AND => accumulator &= k,
                JMP_JEQ => at += skip(accumulator == k),
                JMP_JGE => at += skip(accumulator >= k),
                RET => return k,
                other => panic!("{other:#x}"),
            }
        }
    }

    #[test]
    fn only_what_is_listed_passes_with_the_arguments_that_are_foreseen() {
        let Some(arch) = ARCH else { return };
        let (lenient, strict) = (program(false).unwrap(), program(true).unwrap());
        let ask = |number: u32, arguments: [u64; 6]| {
            let answer = verdict(&lenient, arch, number, arguments);
            let killed = verdict(&strict, arch, number, arguments) == KILL_PROCESS;
            assert_eq!(killed, answer != ALLOW, "call {number}");
            answer
        };
        let (nosys, perm) = (ERRNO | 38, ERRNO | 1);
        // Every number there is, with arguments no condition accepts.
        for number in 0..1000 {
            let wanted = match CALLS.iter().find(|call| call.number == number) {
                Some(call) if call.checks.is_empty() => ALLOW,
                Some(_) => perm,
                None => nosys,
            };
            assert_eq!(ask(number, [0x7fff_ffff; 6]), wanted, "call {number}");
        }
        let cwd = u64::from(AT_FDCWD);
        let flags = u64::from(LOG_FLAGS.bits());
        let excl = u64::from(OFlags::EXCL.bits());
        for (number, arguments, allowed) in [
            (nr::OPENAT, [cwd, 1, flags, 0, 0, 0], true),
            (nr::OPENAT, [u64::MAX - 99, 1, flags | excl, 0, 0, 0], true),
            (nr::OPENAT, [5, 1, flags, 0, 0, 0], false),
            (nr::OPENAT, [cwd, 1, 0, 0, 0, 0], false),
            (nr::OPENAT, [cwd, 1, flags | 2, 0, 0, 0], false),
            (nr::OPENAT, [cwd, 1, flags & !u64::from(OFlags::NOFOLLOW.bits()), 0, 0, 0], false),
            (nr::RENAMEAT2, [cwd, 1, cwd, 1, 0, 0], true),
            (nr::RENAMEAT2, [cwd, 1, 7, 1, 0, 0], false),
            (nr::RENAMEAT2, [cwd, 1, cwd, 1, 2, 0], false),
            (nr::MMAP, [0, 4096, 3, 0x22, u64::MAX, 0], true),
            (nr::MMAP, [0, 4096, 5, 0x22, u64::MAX, 0], false),
            (nr::MADVISE, [0, 4096, 4, 0, 0, 0], true),
            (nr::MADVISE, [0, 4096, 17, 0, 0, 0], false),
            (nr::FCNTL, [3, 1031, 0, 0, 0, 0], true),
            // F_SETOWN
            (nr::FCNTL, [3, 8, 0, 0, 0, 0], false),
            // TIOCSTI
            (nr::IOCTL, [3, 0x5412, 0, 0, 0, 0], false),
            (nr::IOCTL, [3, 0x5414, 0, 0, 0, 0], true),
            // PTRACE_ATTACH
            (nr::PTRACE, [16, 0, 0, 0, 0, 0], false),
            (nr::PTRACE, [17, 0, 0, 0, 0, 0], true),
            (nr::SOCKETPAIR, [1, 0, 0, 0, 0, 0], true),
            (nr::SOCKETPAIR, [2, 0, 0, 0, 0, 0], false),
            (nr::GETSOCKOPT, [3, 1, 17, 0, 0, 0], true),
            // SO_PEERPIDFD
            (nr::GETSOCKOPT, [3, 1, 77, 0, 0, 0], false),
            (nr::PIDFD_SEND_SIGNAL, [3, 9, 0, 0, 0, 0], true),
            // To the whole process group.
            (nr::PIDFD_SEND_SIGNAL, [3, 9, 0, 4, 0, 0], false),
        ] {
            assert_eq!(ask(number, arguments) == ALLOW, allowed, "call {number} with {arguments:x?}");
        }
        for program in [&lenient, &strict] {
            assert_eq!(verdict(program, 0x4000_0003, nr::READ, [0; 6]), KILL_PROCESS);
            if cfg!(target_arch = "x86_64") {
                assert_eq!(verdict(program, arch, X32_BIT | nr::READ, [0; 6]), KILL_PROCESS);
            }
        }
    }

    #[test]
    fn the_kernel_takes_the_program() {
        if ARCH.is_none() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let (send, receive) = std::sync::mpsc::channel();
        let (end, held) = rustix::pipe::pipe().unwrap();
        // The thread cannot even end under the filter: it stays until the process does.
        std::mem::forget(held);
        std::thread::spawn(move || {
            sys::creds::set_no_new_privileges().unwrap();
            sys::seccomp::load(&program(false).unwrap(), 0).unwrap();
            let mode = Mode::from_raw_mode(0o600);
            let opened = rustix::fs::openat(CWD, &log, LOG_FLAGS | OFlags::EXCL, mode);
            let written = opened.as_ref().map_err(|errno| *errno).and_then(|file| rustix::io::write(file, b"line\n"));
            let read = rustix::fs::openat(CWD, &log, OFlags::RDONLY, mode).err();
            let removed = rustix::fs::unlinkat(CWD, &log, AtFlags::empty()).err();
            let _ = send.send((written, read, removed));
            let _ = rustix::io::read(&end, &mut [0u8; 1]);
        });
        // Waiting in the channel would have to be woken by a call that is not on the list.
        let results = loop {
            if let Ok(results) = receive.try_recv() {
                break results;
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        };
        assert_eq!(results, (Ok(5), Some(Errno::PERM), Some(Errno::NOSYS)));
    }
}
