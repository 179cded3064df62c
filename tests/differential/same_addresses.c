// personality(ADDR_NO_RANDOMIZE), as `setarch -R` asks for it: what is executed then lies at the same addresses every time, over fork, vfork
// and further exec, until it is taken back.
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/wait.h>
#include <unistd.h>

#include "expect.h"

enum { kParts = 6 };

struct Places {
  void* part[kParts];  // code, library, stack, heap, mapping, vDSO
};

static int tell(int fd) {
  int on_stack = 0;
  struct Places places = {{(void*)tell, (void*)(long)getauxval(AT_BASE), &on_stack, sbrk(0),
                           mmap(NULL, 1 << 16, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
                           (void*)getauxval(AT_SYSINFO_EHDR)}};
  return write(fd, &places, sizeof(places)) == sizeof(places) ? 0 : 1;
}

static struct Places run(pid_t (*start)(void), const char* how) {
  int ends[2];
  EXPECT(pipe(ends) == 0);
  char number[16];
  snprintf(number, sizeof(number), "%d", ends[1]);
  const pid_t child = start();
  if (child == 0) {
    execl("/proc/self/exe", "same_addresses", how, number, NULL);
    _exit(2);
  }
  EXPECT(child > 0);
  close(ends[1]);
  struct Places places;
  EXPECT(read(ends[0], &places, sizeof(places)) == sizeof(places));
  close(ends[0]);
  int status = 0;
  EXPECT(waitpid(child, &status, 0) == child && status == 0);
  return places;
}

static int is_same(const struct Places* a, const struct Places* b) { return memcmp(a, b, sizeof(*a)) == 0; }

int main(int count, char** words) {
  if (count == 3) {
    const int fd = atoi(words[2]);
    if (strcmp(words[1], "tell") == 0) return tell(fd);
    execl("/proc/self/exe", "same_addresses", "tell", words[2], NULL);
    return 3;
  }
  EXPECT((personality(0xffffffff) & ADDR_NO_RANDOMIZE) == 0);
  const struct Places random = run(fork, "tell");
  EXPECT((personality(ADDR_NO_RANDOMIZE) & ADDR_NO_RANDOMIZE) == 0);
  const struct Places fixed = run(fork, "tell");
  struct Places again = run(fork, "tell");
  EXPECT(is_same(&fixed, &again));
  EXPECT(!is_same(&fixed, &random));
  again = run(vfork, "tell");
  EXPECT(is_same(&fixed, &again));
  again = run(fork, "again");
  EXPECT(is_same(&fixed, &again));
  EXPECT((personality(0xffffffff) & ADDR_NO_RANDOMIZE) != 0);
  EXPECT((personality(0) & ADDR_NO_RANDOMIZE) != 0);
  again = run(fork, "tell");
  EXPECT(!is_same(&fixed, &again));
  printf("same addresses\n");
  return 0;
}
