//! Docker's default profile as a table: what an ordinary container may call. It is data of ours about
//! Docker's behaviour; a difference from Docker is a defect unless it is listed here.
//!
//! - Socket families: Docker lists the allowed ones one by one, and so do we. A rule of the form "greater
//!   than 40" would compare 64 bits where the kernel looks at 32, and let AF_ALG through with a bit set
//!   above them.
//! - MIPS, for which we build no filter, is left out.

use std::borrow::Cow;

use crate::profile::{Action, ArchMapEntry, Arg, Conditions, KernelVersion, Op, Profile, Rule};

/// Calls any container may make with any arguments.
#[rustfmt::skip]
const ALWAYS: [&str; 361] = [
    "_llseek", "_newselect", "accept", "accept4", "access", "adjtimex", "alarm", "bind", "brk",
    "cachestat", "capget", "capset", "chdir", "chmod", "chown", "chown32", "clock_adjtime",
    "clock_adjtime64", "clock_getres", "clock_getres_time64", "clock_gettime", "clock_gettime64",
    "clock_nanosleep", "clock_nanosleep_time64", "close", "close_range", "connect",
    "copy_file_range", "creat", "dup", "dup2", "dup3", "epoll_create", "epoll_create1",
    "epoll_ctl", "epoll_ctl_old", "epoll_pwait", "epoll_pwait2", "epoll_wait", "epoll_wait_old",
    "eventfd", "eventfd2", "execve", "execveat", "exit", "exit_group", "faccessat", "faccessat2",
    "fadvise64", "fadvise64_64", "fallocate", "fanotify_mark", "fchdir", "fchmod", "fchmodat",
    "fchmodat2", "fchown", "fchown32", "fchownat", "fcntl", "fcntl64", "fdatasync", "fgetxattr",
    "flistxattr", "flock", "fork", "fremovexattr", "fsetxattr", "fstat", "fstat64", "fstatat64",
    "fstatfs", "fstatfs64", "fsync", "ftruncate", "ftruncate64", "futex", "futex_requeue",
    "futex_time64", "futex_wait", "futex_waitv", "futex_wake", "futimesat", "get_robust_list",
    "get_thread_area", "getcpu", "getcwd", "getdents", "getdents64", "getegid", "getegid32",
    "geteuid", "geteuid32", "getgid", "getgid32", "getgroups", "getgroups32", "getitimer",
    "getpeername", "getpgid", "getpgrp", "getpid", "getppid", "getpriority", "getrandom",
    "getresgid", "getresgid32", "getresuid", "getresuid32", "getrlimit", "getrusage", "getsid",
    "getsockname", "getsockopt", "gettid", "gettimeofday", "getuid", "getuid32", "getxattr",
    "getxattrat", "inotify_add_watch", "inotify_init", "inotify_init1", "inotify_rm_watch",
    "io_cancel", "io_destroy", "io_getevents", "io_pgetevents", "io_pgetevents_time64",
    "io_setup", "io_submit", "ioctl", "ioprio_get", "ioprio_set", "ipc", "kill",
    "landlock_add_rule", "landlock_create_ruleset", "landlock_restrict_self", "lchown",
    "lchown32", "lgetxattr", "link", "linkat", "listen", "listmount", "listxattr", "listxattrat",
    "llistxattr", "lremovexattr", "lseek", "lsetxattr", "lstat", "lstat64", "madvise",
    "map_shadow_stack", "membarrier", "memfd_create", "memfd_secret", "mincore", "mkdir",
    "mkdirat", "mknod", "mknodat", "mlock", "mlock2", "mlockall", "mmap", "mmap2", "mprotect",
    "mq_getsetattr", "mq_notify", "mq_open", "mq_timedreceive", "mq_timedreceive_time64",
    "mq_timedsend", "mq_timedsend_time64", "mq_unlink", "mremap", "mseal", "msgctl", "msgget",
    "msgrcv", "msgsnd", "msync", "munlock", "munlockall", "munmap", "name_to_handle_at",
    "nanosleep", "newfstatat", "open", "openat", "openat2", "pause", "pidfd_open",
    "pidfd_send_signal", "pipe", "pipe2", "pkey_alloc", "pkey_free", "pkey_mprotect", "poll",
    "ppoll", "ppoll_time64", "prctl", "pread64", "preadv", "preadv2", "prlimit64",
    "process_mrelease", "pselect6", "pselect6_time64", "pwrite64", "pwritev", "pwritev2", "read",
    "readahead", "readlink", "readlinkat", "readv", "recv", "recvfrom", "recvmmsg",
    "recvmmsg_time64", "recvmsg", "remap_file_pages", "removexattr", "removexattrat", "rename",
    "renameat", "renameat2", "restart_syscall", "riscv_hwprobe", "rmdir", "rseq", "rt_sigaction",
    "rt_sigpending", "rt_sigprocmask", "rt_sigqueueinfo", "rt_sigreturn", "rt_sigsuspend",
    "rt_sigtimedwait", "rt_sigtimedwait_time64", "rt_tgsigqueueinfo", "sched_get_priority_max",
    "sched_get_priority_min", "sched_getaffinity", "sched_getattr", "sched_getparam",
    "sched_getscheduler", "sched_rr_get_interval", "sched_rr_get_interval_time64",
    "sched_setaffinity", "sched_setattr", "sched_setparam", "sched_setscheduler", "sched_yield",
    "seccomp", "select", "semctl", "semget", "semop", "semtimedop", "semtimedop_time64", "send",
    "sendfile", "sendfile64", "sendmmsg", "sendmsg", "sendto", "set_robust_list",
    "set_thread_area", "set_tid_address", "setfsgid", "setfsgid32", "setfsuid", "setfsuid32",
    "setgid", "setgid32", "setgroups", "setgroups32", "setitimer", "setpgid", "setpriority",
    "setregid", "setregid32", "setresgid", "setresgid32", "setresuid", "setresuid32", "setreuid",
    "setreuid32", "setrlimit", "setsid", "setsockopt", "setuid", "setuid32", "setxattr",
    "setxattrat", "shmat", "shmctl", "shmdt", "shmget", "shutdown", "sigaltstack", "signalfd",
    "signalfd4", "sigprocmask", "sigreturn", "socketcall", "socketpair", "splice", "stat",
    "stat64", "statfs", "statfs64", "statmount", "statx", "symlink", "symlinkat", "sync",
    "sync_file_range", "syncfs", "sysinfo", "tee", "tgkill", "time", "timer_create",
    "timer_delete", "timer_getoverrun", "timer_gettime", "timer_gettime64", "timer_settime",
    "timer_settime64", "timerfd_create", "timerfd_gettime", "timerfd_gettime64",
    "timerfd_settime", "timerfd_settime64", "times", "tkill", "truncate", "truncate64",
    "ugetrlimit", "umask", "uname", "unlink", "unlinkat", "uretprobe", "utime", "utimensat",
    "utimensat_time64", "utimes", "vfork", "vmsplice", "wait4", "waitid", "waitpid", "write",
    "writev",
];

