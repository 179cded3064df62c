// AMOUNT thousand system calls that do nothing.
#include <unistd.h>

#include "arguments.h"

int main(int argc, char** argv) {
  const long amount = 1000 * amount_of_work(argc, argv);
  const pid_t parent = getppid();
  long same = 0;
  for (long i = 0; i < amount; ++i) same += getppid() == parent;
  printf("%ld of %ld\n", same, amount);
  return 0;
}
