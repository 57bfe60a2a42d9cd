//! The system calls the process may make once it serves: everything else fails.
//!
//! It can make no process, execute nothing, enter no namespace, load no program, and look into no other process. A call
//! that is not on the list fails as on a kernel without it and is written to the audit log; builds with debug assertions,
//! which tests use, are killed instead, so that a missing entry is found.

use sys::syscall as nr;

/// Where `struct seccomp_data` (linux/seccomp.h) has the call's number and the architecture.
const OFFSET_NR: u32 = 0;
const OFFSET_ARCH: u32 = 4;

// Instructions of classic BPF (linux/bpf_common.h).
const LD_ABS: u16 = 0x20;
const JMP_JEQ: u16 = 0x15;
const JMP_JGE: u16 = 0x35;
const RET: u16 = 0x06;

// What a filter may answer (linux/seccomp.h); the errno is ENOSYS.
const KILL_PROCESS: u32 = 0x8000_0000;
const REFUSE: u32 = 0x0005_0000 | 38;
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

/// The list. The kernel remembers which calls are always allowed, so that it costs nothing.
const CALLS: &[u32] = &[
    // The loop.
    nr::EPOLL_PWAIT,
    nr::EPOLL_CTL,
    nr::PPOLL,
    nr::READ,
    nr::WRITE,
    nr::CLOSE,
    nr::FCNTL,
    nr::CLOCK_GETTIME,
    nr::GETRANDOM,
    nr::RESTART_SYSCALL,
    // Sockets of daemons, containers, name servers and the kernel.
    nr::SOCKET,
    nr::BIND,
    nr::LISTEN,
    nr::CONNECT,
    nr::ACCEPT4,
    nr::SHUTDOWN,
    nr::SENDTO,
    nr::SENDMSG,
    nr::SENDMMSG,
    nr::RECVFROM,
    nr::RECVMSG,
    nr::RECVMMSG,
    nr::GETSOCKOPT,
    nr::SETSOCKOPT,
    nr::GETSOCKNAME,
    nr::GETPEERNAME,
    // Names of links of link-local name servers.
    nr::IOCTL,
    nr::PIPE2,
    nr::SPLICE,
    // The list of name servers, the kernel's settings, long messages, the log, and the socket file at the end.
    nr::OPENAT,
    nr::STATX,
    nr::FSTAT,
    nr::NEWFSTATAT,
    nr::LSEEK,
    nr::PREAD64,
    nr::MEMFD_CREATE,
    nr::FTRUNCATE,
    nr::UNLINKAT,
    // Memory, never executable by the library's own doing.
    nr::BRK,
    nr::MMAP,
    nr::MUNMAP,
    nr::MREMAP,
    nr::MADVISE,
    nr::FUTEX,
    nr::SCHED_YIELD,
    // Who we are, and the end.
    nr::GETPID,
    nr::GETTID,
    nr::GETUID,
    nr::GETEUID,
    nr::GETEGID,
    nr::RT_SIGACTION,
    nr::RT_SIGPROCMASK,
    nr::RT_SIGRETURN,
    nr::SIGALTSTACK,
    nr::TGKILL,
    nr::EXIT,
    nr::EXIT_GROUP,
];

/// The program, or `None` on an architecture without one.
pub(super) fn program() -> Option<Vec<u8>> {
    let other = if cfg!(debug_assertions) { KILL_PROCESS } else { REFUSE };
    let mut code = Vec::new();
    // One `struct sock_filter`; `yes` and `no` count the instructions skipped.
    let mut push = |operation: u16, yes: u8, no: u8, k: u32| {
        code.extend_from_slice(&operation.to_ne_bytes());
        code.extend_from_slice(&[yes, no]);
        code.extend_from_slice(&k.to_ne_bytes());
    };
    push(LD_ABS, 0, 0, OFFSET_ARCH);
    push(JMP_JEQ, 1, 0, ARCH?);
    push(RET, 0, 0, KILL_PROCESS);
    push(LD_ABS, 0, 0, OFFSET_NR);
    if cfg!(target_arch = "x86_64") {
        push(JMP_JGE, 0, 1, X32_BIT);
        push(RET, 0, 0, KILL_PROCESS);
    }
    for call in CALLS {
        push(JMP_JEQ, 0, 1, *call);
        push(RET, 0, 0, ALLOW);
    }
    push(RET, 0, 0, other);
    Some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_call_is_listed_twice_and_none_that_makes_processes() {
        let mut all = CALLS.to_vec();
        all.sort_unstable();
        let count = all.len();
        all.dedup();
        assert_eq!(all.len(), count);
        for forbidden in [nr::PTRACE, nr::RENAMEAT2, nr::SOCKETPAIR, nr::WAIT4] {
            assert!(!CALLS.contains(&forbidden));
        }
        let program = program();
        assert_eq!(program.is_some(), ARCH.is_some());
        assert!(program.is_none_or(|program| program.len() % 8 == 0 && program.len() / 8 < 4096));
    }
}
