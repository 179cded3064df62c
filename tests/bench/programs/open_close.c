// AMOUNT thousand times a file is opened, and closed: its own. Between two of them it is looked at by its name.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arguments.h"

int main(int argc, char** argv) {
  const long amount = 1000 * amount_of_work(argc, argv);
  long same = 0;
  for (long i = 0; i < amount; ++i) {
    struct stat named, opened;
    const int file = open(argv[0], O_RDONLY | O_CLOEXEC);
    if (stat(argv[0], &named) != 0 || fstat(file, &opened) != 0) return 1;
    same += named.st_ino == opened.st_ino;
    close(file);
  }
  printf("%ld of %ld\n", same, amount);
  return 0;
}
