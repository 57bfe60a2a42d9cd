// Exchanges two names without a moment in which either is missing, for ever: what a container does that shares a
// directory with one that is being made. Usage: swap A B
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>

int main(int argc, char **argv)
{
	if (argc != 3)
		return 2;
	// Not a moment longer than the test.
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (renameat2(AT_FDCWD, argv[1], AT_FDCWD, argv[2], RENAME_EXCHANGE) == 0)
		;
	perror("renameat2");
	return 1;
}
