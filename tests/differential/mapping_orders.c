// Thousands of mmap, munmap, mprotect, mremap and madvise calls in orders that a seed decides, over an area of 256 pages. After
// each, pages are read, written and executed to see their rights. Prints a hash of everything observed; addresses count relative
// to the area.
//
//   mapping_orders [CALLS [SEED]]
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>

#include "expect.h"

enum { kPages = 256, kPage = 4096, kProbes = 2 };

static char* area;
static uint64_t state;
static uint64_t hash = 0xcbf29ce484222325;
static sigjmp_buf escape;
static volatile int fault_code;
static char* volatile fault_address;

static uint64_t pick(uint64_t below) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state % below;
}

static void observe(uint64_t value) { hash = (hash ^ value) * 0x100000001b3; }

static void observe_address(const void* address) {
  observe(address == MAP_FAILED ? (uint64_t)errno + 1000000 : (uint64_t)((const char*)address - area));
}

static void observe_result(int result) { observe(result == 0 ? 0 : (uint64_t)errno); }

static void on_fault(int signal, siginfo_t* info, void* context) {
  (void)context;
  fault_code = signal * 1000 + info->si_code;
  fault_address = info->si_addr;
  siglongjmp(escape, 1);
}

// 0 when the access works.
static int probe(volatile char* at, char how) {
  if (sigsetjmp(escape, 1) != 0) {
    observe_address(fault_address);
    return fault_code;
  }
  if (how == 'r') observe((uint64_t)(unsigned char)*at);
  if (how == 'w') *at = (char)0xc3;
  if (how == 'x') ((void (*)(void))(uintptr_t)at)();
  return 0;
}

static void look(uint64_t page) {
  volatile char* at = area + page * kPage;
  const int readable = probe(at, 'r');
  observe((uint64_t)readable);
  observe((uint64_t)probe(at, 'w'));
  if (readable == 0 && (unsigned char)*at == 0xc3) observe((uint64_t)probe(at, 'x'));
}

// Never execute-only: on processors with protection keys Linux makes such pages unreadable, on others not.
static int some_protection(void) {
  static const int choices[] = {PROT_NONE,
                                PROT_READ,
                                PROT_READ | PROT_WRITE,
                                PROT_READ | PROT_WRITE,
                                PROT_WRITE,
                                PROT_READ | PROT_EXEC,
                                PROT_READ | PROT_WRITE | PROT_EXEC};
  return choices[pick(sizeof(choices) / sizeof(choices[0]))];
}

static void one_call(void) {
  const uint64_t page = pick(kPages), length = 1 + pick(pick(4) == 0 ? kPages - page : (kPages - page < 8 ? kPages - page : 8));
  char* at = area + page * kPage;
  const uint64_t other = pick(kPages);
  switch (pick(10)) {
    case 0:
    case 1:
      observe_address(mmap(at, length * kPage, some_protection(), MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
      break;
    case 2:
      observe_address(
          mmap(at, length * kPage, some_protection(), MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0));
      break;
    case 3:
      observe_result(munmap(at, length * kPage));
      break;
    case 4:
    case 5:
    case 6:
      observe_result(mprotect(at, length * kPage, some_protection()));
      break;
    case 7:  // one page: what a longer range does depends on how the kernel merged its neighbours
      observe_address(mremap(at, kPage, kPage, MREMAP_MAYMOVE | MREMAP_FIXED, area + other * kPage));
      break;
    case 8:
      observe_address(mremap(at, kPage, 2 * kPage, 0));
      break;
    case 9:
      observe_result(madvise(at, length * kPage, MADV_DONTNEED));
      break;
  }
  look(page);
  for (int i = 1; i < kProbes; ++i) look(page + pick(length));
  if (pick(4) == 0) look(other);
}

int main(int argc, char** argv) {
  const int calls = argc > 1 ? atoi(argv[1]) : 4096;
  state = argc > 2 ? strtoull(argv[2], NULL, 0) : 20261121;
  struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
  EXPECT(sigaction(SIGSEGV, &action, NULL) == 0 && sigaction(SIGBUS, &action, NULL) == 0);
  // A page on each side that stays, so that growing past the end is refused.
  char* reserved = mmap(NULL, (kPages + 2) * kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  EXPECT(reserved != MAP_FAILED);
  area = reserved + kPage;
  EXPECT(munmap(area, kPages * kPage) == 0);
  for (int i = 0; i < calls; ++i) {
    one_call();
    if (i % 64 == 63) printf("%d %016lx\n", i + 1, (unsigned long)hash);
  }
  for (uint64_t page = 0; page < kPages; ++page) look(page);
  printf("end %016lx\n", (unsigned long)hash);
  return 0;
}