/// What each capability of the bounding set adds.
#[rustfmt::skip]
const BY_CAPABILITY: [(&str, &[&str]); 14] = [
    ("CAP_DAC_READ_SEARCH", &["open_by_handle_at"]),
    ("CAP_SYS_ADMIN", &[
        "bpf", "clone", "clone3", "fanotify_init", "fsconfig", "fsmount", "fsopen", "fspick",
        "lookup_dcookie", "lsm_get_self_attr", "lsm_list_modules", "lsm_set_self_attr", "mount",
        "mount_setattr", "move_mount", "open_tree", "perf_event_open", "quotactl", "quotactl_fd",
        "setdomainname", "sethostname", "setns", "syslog", "umount", "umount2", "unshare",
    ]),
    ("CAP_SYS_BOOT", &["reboot"]),
    ("CAP_SYS_CHROOT", &["chroot"]),
    ("CAP_SYS_MODULE", &["delete_module", "finit_module", "init_module"]),
    ("CAP_SYS_PACCT", &["acct"]),
    ("CAP_SYS_PTRACE", &[
        "kcmp", "pidfd_getfd", "process_madvise", "process_vm_readv", "process_vm_writev", "ptrace",
    ]),
    ("CAP_SYS_RAWIO", &["ioperm", "iopl"]),
    ("CAP_SYS_TIME", &["clock_settime", "clock_settime64", "settimeofday", "stime"]),
    ("CAP_SYS_TTY_CONFIG", &["vhangup"]),
    ("CAP_SYS_NICE", &["get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"]),
    ("CAP_SYSLOG", &["syslog"]),
    ("CAP_BPF", &["bpf"]),
    ("CAP_PERFMON", &["perf_event_open"]),
];

/// What an architecture adds: calls, and the native architectures by Docker's name.
const BY_ARCH: [(&[&str], &[&str]); 6] = [
    (&["sync_file_range2", "swapcontext"], &["ppc64le"]),
    (
        &["arm_fadvise64_64", "arm_sync_file_range", "breakpoint", "cacheflush", "set_tls", "sync_file_range2"],
        &["arm", "arm64"],
    ),
    (&["arch_prctl"], &["amd64", "x32"]),
    (&["modify_ldt"], &["amd64", "x32", "x86"]),
    (&["s390_pci_mmio_read", "s390_pci_mmio_write", "s390_runtime_instr"], S390),
    (&["riscv_flush_icache"], &["riscv64"]),
];

