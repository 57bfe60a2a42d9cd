/* The container's program: ends at once, or with any argument waits for a signal. Linked statically,
   so that its own start does not hide the runtime's. */
#include <unistd.h>

int main(int argc, char **argv)
{
	(void)argv;
	if (argc > 1)
		pause();
	return 0;
}
