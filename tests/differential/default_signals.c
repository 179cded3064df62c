// Ends by the default action of a signal, or by a fault without a handler.
//
//   default_signals NUMBER | segv | fpe | ill | trap | bus | abort | blocked-segv | ignored-segv
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "expect.h"

static void fault(const char* how) {
  if (strcmp(how, "segv") == 0) *(volatile int*)8 = 1;
  if (strcmp(how, "fpe") == 0) __asm__ volatile("xor %%eax, %%eax; xor %%edx, %%edx; div %%eax" ::: "eax", "edx", "cc");
  if (strcmp(how, "ill") == 0) __asm__ volatile("ud2");
  if (strcmp(how, "trap") == 0) __asm__ volatile("int3");
  if (strcmp(how, "abort") == 0) abort();
  if (strcmp(how, "bus") == 0) {
    int file = open("empty", O_RDWR | O_CREAT, 0600);
    char* page = mmap(NULL, 4096, PROT_READ, MAP_SHARED, file, 0);
    EXPECT(page != MAP_FAILED);
    (void)*(volatile char*)page;
  }
  // A fault that is blocked or ignored kills all the same.
  if (strcmp(how, "blocked-segv") == 0) {
    sigset_t set;
    sigfillset(&set);
    EXPECT(sigprocmask(SIG_SETMASK, &set, NULL) == 0);
    *(volatile int*)8 = 1;
  }
  if (strcmp(how, "ignored-segv") == 0) {
    EXPECT(signal(SIGSEGV, SIG_IGN) != SIG_ERR);
    *(volatile int*)8 = 1;
  }
}

int main(int argc, char** argv) {
  EXPECT(argc == 2);
  const int number = atoi(argv[1]);
  printf("%s\n", argv[1]);
  fflush(stdout);
  if (number == 0) {
    fault(argv[1]);
  } else {
    // Not raise(): libc keeps some numbers for itself.
    EXPECT(syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), number) == 0);
  }
  printf("%s went by\n", argv[1]);
  return 3;
}
