// Threads that map, protect, discard, touch and unmap anonymous memory at the same time, each with a model of its
// own pages, in orders that a seed decides. What one thread takes away, all others have lost when the call
// returns: a watcher that has just used the page must fault. Memory that several threads touch first at the
// same moment is empty for each of them. Threads also sleep and wake by futexes and pipes, and are started and
// joined meanwhile; one of them makes forked children, which go on alone.
//
//   shared_memory_pool [ROUNDS [SEED]]
//
// Says nothing and exits 0 when all is well, natively as in the sandbox.
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <mutex>
#include <vector>

namespace {

constexpr std::uint64_t kPage = 4096;
constexpr unsigned kWorkers = 3;
constexpr unsigned kRegions = 6;

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
    return kRights[Below(4)];
  }

 private:
  std::uint64_t state_;
};

// ---- accesses that may fault --------------------------------------------------------------------

thread_local sigjmp_buf escape;
thread_local volatile std::uint64_t expected_fault = 0;

void OnFault(int, siginfo_t* info, void*) {
  const auto address = reinterpret_cast<std::uint64_t>(info->si_addr);
  if (expected_fault == 0 || address != expected_fault) Fail("a fault that nobody expects", address, expected_fault);
  siglongjmp(escape, 1);
}

// False if it faults.
bool Read(std::uint64_t address, std::uint64_t& value) {
  expected_fault = address;
  const bool done = sigsetjmp(escape, 1) == 0;
  if (done) value = *reinterpret_cast<volatile std::uint64_t*>(address);
  expected_fault = 0;
  return done;
}

bool Write(std::uint64_t address, std::uint64_t value) {
  expected_fault = address;
  const bool done = sigsetjmp(escape, 1) == 0;
  if (done) *reinterpret_cast<volatile std::uint64_t*>(address) = value;
  expected_fault = 0;
  return done;
}

std::uint64_t Map(std::uint64_t pages, int rights) {
  void* at = mmap(nullptr, pages * kPage, rights, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED) Fail("mmap");
  return reinterpret_cast<std::uint64_t>(at);
}
void Unmap(std::uint64_t at, std::uint64_t pages) {
  if (munmap(reinterpret_cast<void*>(at), pages * kPage) != 0) Fail("munmap", at);
}
void Protect(std::uint64_t at, std::uint64_t pages, int rights) {
  if (mprotect(reinterpret_cast<void*>(at), pages * kPage, rights) != 0) Fail("mprotect", at);
}
void Discard(std::uint64_t at, std::uint64_t pages) {
  if (madvise(reinterpret_cast<void*>(at), pages * kPage, MADV_DONTNEED) != 0) Fail("madvise", at);
}

// ---- each thread against its model --------------------------------------------------------------

struct Page {
  int rights = 0;
  std::uint64_t value = 0;
};
struct Region {
  std::uint64_t base = 0;
  std::vector<Page> pages;
  std::uint64_t At(std::size_t page) const { return base + page * kPage; }
};

void Touch(Region& region, std::size_t number, bool write, Choices& choices) {
  Page& page = region.pages[number];
  if (write) {
    const std::uint64_t value = choices.Below(~std::uint64_t{0});
    const bool allowed = (page.rights & PROT_WRITE) != 0;
    if (Write(region.At(number), value) != allowed) Fail("a write", region.At(number), allowed);
    if (allowed) page.value = value;
  } else {
    std::uint64_t value = 0;
    const bool allowed = (page.rights & PROT_READ) != 0;
    if (Read(region.At(number), value) != allowed) Fail("a read", region.At(number), allowed);
    if (allowed && value != page.value) Fail("another content", value, page.value);
  }
}

void Step(std::vector<Region>& regions, Choices& choices) {
  Region& region = regions[choices.Below(regions.size())];
  if (region.pages.empty()) {
    const std::size_t count = 1 + choices.Below(24);
    const int rights = choices.Rights();
    region.base = Map(count, rights);
    region.pages.assign(count, {.rights = rights, .value = 0});
    return;
  }
  const std::size_t first = choices.Below(region.pages.size());
  const std::size_t end = first + 1 + choices.Below(region.pages.size() - first);
  const std::uint64_t what = choices.Below(100);
  if (what < 60) {
    for (std::size_t page = first; page < end && page < first + 6; ++page) {
      Touch(region, page, choices.Below(2) == 0, choices);
    }
  } else if (what < 75) {
    const int rights = choices.Rights();
    Protect(region.At(first), end - first, rights);
    for (std::size_t page = first; page < end; ++page) region.pages[page].rights = rights;
  } else if (what < 85) {
    Discard(region.At(first), end - first);
    for (std::size_t page = first; page < end; ++page) region.pages[page].value = 0;
  } else {
    Unmap(region.base, region.pages.size());
    region.pages.clear();
  }
}

void* InThread(void*) {
  const std::uint64_t at = Map(2, PROT_READ | PROT_WRITE);
  std::uint64_t value = 1;
  if (!Read(at, value) || value != 0 || !Write(at, 1)) Fail("memory of a short thread's", at, value);
  Unmap(at, 2);
  return nullptr;
}

std::mutex meeting;
std::uint64_t met = 0;

