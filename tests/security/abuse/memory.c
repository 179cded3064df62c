// Memory in every shape that a limit of memory knows: mappings, the heap, files in memory.
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include "tests/security/abuse/abuse.h"

enum { kMegabyte = 1 << 20 };

static int MapAll(int flags) {
  int megabytes = 0;
  for (;;) {
    char* const memory =
        mmap(NULL, kMegabyte, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return megabytes;
    for (int i = 0; i < kMegabyte; i += 4096) memory[i] = 1;
    if (++megabytes > kMostMegabytes) Escaped("memory");
  }
}

static int GrowHeap(void) {
  int megabytes = 0;
  while (sbrk(kMegabyte) != (void*)-1) {
    if (++megabytes > kMostMegabytes) Escaped("heap");
  }
  return megabytes;
}

static int FillFiles(const char* directory) {
  static char block[kMegabyte];
  char path[64];
  snprintf(path, sizeof(path), "%s/hog", directory);
  const int fd = open(path, O_WRONLY | O_CREAT, 0600);
  int megabytes = 0;
  while (write(fd, block, sizeof(block)) == (ssize_t)sizeof(block)) {
    if (++megabytes > kMostMegabytes) Escaped(directory);
  }
  return megabytes;
}

static void Tell(const char* what, int megabytes) {
  // Less than a program begins with is no answer.
  printf("%s: %s\n", what, megabytes >= 8 && megabytes <= 32 ? "up to its limit" : "no");
  fflush(stdout);
}

// For the driver's limit of 32 MiB. Each is a child, so that the next has room; a child of the
// child has no more than its parent.
int MemoryHog(void) {
  static const char* const kWays[] = {"private", "shared", "heap", "/tmp", "/dev/shm"};
  for (int way = 0; way < 5; ++way) {
    const pid_t child = fork();
    if (child == 0) {
      if (way == 0) Tell(kWays[way], MapAll(MAP_PRIVATE));
      if (way == 1) Tell(kWays[way], MapAll(MAP_SHARED));
      if (way == 2) Tell(kWays[way], GrowHeap());
      if (way >= 3) Tell(kWays[way], FillFiles(kWays[way]));
      if (way == 0 && fork() == 0) _exit(MapAll(MAP_PRIVATE) == 0 ? 0 : 9);
      int status = 0;
      if (way == 0) wait(&status);
      _exit(status == 0 ? 0 : 9);
    }
    int status = 0;
    waitpid(child, &status, 0);
    if (status != 0) printf("%s: status %x\n", kWays[way], (unsigned)status);
  }
  return 5;
}