/// Where clone(2) has its flags in the second argument.
const S390: &[&str] = &["s390", "s390x"];

/// Allowed socket families besides those below [`FIRST_SCARCE_FAMILY`] (linux/socket.h). Not among them:
/// DECnet 12, Econet 19, ATM SVC 20, IrDA 23, WANPIPE 25, ISDN 34, CAIF 37, ALG 38, VSOCK 40.
const FAMILIES: [u64; 25] =
    [13, 14, 15, 16, 17, 18, 21, 22, 24, 26, 27, 28, 29, 30, 31, 32, 33, 35, 36, 39, 41, 42, 43, 44, 45];
const FIRST_SCARCE_FAMILY: u64 = 12;

/// Execution domains programs ask for: PER_LINUX, PER_LINUX32, each with UNAME26, and the query.
const PERSONALITIES: [u64; 5] = [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
const CLONE_NEW_ANY: u64 = 0x7e02_0000;

const ENOSYS: u32 = 38;

fn rule(names: &[&'static str]) -> Rule {
    Rule {
        names: borrowed(names),
        name: None,
        action: Action::Allow,
        errno_ret: None,
        args: Vec::new(),
        includes: Conditions::default(),
        excludes: Conditions::default(),
    }
}

fn argument(name: &'static str, index: u32, op: Op, value: u64) -> Rule {
    Rule { args: vec![Arg { index, value, value_two: 0, op }], ..rule(&[name]) }
}

fn borrowed(names: &[&'static str]) -> Vec<Cow<'static, str>> {
    names.iter().copied().map(Cow::Borrowed).collect()
}

impl Profile {
    /// The profile a container gets unless it asks for another.
    pub fn docker_default() -> Profile {
        let traced = KernelVersion { major: 4, minor: 8 };
        let mut syscalls = vec![rule(&ALWAYS)];
        syscalls.push(Rule {
            includes: Conditions { min_kernel: Some(traced), ..Conditions::default() },
            ..rule(&["process_vm_readv", "process_vm_writev", "ptrace"])
        });
        syscalls.push(argument("socket", 0, Op::Less, FIRST_SCARCE_FAMILY));
        syscalls.extend(FAMILIES.map(|family| argument("socket", 0, Op::Equal, family)));
        syscalls.extend(PERSONALITIES.map(|domain| argument("personality", 0, Op::Equal, domain)));
        syscalls.extend(BY_ARCH.map(|(names, arches)| Rule {
            includes: Conditions { arches: borrowed(arches), ..Conditions::default() },
            ..rule(names)
        }));
        syscalls.extend(BY_CAPABILITY.map(|(cap, names)| Rule {
            includes: Conditions { caps: vec![Cow::Borrowed(cap)], ..Conditions::default() },
            ..rule(names)
        }));
        let unprivileged = || Conditions { caps: borrowed(&["CAP_SYS_ADMIN"]), ..Conditions::default() };
        // The flags of clone3 are behind a pointer: "no such call" makes libc fall back to clone.
        syscalls.push(Rule {
            excludes: Conditions { arches: borrowed(S390), ..unprivileged() },
            ..argument("clone", 0, Op::MaskedEqual, CLONE_NEW_ANY)
        });
        syscalls.push(Rule {
            includes: Conditions { arches: borrowed(S390), ..Conditions::default() },
            excludes: unprivileged(),
            ..argument("clone", 1, Op::MaskedEqual, CLONE_NEW_ANY)
        });
        syscalls.push(Rule {
            action: Action::Errno,
            errno_ret: Some(ENOSYS),
            excludes: unprivileged(),
            ..rule(&["clone3"])
        });
        let entry = |native, subs: &[&'static str]| ArchMapEntry {
            architecture: Cow::Borrowed(native),
            sub_architectures: borrowed(subs),
        };
        Profile {
            default_action: Some(Action::Errno),
            default_errno_ret: Some(1),
            arch_map: vec![
                entry("SCMP_ARCH_X86_64", &["SCMP_ARCH_X86", "SCMP_ARCH_X32"]),
                entry("SCMP_ARCH_AARCH64", &["SCMP_ARCH_ARM"]),
                entry("SCMP_ARCH_S390X", &["SCMP_ARCH_S390"]),
                entry("SCMP_ARCH_RISCV64", &[]),
                entry("SCMP_ARCH_LOONGARCH64", &[]),
            ],
            syscalls,
            ..Profile::default()
        }
    }
}