void NowAndThen(unsigned who, std::vector<Region>& regions, Choices& choices) {
  int ends[2];
  char byte = 0;
  switch (choices.Below(3)) {
    case 0: {  // sleeps, often
      const std::lock_guard lock(meeting);
      met += 1;
      InThread(nullptr);
      break;
    }
    case 1:  // calls with buffers on the stack
      if (pipe(ends) != 0 || write(ends[1], "x", 1) != 1 || read(ends[0], &byte, 1) != 1 || byte != 'x') {
        Fail("a pipe");
      }
      close(ends[0]), close(ends[1]);
      break;
    default:
      if (who != 0) return;
      if (choices.Below(2) == 0) {
        pthread_t thread;
        if (pthread_create(&thread, nullptr, InThread, nullptr) != 0) Fail("pthread_create");
        pthread_join(thread, nullptr);
        return;
      }
      if (const pid_t child = fork(); child == 0) {
        for (int step = 0; step < 50; ++step) Step(regions, choices);
        _exit(0);
      } else {
        int status = 0;
        if (child < 0 || waitpid(child, &status, 0) != child || status != 0) Fail("a child", static_cast<std::uint64_t>(status));
      }
  }
}

long rounds = 300;
constexpr long kMeetings = 4;  // rounds of two threads that wait for each other are dearer
std::uint64_t seed = 1;

void* Work(void* number) {
  const auto who = static_cast<unsigned>(reinterpret_cast<std::uintptr_t>(number));
  Choices choices(seed * 100 + who);
  std::vector<Region> regions(kRegions);
  for (long round = 0; round < rounds; ++round) {
    Step(regions, choices);
    if (choices.Below(40) == 0) NowAndThen(who, regions, choices);
  }
  return nullptr;
}

// ---- what one takes away, the others have lost --------------------------------------------------

enum : int { kIdle, kUse, kUsed, kLost, kGone, kEnd };
std::atomic<int> stage = kIdle;
std::atomic<std::uint64_t> watched = 0;
std::atomic<bool> loses_all = false;

void AwaitOther(int wanted) {
  while (stage.load() != wanted) sched_yield();
}

void* Watch(void*) {
  std::uint64_t value = 0;
  for (;;) {
    int now = stage.load();
    for (; now != kUse && now != kEnd; now = stage.load()) __builtin_ia32_pause();  // never out of the guest
    if (now == kEnd) return nullptr;
    const std::uint64_t at = watched.load();
    if (!Write(at, 7) || !Read(at, value) || value != 7) Fail("the watcher cannot use a page", at, value);
    stage = kUsed;
    while (stage.load() != kLost) __builtin_ia32_pause();
    if (Write(at, 8)) Fail("a page can be written after its right was taken", at);
    if (Read(at, value) == loses_all) Fail("a page can be read, or not", at, value);
    stage = kGone;
  }
}

void TakeAway(Choices& choices) {
  for (long round = 0; round < rounds / kMeetings; ++round) {
    const std::uint64_t pages = 1 + choices.Below(40);
    const std::uint64_t base = Map(pages, PROT_READ | PROT_WRITE);
    const std::uint64_t at = base + choices.Below(pages) * kPage;
    watched = at;
    stage = kUse;
    AwaitOther(kUsed);
    const std::uint64_t how = choices.Below(3);
    loses_all = how != 1;
    if (how == 0) Protect(base, pages, PROT_NONE);
    if (how == 1) Protect(base, pages, PROT_READ);
    if (how == 2) Unmap(base, pages);
    stage = kLost;
    AwaitOther(kGone);
    if (how != 2) Unmap(base, pages);
  }
  stage = kEnd;
}

// ---- fresh memory is empty for everybody --------------------------------------------------------

std::atomic<std::uint64_t> fresh = 0;
std::atomic<long> begun = 0, seen = 0;
constexpr std::uint64_t kFresh = 8;

void LookAt(std::uint64_t base) {
  for (std::uint64_t word = 0; word < kFresh * kPage / 8; word += 64) {
    // From both ends, so that each meets the other's first touches.
    const std::uint64_t value = *reinterpret_cast<volatile std::uint64_t*>(base + word * 8);
    if (value != 0) Fail("fresh memory is not empty", base + word * 8, value);
  }
}

void* Look(void*) {
  for (long round = 1; round <= rounds / kMeetings; ++round) {
    while (begun.load() < round) __builtin_ia32_pause();
    LookAt(fresh.load());
    seen = round;
  }
  return nullptr;
}

void GiveFresh() {
  for (long round = 1; round <= rounds / kMeetings; ++round) {
    const std::uint64_t base = Map(kFresh, PROT_READ | PROT_WRITE);
    fresh = base;
    begun = round;
    LookAt(base);
    while (seen.load() < round) sched_yield();
    for (std::uint64_t page = 0; page < kFresh; ++page) {
      if (!Write(base + page * kPage, ~std::uint64_t{0})) Fail("a write", base);
    }
    Unmap(base, kFresh);
  }
}

void With(void* (*other)(void*), void (*mine)(Choices&)) {
  pthread_t thread;
  if (pthread_create(&thread, nullptr, other, nullptr) != 0) Fail("pthread_create");
  Choices choices(seed);
  mine(choices);
  pthread_join(thread, nullptr);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1) rounds = atol(argv[1]);
  if (argc > 2) seed = static_cast<std::uint64_t>(atol(argv[2]));
  struct sigaction action{};
  action.sa_sigaction = OnFault;
  action.sa_flags = SA_SIGINFO;
  if (sigaction(SIGSEGV, &action, nullptr) != 0) Fail("sigaction");

  With(Watch, TakeAway);
  With(Look, [](Choices&) { GiveFresh(); });
  pthread_t workers[kWorkers];
  for (std::uintptr_t who = 0; who < kWorkers; ++who) {
    if (pthread_create(&workers[who], nullptr, Work, reinterpret_cast<void*>(who)) != 0) Fail("pthread_create");
  }
  for (const pthread_t worker : workers) pthread_join(worker, nullptr);
  return 0;
}
