/* maxrss FILE PROGRAM ARGS: runs the program and writes the largest resident set that it or a child
   it waited for had, in KiB (getrusage(2), ru_maxrss). A program of its own, because a new process
   counts what it was forked from as its own: this one is as small as can be. */
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct rusage usage;
	int status;
	FILE *out;
	pid_t child;

	if (argc < 3)
		return 125;
	child = vfork();
	if (child == 0) {
		execv(argv[2], argv + 2);
		_exit(127);
	}
	if (child < 0 || wait4(child, &status, 0, &usage) != child)
		return 125;
	out = fopen(argv[1], "w");
	if (!out || fprintf(out, "%ld\n", usage.ru_maxrss) < 0 || fclose(out) != 0)
		return 125;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 126;
}
