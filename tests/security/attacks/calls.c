// Makes the system calls that open the kernel's less tested parts, and prints "NAME RESULT" for each. What it asks for
// is harmless where it is granted.
#include "bare.h"

#define CLONE_NEWUSER 0x10000000L
#define CLONE_NEWNS 0x00020000L
#define CLONE_NEWNET 0x40000000L
#define SIGCHLD 17

struct attempt {
	const char *name;
	long number, a, b, c, d, e;
};

static char zeros[256];
// struct clone_args (clone(2)): flags, then pidfd, child_tid, parent_tid, exit_signal and the rest.
static unsigned long long clone3_args[11] = { CLONE_NEWUSER, 0, 0, 0, SIGCHLD };
// struct io_uring_params and union bpf_attr are larger than nothing and may be zero.
static const struct attempt attempts[] = {
	{ "unshare-user", __NR_unshare, CLONE_NEWUSER },
	{ "unshare-mount", __NR_unshare, CLONE_NEWNS },
	{ "unshare-net", __NR_unshare, CLONE_NEWNET },
	{ "setns", __NR_setns, 0, 0 },
	{ "io_uring_setup", 425, 1, (long)zeros },
	{ "io_uring_enter", 426, -1 },
	{ "keyctl", __NR_keyctl, 0, -3, 0 }, // KEYCTL_GET_KEYRING_ID of the session keyring
	{ "add_key", __NR_add_key, (long)"user", (long)"attack", (long)"x", 1, -3 },
	{ "request_key", __NR_request_key, (long)"user", (long)"attack", 0, -3 },
	{ "userfaultfd", __NR_userfaultfd, 0 },
	{ "bpf", __NR_bpf, 5, (long)zeros, sizeof zeros }, // BPF_PROG_LOAD
	{ "perf_event_open", __NR_perf_event_open, (long)zeros, 0, -1, -1, 0 },
	{ "kexec_load", __NR_kexec_load, 0, 0, 0, 0 },
	{ "init_module", __NR_init_module, (long)zeros, 0, (long)zeros },
	{ "finit_module", __NR_finit_module, -1, (long)zeros, 0 },
	{ "delete_module", __NR_delete_module, (long)"nosuchmodule", 0 },
	{ "mount", __NR_mount, (long)"none", (long)"/tmp", (long)"tmpfs", 0, 0 },
	{ "umount2", __NR_umount2, (long)"/nosuch", 0 },
	{ "pivot_root", __NR_pivot_root, (long)"/", (long)"/" },
	{ "open_tree", 428, -100, (long)"/", 1 }, // OPEN_TREE_CLONE
	{ "move_mount", 429, -1, (long)"", -1, (long)"", 0 },
	{ "fsopen", 430, (long)"tmpfs", 0 },
	{ "mount_setattr", 442, -100, (long)"/", 0, (long)zeros, 32 },
	{ "open_by_handle_at", __NR_open_by_handle_at, -100, (long)zeros, 0 },
	{ "quotactl", __NR_quotactl, 0, 0, 0, 0 },
	{ "acct", __NR_acct, 0 },
	{ "swapon", __NR_swapon, (long)"/nosuch", 0 },
	{ "reboot", __NR_reboot, 0, 0, 0, 0 }, // without the magic numbers, so that it is never more than an error
	{ "settimeofday", __NR_settimeofday, 0, 0 },
	{ "clock_settime", __NR_clock_settime, 0, 0 },
	{ "syslog", __NR_syslog, 10, 0, 0 }, // SYSLOG_ACTION_SIZE_BUFFER
	{ "iopl", __NR_iopl, 0 },
	{ "ioperm", __NR_ioperm, 0, 1, 0 },
	{ "vhangup", __NR_vhangup },
	{ "fanotify_init", __NR_fanotify_init, 0, 0 },
	{ "lookup_dcookie", __NR_lookup_dcookie, 0, 0, 0 },
	{ "personality", __NR_personality, 0x0400000 }, // READ_IMPLIES_EXEC
	{ "kcmp", __NR_kcmp, 1, 1, 0, 0, 0 },
	{ "clone3-user", 435, (long)clone3_args, sizeof clone3_args },
};

static void report(const char *name, long result)
{
	say(name);
	say(" ");
	say_number(result > 0 ? 0 : result);
	say("\n");
}

static long run(void)
{
	long child;

	for (unsigned i = 0; i < sizeof attempts / sizeof *attempts; i++) {
		const struct attempt *at = &attempts[i];
		long result = call(at->number, at->a, at->b, at->c, at->d, at->e, 0);

		if (result == 0 && at->number == 435)
			return 0;
		report(at->name, result);
	}
	child = call(__NR_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0, 0);
	if (child == 0)
		return 0;
	report("clone-user", child);
	return 0;
}
