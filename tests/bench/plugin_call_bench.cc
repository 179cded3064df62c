// What a call into a sandbox costs, in this process and in a worker's, beside a system call that does nothing and
// round trips to another process, in the same run. What goes to another process is measured in real time: it
// sleeps.
#include <benchmark/benchmark.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <vector>

#include "dunebox/sandbox.h"

namespace dunebox {
namespace {

std::unique_ptr<Sandbox> Make(Demand demand) {
  auto made = Sandbox::Create({.demand = demand});
  if (!made.ok() || !(*made)->Load(PLUGIN_CASES).ok()) abort();
  return *std::move(made);
}

Sandbox& TheSandbox(Demand demand = Demand::kOneWall) {
  static const std::unique_ptr<Sandbox> one = Make(Demand::kOneWall);
  static const std::unique_ptr<Sandbox> two = Make(Demand::kTwoWalls);
  return demand == Demand::kOneWall ? *one : *two;
}

// ---- other processes, that answer what they are asked at once -----------------------------------

template <typename Serve>
pid_t Fork(Serve serve) {
  const pid_t child = fork();
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) serve();
  }
  return child;
}
void End(pid_t child) {
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
}

void PipeRoundTrip(benchmark::State& state) {
  int there[2], back[2];
  if (pipe(there) != 0 || pipe(back) != 0) abort();
  const auto pass = [](int from, int to) {
    char byte;
    if (read(from, &byte, 1) != 1 || write(to, &byte, 1) != 1) _exit(1);
  };
  const pid_t child = Fork([&] { pass(there[0], back[1]); });
  for (auto _ : state) {
    char byte = 0;
    if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1) abort();
  }
  End(child);
  for (const int fd : {there[0], there[1], back[0], back[1]}) close(fd);
}
BENCHMARK(PipeRoundTrip)->UseRealTime();

// Each side sleeps until the number is its own.
void FutexRoundTrip(benchmark::State& state) {
  void* const page = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  auto& word = *new (page) std::atomic<std::uint32_t>(0);
  const auto wait_for = [&](std::uint32_t parity) {
    for (std::uint32_t value; (value = word.load()) % 2 != parity;) {
      syscall(SYS_futex, &word, FUTEX_WAIT, value, nullptr, nullptr, 0);
    }
  };
  const auto pass = [&] {
    ++word;
    syscall(SYS_futex, &word, FUTEX_WAKE, 1, nullptr, nullptr, 0);
  };
  const pid_t child = Fork([&] {
    wait_for(1);
    pass();
  });
  for (auto _ : state) {
    pass();
    wait_for(0);
  }
  End(child);
  munmap(page, 4096);
}
BENCHMARK(FutexRoundTrip)->UseRealTime();

// ---- calls --------------------------------------------------------------------------------------

void SystemCall(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(syscall(SYS_getppid));
}
BENCHMARK(SystemCall);

void EmptyCall(benchmark::State& state) {
  auto nothing = *TheSandbox().Function<void()>("nothing");
  for (auto _ : state) {
    if (!nothing().ok()) abort();
  }
}
BENCHMARK(EmptyCall);

void CallWithNumbers(benchmark::State& state) {
  auto add = *TheSandbox().Function<int(int, int)>("add");
  for (auto _ : state) benchmark::DoNotOptimize(add(1, 2));
}
BENCHMARK(CallWithNumbers);

void CallWithDeadline(benchmark::State& state) {
  auto sandbox = *Sandbox::Create({.deadline = absl::Seconds(1)});
  if (!sandbox->Load(PLUGIN_CASES).ok()) abort();
  auto nothing = *sandbox->Function<void()>("nothing");
  for (auto _ : state) {
    if (!nothing().ok()) abort();
  }
}
BENCHMARK(CallWithDeadline);

void EmptyCallWithTwoWalls(benchmark::State& state) {
  auto nothing = *TheSandbox(Demand::kTwoWalls).Function<void()>("nothing");
  for (auto _ : state) {
    if (!nothing().ok()) abort();
  }
}
BENCHMARK(EmptyCallWithTwoWalls)->UseRealTime();

