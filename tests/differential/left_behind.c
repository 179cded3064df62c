// Memory that a forked child does not get (MADV_DONTFORK): there is none for it, and its place is free.
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "expect.h"

enum { kPage = 4096, kPages = 5 };
static volatile char* area;

// What a child of its own has at a page: its first byte, or the signal that it gets.
static int look(int page) {
  fflush(stdout);
  const pid_t child = fork();
  if (child == 0) _exit(area[page * kPage]);
  int status = 0;
  EXPECT(waitpid(child, &status, 0) == child);
  return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static void show(const char* when) {
  printf("%s:", when);
  for (int page = 0; page < kPages; ++page) printf(" %d", look(page));
  printf("\n");
}

int main(void) {
  char* const start = mmap(NULL, kPages * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  EXPECT(start != MAP_FAILED);
  area = start;
  for (int page = 0; page < kPages; ++page) area[page * kPage] = (char)(page + 1);
  show("all");
  EXPECT(madvise(start + kPage, 3 * kPage, MADV_DONTFORK) == 0);
  show("without three");
  EXPECT(mprotect(start + kPage, kPage, PROT_READ) == 0);
  EXPECT(madvise(start + 2 * kPage, kPage, MADV_DOFORK) == 0);
  show("without two");
  fflush(stdout);

  const pid_t child = fork();
  if (child == 0) {
    char* const at = start + kPage;
    EXPECT(mmap(at, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == at);
    EXPECT(at[0] == 0);
    at[0] = 9;
    show("in a child with a new one");
    EXPECT(munmap(start + 3 * kPage, kPage) == 0);
    EXPECT(mremap(start + 3 * kPage, kPage, 2 * kPage, MREMAP_MAYMOVE) == MAP_FAILED && errno == EFAULT);
    return 0;
  }
  int status = 0;
  EXPECT(waitpid(child, &status, 0) == child && status == 0);
  EXPECT(area[kPage] == 2 && area[3 * kPage] == 4);
  return 0;
}
