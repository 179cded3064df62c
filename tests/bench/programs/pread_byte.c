// AMOUNT thousand system calls that only the host's kernel can answer: a byte of /dev/zero.
#include <fcntl.h>
#include <unistd.h>

#include "arguments.h"

int main(int argc, char** argv) {
  const long amount = 1000 * amount_of_work(argc, argv);
  const int zeros = open("/dev/zero", O_RDONLY | O_CLOEXEC);
  if (zeros < 0) return 1;
  long read = 0;
  for (long i = 0; i < amount; ++i) {
    char byte = 1;
    read += pread(zeros, &byte, 1, 0) == 1 && byte == 0;
  }
  printf("%ld of %ld\n", read, amount);
  return 0;
}
