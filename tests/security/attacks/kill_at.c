// Runs a program and kills it, or the process it makes, when it enters its Nth system call. Others go on untouched:
// what a crash or the OOM killer does to one process at the worst moment. Usage:
//
//   kill_at self|child N PROGRAM ARGUMENTS...
//
// `self` counts the calls of the program (over its execve of another), `child` those of the processes it makes, all
// together. Prints the number of the system call it stopped at on descriptor 2 as "killed PID at CALL"; ends with 0 when
// it killed, with 9 when the program was done before, with 2 when it could not work.
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#define OPTIONS \
	(PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEEXEC | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE)

static void fail(const char *what)
{
	perror(what);
	exit(2);
}

int main(int argc, char **argv)
{
	int of_child, status, done = 0, code = 9;
	long left;
	pid_t program, pid;

	if (argc < 4)
		return 2;
	of_child = !strcmp(argv[1], "child");
	left = atol(argv[2]);
	program = fork();
	if (program < 0)
		fail("fork");
	if (program == 0) {
		if (ptrace(PTRACE_TRACEME, 0, 0, 0))
			fail("PTRACE_TRACEME");
		raise(SIGSTOP);
		execvp(argv[3], argv + 3);
		fail(argv[3]);
	}
	if (waitpid(program, &status, 0) != program || !WIFSTOPPED(status))
		fail("waitpid");
	// Without following forks the others are never stopped, and never slowed down.
	if (ptrace(PTRACE_SETOPTIONS, program, 0, of_child ? OPTIONS : PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEEXEC))
		fail("PTRACE_SETOPTIONS");
	if (ptrace(PTRACE_SYSCALL, program, 0, 0))
		fail("PTRACE_SYSCALL");
	while ((pid = waitpid(-1, &status, __WALL)) > 0) {
		int signal, pass = 0;

		if (!WIFSTOPPED(status)) {
			if (pid == program)
				break;
			continue;
		}
		signal = WSTOPSIG(status);
		if (signal == (SIGTRAP | 0x80)) {
			struct __ptrace_syscall_info info;

			if (!done && (pid == program) != of_child &&
			    ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof info, &info) > 0 &&
			    info.op == PTRACE_SYSCALL_INFO_ENTRY && --left == 0) {
				fprintf(stderr, "killed %d at %llu\n", pid, (unsigned long long)info.entry.nr);
				kill(pid, SIGKILL);
				done = 1;
				code = 0;
				continue;
			}
		} else if (signal == SIGSTOP || status >> 16) {
			// The first stop of a new process, or the news of one.
		} else {
			pass = signal;
		}
		ptrace(done ? PTRACE_CONT : PTRACE_SYSCALL, pid, 0, pass);
	}
	return code;
}
