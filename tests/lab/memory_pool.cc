// Anonymous memory that one thread maps, protects, discards, moves and unmaps in orders that a seed decides,
// against a model of every page: what is there, with what rights and content. Accesses that must fault do,
// with the right address and code, in handlers too; handlers repair what they were called for, and a timer's
// signal does the same with memory of its own on a stack of such memory. System calls get these pages as
// buffers, /proc/self/maps is compared with the model, and forked children go on with it.
//
//   memory_pool [STEPS [SEED]]
//
// Says nothing and exits 0 when all is well, natively as in the sandbox.
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <iterator>
#include <vector>

namespace {

constexpr std::uint64_t kPage = 4096;
constexpr unsigned kMostDepth = 3;

[[noreturn]] void Fail(const char* what, std::uint64_t a = 0, std::uint64_t b = 0) {
  fprintf(stderr, "wrong: %s (0x%lx, 0x%lx, errno %d)\n", what, a, b, errno);
  _exit(1);
}

class Choices {
 public:
  explicit Choices(std::uint64_t seed) : state_(seed * 0x9e37'79b9'7f4a'7c15 + 1) {}
  std::uint64_t Below(std::uint64_t limit) {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return state_ % limit;
  }
  int Rights() {
    constexpr int kRights[] = {PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE};
    return kRights[Below(std::size(kRights))];
  }

 private:
  std::uint64_t state_;
};

struct Page {
  bool mapped = false;
  int rights = 0;
  std::uint64_t value = 0;  // of its first word
};

struct Region {
  std::uint64_t base = 0;
  std::vector<Page> pages;
  bool virgin = true;  // one mapping of the kernel's, whatever has happened

