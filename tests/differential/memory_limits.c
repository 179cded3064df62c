// RLIMIT_AS and RLIMIT_DATA that a program sets for itself: what they refuse, and that a child and the next program have
// them, too.
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/wait.h>
#include <unistd.h>

#include "expect.h"

#define MIB ((size_t)1 << 20)

enum { kPrivate = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, kBoth = PROT_READ | PROT_WRITE };

static void* map(size_t size, int rights, int flags) { return mmap(NULL, size, rights, flags, -1, 0); }

static int is_refused(const void* mapped) { return mapped == MAP_FAILED && errno == ENOMEM; }

static void limit(int resource, size_t bytes) {
  struct rlimit now;
  EXPECT(getrlimit(resource, &now) == 0);
  now.rlim_cur = bytes;
  EXPECT(setrlimit(resource, &now) == 0);
}

static void check_child(const char* program, const char* word) {
  int status = 0;
  const pid_t child = fork();
  EXPECT(child >= 0);
  if (child == 0) {
    EXPECT(is_refused(map(512 * MIB, kBoth, kPrivate)));
    execl("/proc/self/exe", program, word, NULL);
    _exit(9);
  }
  EXPECT(waitpid(child, &status, 0) == child);
  EXPECT(status == 0);
}

static void all_addresses(const char* program) {
  limit(RLIMIT_AS, 256 * MIB);
  EXPECT(is_refused(map(512 * MIB, PROT_NONE, kPrivate)));
  EXPECT(is_refused(map(512 * MIB, PROT_READ, MAP_SHARED | MAP_ANONYMOUS)));
  char* const area = map(64 * MIB, PROT_NONE, kPrivate);
  EXPECT(area != MAP_FAILED);
  EXPECT(is_refused(map(200 * MIB, PROT_NONE, kPrivate)));
  EXPECT(is_refused(mremap(area, 64 * MIB, 300 * MIB, MREMAP_MAYMOVE)));
  EXPECT(mmap(area, 64 * MIB, kBoth, kPrivate | MAP_FIXED, -1, 0) == area);
  EXPECT(sbrk(512 * MIB) == (void*)-1 && errno == ENOMEM);
  EXPECT(sbrk(16 * MIB) != (void*)-1);
  const int segment = shmget(IPC_PRIVATE, 300 * MIB, 0600);
  if (segment >= 0) {
    EXPECT(shmat(segment, NULL, 0) == (void*)-1 && errno == ENOMEM);
    EXPECT(shmctl(segment, IPC_RMID, NULL) == 0);
  }
  check_child(program, "addresses");
  // Less than there is: nothing more, but what is there stays.
  limit(RLIMIT_AS, MIB);
  EXPECT(is_refused(map(4096, PROT_NONE, kPrivate)));
  EXPECT(mprotect(area, MIB, PROT_READ) == 0 && mprotect(area, MIB, kBoth) == 0);
  EXPECT(munmap(area, 64 * MIB) == 0);
  limit(RLIMIT_AS, RLIM_INFINITY);
  char* const large = map(512 * MIB, PROT_NONE, kPrivate);
  EXPECT(large != MAP_FAILED && munmap(large, 512 * MIB) == 0);
  printf("RLIMIT_AS\n");
}

static void data(const char* program) {
  limit(RLIMIT_DATA, 64 * MIB);
  char* const area = map(8 * MIB, kBoth, kPrivate);
  EXPECT(area != MAP_FAILED);
  memset(area, 1, 8 * MIB);
  EXPECT(is_refused(map(100 * MIB, kBoth, kPrivate)));
  char* const read_only = map(100 * MIB, PROT_READ, kPrivate);
  EXPECT(read_only != MAP_FAILED);
  EXPECT(mprotect(read_only, 100 * MIB, kBoth) == -1 && errno == ENOMEM);
  EXPECT(mprotect(read_only, 8 * MIB, kBoth) == 0);
  EXPECT(mprotect(read_only, 8 * MIB, PROT_READ) == 0);
  EXPECT(map(100 * MIB, kBoth, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE) != MAP_FAILED);
  EXPECT(is_refused(mremap(area, 8 * MIB, 100 * MIB, MREMAP_MAYMOVE)));
  EXPECT(sbrk(100 * MIB) == (void*)-1 && errno == ENOMEM);
  check_child(program, "data");
  limit(RLIMIT_DATA, RLIM_INFINITY);
  EXPECT(map(100 * MIB, kBoth, kPrivate) != MAP_FAILED);
  printf("RLIMIT_DATA\n");
}

// The next program.
static int executed(const char* what) {
  struct rlimit now;
  EXPECT(getrlimit(strcmp(what, "data") == 0 ? RLIMIT_DATA : RLIMIT_AS, &now) == 0);
  EXPECT(now.rlim_cur == (strcmp(what, "data") == 0 ? 64 : 256) * MIB);
  EXPECT(is_refused(map(512 * MIB, kBoth, kPrivate)));
  char* const area = map(8 * MIB, kBoth, kPrivate);
  EXPECT(area != MAP_FAILED);
  memset(area, 1, 8 * MIB);
  return 0;
}

int main(int argc, char** argv) {
  if (argc > 1) return executed(argv[1]);
  all_addresses(argv[0]);
  data(argv[0]);
  return 0;
}
