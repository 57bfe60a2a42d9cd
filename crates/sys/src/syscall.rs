//! Numbers of system calls on the architecture this is built for, as a seccomp program meets them.
//! Called by `shim`, whose filter names what it still needs.

macro_rules! numbers {
    ($($name:ident = $number:ident,)*) => {$(
        #[doc = concat!("`", stringify!($number), "`")]
        pub const $name: u32 = libc::$number as u32;
    )*};
}

numbers! {
    ACCEPT4 = SYS_accept4,
    BRK = SYS_brk,
    CLOCK_GETTIME = SYS_clock_gettime,
    CLOSE = SYS_close,
    EPOLL_CTL = SYS_epoll_ctl,
    EPOLL_PWAIT = SYS_epoll_pwait,
    EXIT_GROUP = SYS_exit_group,
    FCNTL = SYS_fcntl,
    FSTAT = SYS_fstat,
    FTRUNCATE = SYS_ftruncate,
    GETSOCKOPT = SYS_getsockopt,
    IOCTL = SYS_ioctl,
    MADVISE = SYS_madvise,
    MMAP = SYS_mmap,
    MREMAP = SYS_mremap,
    MUNMAP = SYS_munmap,
    OPENAT = SYS_openat,
    PIDFD_SEND_SIGNAL = SYS_pidfd_send_signal,
    PIPE2 = SYS_pipe2,
    PPOLL = SYS_ppoll,
    PREAD64 = SYS_pread64,
    PTRACE = SYS_ptrace,
    READ = SYS_read,
    RECVMSG = SYS_recvmsg,
    RENAMEAT2 = SYS_renameat2,
    SENDMSG = SYS_sendmsg,
    SOCKETPAIR = SYS_socketpair,
    WAIT4 = SYS_wait4,
    WRITE = SYS_write,
}
