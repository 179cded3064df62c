// RLIMIT_DATA of a program's own: what it gives itself, its children and the program that it becomes may have.
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "expect.h"

enum { kMebibyte = 1 << 20, kLimit = 24 };

static int map(int prot, int mebibytes) {
  void* const place = mmap(NULL, (size_t)mebibytes * kMebibyte, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (place == MAP_FAILED) return errno;
  const int error = prot == PROT_NONE && mprotect(place, (size_t)mebibytes * kMebibyte, PROT_READ | PROT_WRITE) != 0 ? errno : 0;
  EXPECT(munmap(place, (size_t)mebibytes * kMebibyte) == 0);
  return error;
}

static void show(const char* who) {
  struct rlimit limit;
  EXPECT(getrlimit(RLIMIT_DATA, &limit) == 0);
  const int is_refused = sbrk(2 * kLimit * kMebibyte) == (void*)-1;
  printf("%s: %llu, mapped %d, %d, given rights %d, heap %d\n", who, (unsigned long long)limit.rlim_cur,
         map(PROT_READ | PROT_WRITE, kLimit / 2), map(PROT_READ | PROT_WRITE, 2 * kLimit), map(PROT_NONE, 2 * kLimit),
         is_refused);
  fflush(stdout);
}

int main(int argc, char** argv) {
  if (argc > 1) {
    show(argv[1]);
    return 0;
  }
  struct rlimit limit;
  EXPECT(getrlimit(RLIMIT_DATA, &limit) == 0);
  limit.rlim_cur = kLimit * kMebibyte;
  EXPECT(setrlimit(RLIMIT_DATA, &limit) == 0);
  show("itself");
  const pid_t child = fork();
  if (child == 0) {
    show("child");
    execl(argv[0], argv[0], "program", NULL);
    _exit(9);
  }
  int status = 0;
  EXPECT(waitpid(child, &status, 0) == child);
  printf("%x\n", (unsigned)status);
  limit.rlim_cur = limit.rlim_max;
  EXPECT(setrlimit(RLIMIT_DATA, &limit) == 0);
  EXPECT(map(PROT_READ | PROT_WRITE, 2 * kLimit) == 0);
  return 0;
}
