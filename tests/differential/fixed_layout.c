// A program that wants no randomization (setarch -R, Lisp systems that execute themselves again): every execution finds the same
// addresses, and whose wish it was is asked of the thread, its children and what they execute.
#include <pthread.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/wait.h>
#include <unistd.h>

#include "expect.h"

#define ASK 0xffffffff

static int flags(void) { return personality(ASK); }

// Of code, stack, heap and mappings.
static void print_addresses(void) {
  char* const heap = sbrk(0);
  void* const mapping = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  printf("%p %p %p %p\n", (void*)print_addresses, (void*)&heap, (void*)heap, mapping);
}

// What it writes when it is executed; `asked`: with the flag.
static void execute(const char* self, int asked, char* text, size_t size) {
  int ends[2];
  EXPECT(pipe(ends) == 0);
  const pid_t child = fork();
  EXPECT(child >= 0);
  if (child == 0) {
    EXPECT(personality(asked ? ADDR_NO_RANDOMIZE : 0) >= 0);
    dup2(ends[1], 1);
    close(ends[0]);
    close(ends[1]);
    execl(self, self, "addresses", asked ? "fixed" : "random", NULL);
    _exit(9);
  }
  close(ends[1]);
  size_t length = 0;
  for (ssize_t got; (got = read(ends[0], text + length, size - 1 - length)) > 0;) length += (size_t)got;
  text[length] = 0;
  close(ends[0]);
  int status;
  EXPECT(waitpid(child, &status, 0) == child && status == 0);
  EXPECT(length > 10);
}

static void* of_thread(void* unused) {
  (void)unused;
  EXPECT(flags() == ADDR_NO_RANDOMIZE);  // its maker's
  EXPECT(personality(0) == ADDR_NO_RANDOMIZE && flags() == 0);
  return NULL;
}

int main(int argc, char** argv) {
  if (argc > 1) {
    EXPECT(flags() == (strcmp(argv[2], "fixed") == 0 ? ADDR_NO_RANDOMIZE : 0));
    print_addresses();
    return 0;
  }
  EXPECT(flags() == 0);
  EXPECT(personality(ADDR_NO_RANDOMIZE | STICKY_TIMEOUTS) == 0);
  EXPECT(personality(ADDR_NO_RANDOMIZE) == (ADDR_NO_RANDOMIZE | STICKY_TIMEOUTS));
  EXPECT(flags() == ADDR_NO_RANDOMIZE);

  pthread_t thread;
  EXPECT(pthread_create(&thread, NULL, of_thread, NULL) == 0 && pthread_join(thread, NULL) == 0);
  EXPECT(flags() == ADDR_NO_RANDOMIZE);

  const pid_t child = fork();
  if (child == 0) _exit(flags() == ADDR_NO_RANDOMIZE ? 3 : 4);
  int status;
  EXPECT(waitpid(child, &status, 0) == child);
  printf("child: %d\n", WEXITSTATUS(status));

  char first[400], second[400];
  execute("/proc/self/exe", 1, first, sizeof(first));
  execute("/proc/self/exe", 1, second, sizeof(second));
  printf("fixed: %s\n", strcmp(first, second) == 0 ? "the same" : "different");
  execute("/proc/self/exe", 0, first, sizeof(first));
  execute("/proc/self/exe", 0, second, sizeof(second));
  printf("random: %s\n", strcmp(first, second) == 0 ? "the same" : "different");
  return 0;
}
