// An ordinary static program that the monitor runs: it computes, prints, and tries what it may not.
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv) {
  char *memory = malloc(3 << 20);
  memset(memory, 'm', 3 << 20);
  printf("%d arguments, the last is %s; %c; %.3f\n", argc, argv[argc - 1], memory[1 << 20], sqrt(2.0 * argc));
  errno = 0;
  const int opened = open("/etc/passwd", O_RDONLY);
  printf("open: %d, %s\n", opened, strerror(errno));
  printf("fork: %d\n", (int)fork());
  fflush(stdout);
  if (argc > 2) *(volatile int *)16 = 1;
  return 7;
}
