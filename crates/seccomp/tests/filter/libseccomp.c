/*
 * Feeds profiles to libseccomp and prints what it makes of them. Requests come as lines on standard input and
 * answers go to standard output; the test beside this file is the only caller.
 *
 *   number ARCH NAME         -> the number seccomp_syscall_resolve_name_arch(3) knows, or "none"
 *   name ARCH NUMBER         -> the name seccomp_syscall_resolve_num_arch(3) knows, or "none"
 *   filter DEFAULT BADARCH OPTIMIZE TIMES ARCHES RULES, followed by
 *     arch NAME              (ARCHES lines)
 *     rule ACTION NAME COMPARISONS [INDEX OP A B]...   (RULES lines)
 *                            -> "program LENGTH NANOSECONDS" and the bytes of the program,
 *                               "refused ERRNO RULE" (RULE -1: not by a rule), or
 *                               "exhausted" if it takes more than SECONDS of processor time: what libseccomp
 *                               does grows exponentially with the number of comparisons in a rule
 *
 * Actions and values are hexadecimal; names are those of libseccomp. A filter is built TIMES times over and the
 * nanoseconds are the processor time of one building, from seccomp_init to seccomp_export_bpf.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SECONDS 2

struct rule {
	uint32_t action;
	char name[64];
	unsigned int count;
	struct scmp_arg_cmp args[6];
};

static void fail(const char *what)
{
	fprintf(stderr, "cannot read %s\n", what);
	exit(2);
}

static int64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static void read_rule(struct rule *rule)
{
	unsigned int n, index;
	int op;
	uint64_t a, b;

	if (scanf(" rule %" SCNx32 " %63s %u", &rule->action, rule->name, &rule->count) != 3 || rule->count > 6)
		fail("a rule");
	for (n = 0; n < rule->count; n++) {
		if (scanf(" %u %d %" SCNx64 " %" SCNx64, &index, &op, &a, &b) != 4)
			fail("a comparison");
		rule->args[n] = SCMP_CMP64(index, op, a, b);
	}
}

/* Builds a filter into fd. Returns 0, or an errno with the rule it is about in *at. */
static int build(int fd, uint32_t action, uint32_t badarch, unsigned int optimize, const uint32_t *arches, int n_arches,
		 const struct rule *rules, int n_rules, int *at)
{
	scmp_filter_ctx ctx = seccomp_init(action);
	int n, nr, rc;

	*at = -1;
	if (ctx == NULL)
		return EINVAL;
	rc = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_NNP, 0);
	if (rc == 0)
		rc = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, badarch);
	if (rc == 0 && optimize == 2)
		rc = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, optimize);
	/* The native architecture is there unasked, and none of other byte order may join it. */
	if (rc == 0)
		rc = seccomp_arch_remove(ctx, SCMP_ARCH_NATIVE);
	for (n = 0; rc == 0 && n < n_arches; n++)
		rc = arches[n] == 0 ? -EDOM : seccomp_arch_add(ctx, arches[n]);
	for (n = 0; rc == 0 && n < n_rules; n++) {
		nr = seccomp_syscall_resolve_name(rules[n].name);
		if (nr == __NR_SCMP_ERROR)
			continue;
		*at = n;
		rc = seccomp_rule_add_array(ctx, rules[n].action, nr, rules[n].count, rules[n].args);
	}
	if (rc == 0) {
		*at = -1;
		rc = seccomp_export_bpf(ctx, fd);
	}
	seccomp_release(ctx);
	return -rc;
}

/* Reads and answers the rest of a request. */
static void filter(void)
{
	const struct rlimit limit = { SECONDS, SECONDS };
	uint32_t action, badarch, *arches;
	unsigned int optimize;
	int n, n_arches, n_rules, times, fd, status, at = -1, error = 0;
	struct rule *rules;
	char name[64], *bytes;
	int64_t spent = 0;
	off_t length;
	pid_t child;

	if (scanf(" %" SCNx32 " %" SCNx32 " %u %d %d %d", &action, &badarch, &optimize, &times, &n_arches, &n_rules) != 6)
		fail("a filter");
	arches = calloc(n_arches + 1, sizeof(*arches));
	rules = calloc(n_rules + 1, sizeof(*rules));
	if (arches == NULL || rules == NULL)
		fail("so much");
	for (n = 0; n < n_arches; n++) {
		if (scanf(" arch %63s", name) != 1)
			fail("an architecture");
		arches[n] = seccomp_arch_resolve_name(name);
	}
	for (n = 0; n < n_rules; n++)
		read_rule(&rules[n]);
	child = fork();
	if (child < 0)
		fail("a child");
	if (child > 0) {
		if (waitpid(child, &status, 0) != child || (WIFEXITED(status) && WEXITSTATUS(status) != 0))
			fail("a child's answer");
		if (WIFSIGNALED(status))
			puts("exhausted");
		free(arches);
		free(rules);
		return;
	}
	setrlimit(RLIMIT_CPU, &limit);
	fd = memfd_create("program", MFD_CLOEXEC);
	for (n = 0; n < times && error == 0; n++) {
		if (ftruncate(fd, 0) < 0 || lseek(fd, 0, SEEK_SET) < 0)
			fail("memory");
		spent -= now();
		error = build(fd, action, badarch, optimize, arches, n_arches, rules, n_rules, &at);
		spent += now();
	}
	if (error != 0) {
		printf("refused %d %d\n", error, at);
	} else {
		length = lseek(fd, 0, SEEK_END);
		bytes = malloc(length + 1);
		if (bytes == NULL || pread(fd, bytes, length, 0) != length)
			fail("the program");
		printf("program %lld %" PRId64 "\n", (long long)length, spent / times);
		fwrite(bytes, 1, length, stdout);
	}
	fflush(stdout);
	_exit(0);
}

int main(void)
{
	char word[16], arch[64], name[64], *known;
	uint32_t token;
	int nr;

	while (scanf(" %15s", word) == 1) {
		if (strcmp(word, "filter") == 0) {
			filter();
		} else if (strcmp(word, "number") == 0 && scanf(" %63s %63s", arch, name) == 2) {
			/* 0 would mean the native one. */
			token = seccomp_arch_resolve_name(arch);
			nr = token == 0 ? __NR_SCMP_ERROR : seccomp_syscall_resolve_name_arch(token, name);
			if (nr == __NR_SCMP_ERROR)
				puts("none");
			else
				printf("%d\n", nr);
		} else if (strcmp(word, "name") == 0 && scanf(" %63s %d", arch, &nr) == 2) {
			token = seccomp_arch_resolve_name(arch);
			known = token == 0 ? NULL : seccomp_syscall_resolve_num_arch(token, nr);
			puts(known == NULL ? "none" : known);
			free(known);
		} else {
			fail(word);
		}
		fflush(stdout);
	}
	return 0;
}
