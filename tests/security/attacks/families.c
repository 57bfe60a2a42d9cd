// Opens a socket of every family and type there is, and prints "FAMILY HOW RESULT" for each family: the descriptor's
// success as 0, else the smallest error any type met. HOW is `socket`; in the 32-bit build `socketcall` too, where the
// family is behind a pointer that no filter of system calls can follow; in the 64-bit build `x32`, the same call by
// its number of the x32 ABI; `high`, with a bit set above those the kernel looks at.
#include "bare.h"

#define FAMILIES 46
#define X32 0x40000000L

static const int types[] = { 1, 2, 3, 5 }; // SOCK_STREAM, DGRAM, RAW, SEQPACKET

enum how { SOCKET, SOCKETCALL, ABI_X32, HIGH };

static long one(enum how how, int family, int type, int protocol)
{
#ifdef __i386__
	if (how == SOCKETCALL) {
		long args[3] = { family, type, protocol };
		return call(__NR_socketcall, 1, (long)args, 0, 0, 0, 0);
	}
#else
	if (how == ABI_X32)
		return call(__NR_socket | X32, family, type, protocol, 0, 0, 0);
	if (how == HIGH)
		return call(__NR_socket, family | 1L << 32, type, protocol, 0, 0, 0);
#endif
	return call(__NR_socket, family, type, protocol, 0, 0, 0);
}

static void all(enum how how, const char *name)
{
	for (int family = 0; family < FAMILIES; family++) {
		long best = -100000;

		for (unsigned i = 0; i < sizeof types / sizeof *types; i++) {
			// PF_KEY wants its one protocol, ICMP and ALL stand for others that raw sockets want.
			static const int protocols[] = { 0, 2, 1, 3 };
			for (unsigned j = 0; j < sizeof protocols / sizeof *protocols; j++) {
				long fd = one(how, family, types[i], protocols[j]);
				if (fd >= 0) {
					call(__NR_close, fd, 0, 0, 0, 0, 0);
					fd = 0;
				}
				best = fd > best ? fd : best;
			}
		}
		say_number(family);
		say(" ");
		say(name);
		say(" ");
		say_number(best);
		say("\n");
	}
}

static long run(void)
{
	all(SOCKET, "socket");
#ifdef __i386__
	all(SOCKETCALL, "socketcall");
#else
	all(ABI_X32, "x32");
	all(HIGH, "high");
#endif
	return 0;
}