// With the call that it comes from.
void CallAndCallback(benchmark::State& state, Demand demand) {
  Sandbox& sandbox = TheSandbox(demand);
  auto call_back = *sandbox.Function<int(int (*)(int), int)>("call_back");
  const auto same = *sandbox.Export<int(int)>([](Tainted<int> n) { return n.UnverifiedValue(); });
  for (auto _ : state) benchmark::DoNotOptimize(call_back(same, 1));
}
BENCHMARK_CAPTURE(CallAndCallback, one_wall, Demand::kOneWall);
BENCHMARK_CAPTURE(CallAndCallback, two_walls, Demand::kTwoWalls)->UseRealTime();

// 64 KiB of which the plugin reads every byte: where they lie for both, and with a copy of them first. Natively, too.
constexpr std::size_t kBuffer = 64 << 10;

void BufferNatively(benchmark::State& state) {
  std::vector<char> buffer(kBuffer, 'a');
  for (auto _ : state) benchmark::DoNotOptimize(memchr(buffer.data(), 'b', buffer.size()));
}
BENCHMARK(BufferNatively);

using Search = void*(const void*, int, unsigned long);

void BufferShared(benchmark::State& state) {
  auto buffer = *TheSandbox().Allocate<char>(kBuffer);
  std::ranges::fill(buffer.span(), 'a');
  auto search = *TheSandbox().Function<Search>("memchr");
  for (auto _ : state) benchmark::DoNotOptimize(search(buffer, 'b', kBuffer));
}
BENCHMARK(BufferShared);

void BufferCopied(benchmark::State& state) {
  const std::vector<char> text(kBuffer, 'a');
  auto buffer = *TheSandbox().Allocate<char>(kBuffer);
  auto search = *TheSandbox().Function<Search>("memchr");
  for (auto _ : state) {
    if (!TheSandbox().CopyOut(buffer.guest(), std::span(text)).ok()) abort();
    benchmark::DoNotOptimize(search(buffer, 'b', kBuffer));
  }
}
BENCHMARK(BufferCopied);