  std::uint64_t At(std::size_t page) const { return base + page * kPage; }
  volatile std::uint64_t* Word(std::size_t page) const {
    return reinterpret_cast<volatile std::uint64_t*>(At(page));
  }
};

// The access that is being made, and what its fault must be.
struct Access {
  std::uint64_t address = 0;
  int code = 0;           // 0: none may come
  Region* region = nullptr;  // to be repaired by the handler; null: the handler leaves
  std::size_t page = 0;
  sigjmp_buf escape;
  Access* before = nullptr;
};

Access* volatile current = nullptr;
unsigned depth = 0;
volatile sig_atomic_t in_timer = 0;
Choices fault_choices(7);
std::vector<Region> regions(24);

struct Span {
  std::size_t first, end;
};

// The handlers' stack, while it is memory of the kind.
constexpr std::size_t kStackBytes = 256 * 1024;
std::uint64_t handler_stack = 0;

// Holes may have become another region's.
bool HolesAreFree(const Region& region, const Span& span) {
  for (std::size_t page = span.first; page < span.end; ++page) {
    if (region.pages[page].mapped) continue;
    if (handler_stack != 0 && region.At(page) - handler_stack < kStackBytes) return false;
    for (const Region& other : regions) {
      const std::uint64_t distance = region.At(page) - other.base;
      if (&other != &region && !other.pages.empty() && distance < other.pages.size() * kPage &&
          other.pages[distance / kPage].mapped) {
        return false;
      }
    }
  }
  return true;
}

void* Call(void* result, const char* what) {
  if (result == MAP_FAILED) Fail(what);
  return result;
}

// ---- single pages -------------------------------------------------------------------------------

int ExpectedCode(const Page& page, bool write) {
  if (!page.mapped) return SEGV_MAPERR;
  const int needed = write ? PROT_WRITE : PROT_READ;
  return (page.rights & needed) != 0 ? 0 : SEGV_ACCERR;
}

constexpr unsigned kUsualMode = 0x1f80;   // MXCSR of a fresh process, and so of a handler
constexpr unsigned kOwnMode = 0x5f80;     // rounds up

// The access alone, with marks in registers that whoever handles its fault must give back.
std::uint64_t AccessWord(volatile std::uint64_t* word, bool write, std::uint64_t value) {
  constexpr std::uint64_t kMark = 0x1122'3344'5566'7788;
  std::uint64_t general = kMark, vector = 0;
  unsigned mode = kOwnMode;
  bool carry = false;
  const unsigned usual = kUsualMode;
#define MARKED(ACCESS)                                                                      \
  asm volatile(                                                                             \
      "ldmxcsr %[mode]\n\tmovq %[general], %%xmm7\n\t"                                  \
      "movq %[general], %%rcx\n\tmovq %[general], %%r8\n\tmovq %[general], %%r9\n\t"  \
      "movq %[general], %%r10\n\tmovq %[general], %%r11\n\tstc\n\t" ACCESS "\n\t"   \
      "setc %[carry]\n\tmovq %%xmm7, %[vector]\n\tstmxcsr %[mode]\n\t"                \
      "ldmxcsr %[usual]\n\tandq %%rcx, %[general]\n\tandq %%r8, %[general]\n\t"       \
      "andq %%r9, %[general]\n\tandq %%r10, %[general]\n\tandq %%r11, %[general]"       \
      : [general] "+r"(general), [vector] "=&r"(vector), [mode] "+m"(mode),                 \
        [carry] "=&q"(carry), [value] "+r"(value)                                           \
      : [usual] "m"(usual), [word] "r"(word)                                                \
      : "rcx", "r8", "r9", "r10", "r11", "xmm7", "memory", "cc")
  if (write) {
    MARKED("movq %[value], (%[word])");
  } else {
    MARKED("movq (%[word]), %[value]");
  }
#undef MARKED
  if (general != kMark || vector != kMark || mode != kOwnMode || !carry) {
    Fail("registers were not given back", general, vector);
  }
  return value;
}

// Reads or writes the page's first word and compares; the model follows a repair.
void Touch(Region& region, std::size_t page, bool write, bool repair, Choices& choices) {
  Access access;
  access.address = region.At(page);
  access.code = ExpectedCode(region.pages[page], write);
  access.region = repair ? &region : nullptr;
  access.page = page;
  access.before = current;
  const std::uint64_t value = choices.Below(~std::uint64_t{0});
  const unsigned outer = depth;
  if (sigsetjmp(access.escape, 1) == 0) {
    current = &access;
    if (write) {
      AccessWord(region.Word(page), true, value);
      region.pages[page].value = value;
    } else if (const std::uint64_t seen = AccessWord(region.Word(page), false, 0);
               seen != region.pages[page].value) {
      Fail("a page has another content", seen, region.pages[page].value);
    }
    if (access.code != 0 && !repair) Fail("an access was let through", access.address);
  } else if (access.code == 0) {
    Fail("an access was not let through", access.address);
  }
  depth = outer;
  current = access.before;
}

void Repair(Region& region, std::size_t page) {
  void* at = reinterpret_cast<void*>(region.At(page));
  if (!region.pages[page].mapped) {
    Call(mmap(at, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
         "mmap of one page");
    region.pages[page] = {.mapped = true};
  } else if (mprotect(at, kPage, PROT_READ | PROT_WRITE) != 0) {
    Fail("mprotect of one page", region.At(page));
  }
  region.pages[page].rights = PROT_READ | PROT_WRITE;
  region.virgin = false;
}

void OnFault(int, siginfo_t* info, void*) {
  unsigned mode = 0;
  asm volatile("stmxcsr %0\n\tpxor %%xmm7, %%xmm7" : "=m"(mode) : : "xmm7");
  if (mode != kUsualMode) Fail("a handler begins with another MXCSR", mode);
  Access* access = current;
  if (access == nullptr) Fail("a fault that nobody expects", reinterpret_cast<std::uint64_t>(info->si_addr));
  if (reinterpret_cast<std::uint64_t>(info->si_addr) != access->address) {
    Fail("a fault at another address", reinterpret_cast<std::uint64_t>(info->si_addr), access->address);
  }
  if (info->si_code != access->code) {
    Fail("a fault with another code", static_cast<std::uint64_t>(info->si_code), access->address);
  }
  // A handler's own fault, of any page.
  if (++depth < kMostDepth && in_timer == 0 && fault_choices.Below(2) == 0) {
    Region& region = regions[fault_choices.Below(regions.size())];
    const std::size_t page = region.pages.empty() ? 0 : fault_choices.Below(region.pages.size());
    if (!region.pages.empty() && &region != access->region && HolesAreFree(region, {page, page + 1})) {
      Touch(region, page, fault_choices.Below(2) == 0, fault_choices.Below(2) == 0, fault_choices);
    }
  }
  if (access->region == nullptr) siglongjmp(access->escape, 1);
  Repair(*access->region, access->page);
  --depth;
}

// ---- ranges of pages ----------------------------------------------------------------------------

Span SpanOf(const Region& region, Choices& choices) {
  const std::size_t first = choices.Below(region.pages.size());
  return {first, first + 1 + choices.Below(region.pages.size() - first)};
}

bool AllMapped(const Region& region, const Span& span) {
  for (std::size_t page = span.first; page < span.end; ++page) {
    if (!region.pages[page].mapped) return false;
  }
  return true;
}

void Map(Region& region, Choices& choices) {
  if (!region.pages.empty()) return;
  const std::size_t count = choices.Below(12) == 0 ? 100 + choices.Below(400) : 1 + choices.Below(16);
  const int rights = choices.Rights();
  const int hints = choices.Below(3) == 0 ? MAP_NORESERVE | MAP_STACK : 0;
  region.base = reinterpret_cast<std::uint64_t>(
      Call(mmap(nullptr, count * kPage - choices.Below(kPage), rights,
                MAP_PRIVATE | MAP_ANONYMOUS | hints, -1, 0),
           "mmap"));
  region.virgin = true;
  region.pages.assign(count, {.mapped = true, .rights = rights, .value = 0});
  for (const Region& other : regions) {
    for (std::size_t page = 0; &other != &region && page < other.pages.size(); ++page) {
      if (other.pages[page].mapped && other.At(page) - region.base < count * kPage) {
        Fail("memory that is in use was given out", other.At(page));
      }
    }
  }
}

void Unmap(Region& region, const Span& span) {
  if (munmap(reinterpret_cast<void*>(region.At(span.first)), (span.end - span.first) * kPage) != 0) {
    Fail("munmap", region.At(span.first));
  }
  for (std::size_t page = span.first; page < span.end; ++page) region.pages[page] = {};
  region.virgin = false;
  for (const Page& page : region.pages) {
    if (page.mapped) return;
  }
  region.pages.clear();
}

void Protect(Region& region, const Span& span, int rights) {
  const int result = mprotect(reinterpret_cast<void*>(region.At(span.first)),
                              (span.end - span.first) * kPage, rights);
  const bool whole = AllMapped(region, span);
  if ((result == 0) != whole || (!whole && errno != ENOMEM)) Fail("mprotect", region.At(span.first));
  for (std::size_t page = span.first; page < span.end && region.pages[page].mapped; ++page) {
    region.pages[page].rights = rights;
  }
  region.virgin = false;
}

void Discard(Region& region, const Span& span) {
  if (!AllMapped(region, span)) return;
  if (madvise(reinterpret_cast<void*>(region.At(span.first)), (span.end - span.first) * kPage,
              MADV_DONTNEED) != 0) {
    Fail("madvise", region.At(span.first));
  }
  for (std::size_t page = span.first; page < span.end; ++page) region.pages[page].value = 0;
}

void MapOver(Region& region, const Span& span, int rights) {
  Call(mmap(reinterpret_cast<void*>(region.At(span.first)), (span.end - span.first) * kPage, rights,
            MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
       "mmap over memory");
  for (std::size_t page = span.first; page < span.end; ++page) {
    region.pages[page] = {.mapped = true, .rights = rights, .value = 0};
  }
  region.virgin = false;
}

// Only what the kernel has as one mapping can be moved.
void Move(Region& region, Choices& choices) {
  if (!region.virgin) return;
  const std::size_t count = 1 + choices.Below(2 * region.pages.size());
  void* moved = mremap(reinterpret_cast<void*>(region.base), region.pages.size() * kPage,
                       count * kPage, MREMAP_MAYMOVE);
  region.base = reinterpret_cast<std::uint64_t>(Call(moved, "mremap"));
  const int rights = region.pages[0].rights;
  region.pages.resize(count, {.mapped = true, .rights = rights, .value = 0});
}

// ---- what others see ----------------------------------------------------------------------------

int file = -1;

void WriteFrom(const Region& region, std::size_t page) {
  const ssize_t result = pwrite(file, reinterpret_cast<void*>(region.At(page)), 8, 0);
  if (ExpectedCode(region.pages[page], false) != 0) {
    if (result != -1 || errno != EFAULT) Fail("write from a page that cannot be read", region.At(page));
    return;
  }
  std::uint64_t seen = 0;
  if (result != 8 || pread(file, &seen, 8, 0) != 8) Fail("write from a page", region.At(page));
  if (seen != region.pages[page].value) {
    Fail("write saw another content", seen, region.pages[page].value);
  }
}

void ReadInto(Region& region, std::size_t page, std::uint64_t value) {
  if (pwrite(file, &value, 8, 8) != 8) Fail("write to the file");
  const ssize_t result = pread(file, reinterpret_cast<void*>(region.At(page)), 8, 8);
  if (ExpectedCode(region.pages[page], true) == 0) {
    if (result != 8) Fail("read into a page", region.At(page));
    region.pages[page].value = value;
  } else if (result != -1 || errno != EFAULT) {
    Fail("read into a page that cannot be written", region.At(page));
  }
}

// What /proc/self/maps says of a page: -1 for nothing, else its rights.
int RightsInMaps(const char* maps, std::uint64_t address) {
  for (const char* line = maps; *line != '\0'; line = strchr(line, '\n') + 1) {
    std::uint64_t start = 0, end = 0;
    char rights[5] = "";
    if (sscanf(line, "%lx-%lx %4s", &start, &end, rights) != 3) Fail("a line of maps");
    if (address < start || address >= end) continue;
    return (rights[0] == 'r' ? PROT_READ : 0) | (rights[1] == 'w' ? PROT_WRITE : 0);
  }
  return -1;
}

void CompareMaps() {
  static char text[1 << 20];
  FILE* maps = fopen("/proc/self/maps", "r");
  if (maps == nullptr) Fail("maps");
  const std::size_t length = fread(text, 1, sizeof(text) - 1, maps);
  fclose(maps);
  text[length] = '\0';
  for (const Region& region : regions) {
    for (std::size_t page = 0; page < region.pages.size(); ++page) {
      const Page& expected = region.pages[page];
      if (!expected.mapped && !HolesAreFree(region, {page, page + 1})) continue;
      const int seen = RightsInMaps(text, region.At(page));
      if (seen != (expected.mapped ? expected.rights : -1)) {
        Fail("maps says something else", region.At(page), static_cast<std::uint64_t>(seen));
      }
    }
  }
}

void CompareAll(Choices& choices) {
  for (Region& region : regions) {
    for (std::size_t page = 0; page < region.pages.size(); ++page) {
      if (region.pages[page].mapped) Touch(region, page, false, false, choices);
    }
  }
}

void Step(Choices& choices);

void Fork(Choices& choices) {
  const pid_t child = fork();
  if (child < 0) Fail("fork");
  if (child == 0) {
    CompareAll(choices);
    for (int step = 0; step < 50; ++step) Step(choices);
    CompareAll(choices);
    CompareMaps();
    _exit(0);
  }
  int status = 0;
  if (waitpid(child, &status, 0) != child || status != 0) Fail("a child has failed");
}

// Another thread comes and goes, with memory of its own.
void* InThread(void*) {
  for (int round = 0; round < 20; ++round) {
    auto* memory = static_cast<volatile char*>(Call(
        mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), "mmap"));
    if (memory[0] != 0) Fail("memory of a thread's is not empty");
    memory[0] = 1;
    munmap(const_cast<char*>(memory), kPage);
  }
  return nullptr;
}

void StartThread() {
  alignas(kPage) static char stack[256 * 1024];
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstack(&attributes, stack, sizeof(stack));
  // The timer is for the main thread, which knows what it has.
  sigset_t timer, before;
  sigemptyset(&timer);
  sigaddset(&timer, SIGALRM);
  sigprocmask(SIG_BLOCK, &timer, &before);
  pthread_t thread;
  if (pthread_create(&thread, &attributes, InThread, nullptr) != 0) Fail("pthread_create");
  pthread_join(thread, nullptr);
  sigprocmask(SIG_SETMASK, &before, nullptr);
}

// ---- the timer ----------------------------------------------------------------------------------

volatile sig_atomic_t ticks = 0;

void OnTimer(int, siginfo_t*, void*) {
  static Choices choices(11);
  const int error = errno;
  in_timer = 1;
  Region own;
  const std::size_t count = 1 + choices.Below(8);
  own.base = reinterpret_cast<std::uint64_t>(
      Call(mmap(nullptr, count * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
           "the timer's mmap"));
  for (std::size_t page = 0; page < count; ++page) {
    if (*own.Word(page) != 0) Fail("the timer's memory is not empty", own.At(page));
    *own.Word(page) = page + 1;
  }
  for (std::size_t page = 0; page < count; ++page) {
    if (*own.Word(page) != page + 1) Fail("the timer's memory has changed", own.At(page));
  }
  if (munmap(reinterpret_cast<void*>(own.base), count * kPage) != 0) Fail("the timer's munmap");
  in_timer = 0;
  ticks = ticks + 1;
  errno = error;
}

void Handle(int signal, void (*handler)(int, siginfo_t*, void*), int flags) {
  struct sigaction action{};
  action.sa_sigaction = handler;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART | flags;
  if (sigaction(signal, &action, nullptr) != 0) Fail("sigaction");
}

// On a stack of the pool's, or on the ordinary one.
void ChooseStack(bool alternate) {
  stack_t stack{};
  stack.ss_flags = SS_DISABLE;
  if (sigaltstack(&stack, nullptr) != 0) Fail("sigaltstack");
  if (handler_stack != 0) munmap(reinterpret_cast<void*>(handler_stack), kStackBytes);
  handler_stack = 0;
  if (!alternate) return;
  stack.ss_flags = 0;
  stack.ss_size = kStackBytes;
  stack.ss_sp = Call(mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                          -1, 0),
                     "mmap of a stack");
  handler_stack = reinterpret_cast<std::uint64_t>(stack.ss_sp);
  if (sigaltstack(&stack, nullptr) != 0) Fail("sigaltstack");
}

// ---- the steps ----------------------------------------------------------------------------------

void Step(Choices& choices) {
  Region& region = regions[choices.Below(regions.size())];
  if (region.pages.empty()) return Map(region, choices);
  const Span span = SpanOf(region, choices);
  if (!HolesAreFree(region, span)) return;
  const std::uint64_t what = choices.Below(1000);
  if (what < 500) {
    for (std::size_t page = span.first; page < span.end && page < span.first + 8; ++page) {
      Touch(region, page, choices.Below(2) == 0, choices.Below(2) == 0, choices);
    }
  } else if (what < 650) {
    Protect(region, span, choices.Rights());
  } else if (what < 750) {
    Unmap(region, span);
  } else if (what < 830) {
    Discard(region, span);
  } else if (what < 850) {
    const Span all{0, region.pages.size()};
    if (HolesAreFree(region, all)) Unmap(region, all);
  } else if (what < 900) {
    Move(region, choices);
  } else if (what < 920) {
    MapOver(region, span, choices.Rights());
  } else if (what < 950) {
    WriteFrom(region, span.first);
  } else if (what < 980) {
    ReadInto(region, span.first, what);
  } else if (what < 990) {
    CompareMaps();
  } else if (what < 995) {
    StartThread();
  } else {
    CompareAll(choices);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const long steps = argc > 1 ? atol(argv[1]) : 5000;
  Choices choices(argc > 2 ? static_cast<std::uint64_t>(atol(argv[2])) : 1);
  file = memfd_create("words", 0);
  if (file < 0 || ftruncate(file, 16) != 0) Fail("memfd_create");
  Handle(SIGSEGV, OnFault, SA_NODEFER);
  Handle(SIGALRM, OnTimer, 0);
  const itimerval timer{.it_interval = {0, 30000}, .it_value = {0, 30000}};
  setitimer(ITIMER_REAL, &timer, nullptr);
  for (long step = 0; step < steps; ++step) {
    if (step % 100 == 0) ChooseStack(step % 200 == 100);
    Step(choices);
    if (step % 200 == 199) Fork(choices);
  }
  CompareAll(choices);
  CompareMaps();
  while (ticks == 0) usleep(1000);
  return 0;
}
