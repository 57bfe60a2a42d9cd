// System calls and output without a C library, for x86-64 and for i386 (`int $0x80`, so that no 32-bit libraries are
// needed to build 32-bit attacks). Whoever includes this defines `run`, whose value is the exit code.
#pragma once
#include <asm/unistd.h>

static long run(void);

static long call(long number, long a, long b, long c, long d, long e, long f)
{
	long result;
#ifdef __x86_64__
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
#else
	// No attack has a sixth argument, whose register the compiler needs for itself.
	(void)f;
	__asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e) : "memory");
#endif
	return result;
}

__attribute__((unused)) static void say(const char *text)
{
	long length = 0;

	while (text[length])
		length++;
	call(__NR_write, 1, (long)text, length, 0, 0, 0);
}

__attribute__((unused)) static void say_number(long number)
{
	char text[24], *at = text + sizeof text - 1;
	unsigned long rest = number < 0 ? -(unsigned long)number : (unsigned long)number;

	for (*at = 0; at == text + sizeof text - 1 || rest; rest /= 10)
		*--at = '0' + rest % 10;
	if (number < 0)
		*--at = '-';
	say(at);
}

__attribute__((used)) static void enter(void)
{
	call(__NR_exit_group, run(), 0, 0, 0, 0, 0);
	__builtin_unreachable();
}

#ifdef __x86_64__
__asm__(".globl _start\n_start: xor %ebp,%ebp\n and $-16,%rsp\n call enter\n");
#else
__asm__(".globl _start\n_start: xor %ebp,%ebp\n and $-16,%esp\n call enter\n");
#endif