// What it costs to count instructions: a loop of three, and calls that do little.
void Loop(benchmark::State& state, const char* function, std::uint64_t budget) {
  auto sandbox = *Sandbox::Create({.instruction_budget = budget});
  if (!sandbox->Load(PLUGIN_CASES).ok()) abort();
  auto place = *sandbox->Allocate<long>(1);
  auto loop = *sandbox->Function<void(volatile long*, long)>(function);
  const TaintedPtr<volatile long> there(place.guest().address());
  for (auto _ : state) {
    if (!loop(there, 100'000).ok()) abort();
  }
}
constexpr std::uint64_t kAmple = std::uint64_t{1} << 40;
BENCHMARK_CAPTURE(Loop, plain, "count_in", 0)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(Loop, counted, "count_in", kAmple)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(Loop, calls, "count_in_calls", 0)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(Loop, calls_counted, "count_in_calls", kAmple)->Unit(benchmark::kMicrosecond);

// A process's first sandbox, in real time: processes that start here are told about by themselves.
void First(benchmark::State& state, const char* library, bool is_load) {
  const std::string command = std::string(FIRST_SANDBOX) + " " + library;
  for (auto _ : state) {
    FILE* const said = popen(command.c_str(), "r");
    double create = 0, load = 0;
    if (said == nullptr || fscanf(said, "%lf %lf", &create, &load) != 2 || pclose(said) != 0) abort();
    state.SetIterationTime((is_load ? create + load : create) / 1e9);
  }
}
BENCHMARK_CAPTURE(First, create, "", false)->UseManualTime()->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(First, create_and_load_libz, "/usr/lib/x86_64-linux-gnu/libz.so.1", true)
    ->UseManualTime()
    ->Unit(benchmark::kMicrosecond);

// With its end. The library needs four others, C++'s among them.
void CreateAndLoad(benchmark::State& state, Demand demand) {
  for (auto _ : state) Make(demand);
}
BENCHMARK_CAPTURE(CreateAndLoad, one_wall, Demand::kOneWall)->Unit(benchmark::kMicrosecond);
void Create(benchmark::State& state) {
  for (auto _ : state) {
    if (!Sandbox::Create({}).ok()) abort();
  }
}
BENCHMARK(Create)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(CreateAndLoad, two_walls, Demand::kTwoWalls)
    ->Unit(benchmark::kMicrosecond)
    ->UseRealTime();

constexpr int kPages = 2048;

// With so many pages of the plugin's own data, beside its libraries.
std::unique_ptr<Sandbox> Template(int pages = kPages) {
  auto made = Sandbox::Create({});
  if (!made.ok() || !(*made)->Load(PLUGIN_STATE).ok()) abort();
  auto dirty = *(*made)->Function<void(int, int)>("dirty");
  if (!dirty(pages, 1).ok() || !(*made)->Snapshot().ok()) abort();
  return *std::move(made);
}

void TakeSnapshot(benchmark::State& state) {
  const auto sandbox = Template();
  for (auto _ : state) {
    if (!sandbox->Snapshot().ok()) abort();
  }
}
BENCHMARK(TakeSnapshot)->Unit(benchmark::kMicrosecond);

// Clones are destroyed elsewhere. A few of each round begin with the guest of one from the round before; all of those
// do that are destroyed at once (CloneCallAndDestroy).
void Clone(benchmark::State& state) {
  const auto sandbox = Template();
  std::vector<std::unique_ptr<Sandbox>> clones;
  constexpr std::size_t kMost = 500;
  for (auto _ : state) {
    auto clone = sandbox->Clone();
    if (!clone.ok()) abort();
    clones.push_back(*std::move(clone));
    if (clones.size() < kMost) continue;
    state.PauseTiming();
    clones.clear();
    state.ResumeTiming();
  }
}
BENCHMARK(Clone)->Unit(benchmark::kMicrosecond);

void CloneCallAndDestroy(benchmark::State& state) {
  const auto sandbox = Template();
  auto next = *sandbox->Function<int()>("next");
  for (auto _ : state) {
    auto clone = sandbox->Clone();
    if (!clone.ok() || !(*clone)->CounterpartOf(next)().ok()) abort();
  }
}
BENCHMARK(CloneCallAndDestroy)->Unit(benchmark::kMicrosecond);

void OpenSaved(benchmark::State& state) {
  const std::string path = "/tmp/dunebox-bench-" + std::to_string(getpid());
  if (!Template(10)->Save(path).ok()) abort();
  for (auto _ : state) {
    if (!Sandbox::Open(path, {}).ok()) abort();
  }
  unlink(path.c_str());
}
BENCHMARK(OpenSaved)->Unit(benchmark::kMicrosecond);

// A call that writes to so many pages, beside the same with a reset.
void Dirty(benchmark::State& state) {
  const auto sandbox = Template();
  auto dirty = *sandbox->Function<void(int, int)>("dirty");
  for (auto _ : state) {
    if (!dirty(static_cast<int>(state.range(0)), 2).ok()) abort();
  }
}
BENCHMARK(Dirty)->Arg(0)->Arg(10)->Arg(100)->Arg(500)->Unit(benchmark::kMicrosecond);

void DirtyAndReset(benchmark::State& state) {
  const auto sandbox = Template();
  auto dirty = *sandbox->Function<void(int, int)>("dirty");
  for (auto _ : state) {
    if (!dirty(static_cast<int>(state.range(0)), 2).ok() || !sandbox->Reset().ok()) abort();
  }
}
BENCHMARK(DirtyAndReset)->Arg(0)->Arg(10)->Arg(100)->Arg(500)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace dunebox

BENCHMARK_MAIN();
