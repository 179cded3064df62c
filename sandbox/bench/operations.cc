#include "sandbox/bench/operations.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "hostcalls/errors/message.h"

namespace dunebox::bench {
namespace {

constexpr std::size_t kPage = 4096;
constexpr std::string_view kFlag = "--operation=";
constexpr auto kLongEnough = std::chrono::milliseconds(30);

// What the compiler must not see through.
volatile std::uint64_t g_sink;

bool SystemCall(long count) {
  for (long i = 0; i < count; ++i) {
    if (getppid() < 0) return false;
  }
  return true;
}

bool ReadPage(long count) {
  static const int fd = [] {
    const int file = memfd_create("bench", MFD_CLOEXEC);
    return ftruncate(file, kPage) == 0 ? file : -1;
  }();
  std::array<char, kPage> buffer;
  for (long i = 0; i < count; ++i) {
    if (pread(fd, buffer.data(), buffer.size(), 0) != static_cast<ssize_t>(buffer.size())) return false;
  }
  return true;
}

bool PageFault(long count) {
  constexpr long kPages = 64;
  for (long done = 0; done < count; done += kPages) {
    void* const place = mmap(nullptr, kPages * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (place == MAP_FAILED) return false;
    for (long page = 0; page < kPages; ++page) static_cast<volatile char*>(place)[page * static_cast<long>(kPage)] = 1;
    if (munmap(place, kPages * kPage) != 0) return false;
  }
  return true;
}

void GiveRight(int, siginfo_t* info, void*) {
  const auto address = reinterpret_cast<std::uintptr_t>(info->si_addr);
  if (mprotect(reinterpret_cast<void*>(address & ~(kPage - 1)), kPage, PROT_READ | PROT_WRITE) != 0) _exit(1);
}

bool Trap(long count) {
  struct sigaction action {};
  action.sa_sigaction = GiveRight;
  action.sa_flags = SA_SIGINFO;
  static void* const page = mmap(nullptr, kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED || sigaction(SIGSEGV, &action, nullptr) != 0) return false;
  for (long i = 0; i < count; ++i) {
    if (mprotect(page, kPage, PROT_NONE) != 0) return false;
    *static_cast<volatile char*>(page) = 1;
  }
  return true;
}

volatile sig_atomic_t g_signals;
void CountSignal(int) { g_signals = g_signals + 1; }

bool SignalItself(long count) {
  struct sigaction action {};
  action.sa_handler = CountSignal;
  if (sigaction(SIGUSR1, &action, nullptr) != 0) return false;
  g_signals = 0;
  for (long i = 0; i < count; ++i) {
    if (raise(SIGUSR1) != 0) return false;
  }
  return g_signals == count;
}

void* Nothing(void*) { return nullptr; }

bool MakeThread(long count) {
  for (long i = 0; i < count; ++i) {
    pthread_t thread;
    if (pthread_create(&thread, nullptr, Nothing, nullptr) != 0 || pthread_join(thread, nullptr) != 0) return false;
  }
  return true;
}

struct Echo {
  int from, to;
};

void* EchoBytes(void* argument) {
  const Echo& echo = *static_cast<const Echo*>(argument);
  char byte;
  while (read(echo.from, &byte, 1) == 1 && write(echo.to, &byte, 1) == 1) {
  }
  return nullptr;
}

bool SwitchThreads(long count) {
  std::array<int, 2> there{}, back{};
  if (pipe(there.data()) != 0 || pipe(back.data()) != 0) return false;
  Echo echo{there[0], back[1]};
  pthread_t thread;
  if (pthread_create(&thread, nullptr, EchoBytes, &echo) != 0) return false;
  bool well = true;
  for (long i = 0; i < count && well; ++i) {
    char byte = 1;
    well = write(there[1], &byte, 1) == 1 && read(back[0], &byte, 1) == 1;
  }
  close(there[1]);
  pthread_join(thread, nullptr);
  for (const int fd : {there[0], back[0], back[1]}) close(fd);
  return well;
}

bool ForkAndWait(long count) {
  for (long i = 0; i < count; ++i) {
    const pid_t child = fork();
    if (child == 0) _exit(0);
    int status = 1;
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0) return false;
  }
  return true;
}

[[gnu::noinline]] std::uint64_t Count(std::uint64_t depth) {
  if (depth == 0) return g_sink;
  std::uint64_t below = Count(depth - 1);
  asm volatile("" : "+r"(below));  // else the compiler makes a loop of it
  return below + depth;
}

bool CallAndReturn(long count) {
  for (long i = 0; i < count; ++i) {
    for (int round = 0; round < 20; ++round) g_sink = Count(50);
  }
  return true;
}

[[gnu::noinline]] std::uint64_t AddOne(std::uint64_t value) { return value + 1; }
[[gnu::noinline]] std::uint64_t Double(std::uint64_t value) { return value * 2; }
[[gnu::noinline]] std::uint64_t Halve(std::uint64_t value) { return value / 2; }
[[gnu::noinline]] std::uint64_t Invert(std::uint64_t value) { return ~value; }

bool CallIndirectly(long count) {
  using Function = std::uint64_t (*)(std::uint64_t);
  static constexpr std::array<Function, 4> kFunctions = {AddOne, Double, Halve, Invert};
  std::uint64_t value = g_sink, random = 88172645463325252u;
  for (long i = 0; i < count * 1000; ++i) {
    random ^= random << 13;
    random ^= random >> 7;
    random ^= random << 17;
    value = kFunctions[random % kFunctions.size()](value);
  }
  g_sink = value;
  return true;
}

bool Compute(long count) {
  std::uint64_t value = g_sink | 1;
  for (long i = 0; i < count * 1000; ++i) value = value * 6364136223846793005u + static_cast<std::uint64_t>(i);
  g_sink = value;
  return true;
}

bool CopyMemory(long count) {
  constexpr std::size_t kBytes = 65536;
  static std::vector<char> from(kBytes, 1), to(kBytes);
  for (long i = 0; i < count; ++i) {
    std::memcpy(to.data(), from.data(), kBytes);
    g_sink = static_cast<unsigned char>(to[static_cast<std::size_t>(i) % kBytes]);
  }
  return true;
}

constexpr Operation kOperations[] = {
#define OPERATION(name, what, run) {name, what, run},
#include "sandbox/bench/operations.inc"
#undef OPERATION
};

double Seconds(std::chrono::steady_clock::duration time) { return std::chrono::duration<double>(time).count(); }

}  // namespace

std::span<const Operation> Operations() { return kOperations; }

std::optional<std::string_view> OperationAsked(std::span<const std::string> arguments) {
  if (arguments.size() != 1 || !arguments[0].starts_with(kFlag)) return std::nullopt;
  return std::string_view(arguments[0]).substr(kFlag.size());
}

int RunOperation(std::string_view name) {
  constexpr int kFailed = 125;
  if (name == "nothing") return 0;
  const auto* const row = std::ranges::find(kOperations, name, &Operation::name);
  if (row == std::end(kOperations)) {
    errors::Say(errors::Id::kCannotMeasure, absl::StrCat("unknown operation '", std::string(name), "'"));
    return kFailed;
  }
  // Twice as many until it takes long enough; what came before has warmed up code and caches.
  for (long count = 1;; count *= 2) {
    const auto begin = std::chrono::steady_clock::now();
    if (!row->run(count)) {
      const std::string what = absl::StrCat("operation ", std::string(row->name), " failed");
      errors::Say(errors::Id::kCannotMeasure, absl::ErrnoToStatus(errno, what));
      return kFailed;
    }
    const auto time = std::chrono::steady_clock::now() - begin;
    if (time < kLongEnough) continue;
    std::printf("%.1f\n", Seconds(time) * 1e9 / static_cast<double>(count));
    return std::fflush(stdout) == 0 ? 0 : kFailed;
  }
}

}  // namespace dunebox::bench
