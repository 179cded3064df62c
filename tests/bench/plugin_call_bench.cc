// What a call into a sandbox costs, beside a system call that does nothing, in the same run.
#include <benchmark/benchmark.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <vector>

#include "dunebox/sandbox.h"

namespace dunebox {
namespace {

Sandbox& TheSandbox() {
  static const std::unique_ptr<Sandbox> sandbox = [] {
    auto made = Sandbox::Create({});
    if (!made.ok() || !(*made)->Load(PLUGIN_CASES).ok()) abort();
    return *std::move(made);
  }();
  return *sandbox;
}

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

// With the call that it comes from.
void CallAndCallback(benchmark::State& state) {
  auto call_back = *TheSandbox().Function<int(int (*)(int), int)>("call_back");
  const auto same = *TheSandbox().Export<int(int)>([](Tainted<int> n) { return n.UnverifiedValue(); });
  for (auto _ : state) benchmark::DoNotOptimize(call_back(same, 1));
}
BENCHMARK(CallAndCallback);

void CreateAndLoad(benchmark::State& state) {
  for (auto _ : state) {
    auto made = Sandbox::Create({});
    if (!made.ok() || !(*made)->Load(PLUGIN_CASES).ok()) abort();
  }
}
BENCHMARK(CreateAndLoad)->Unit(benchmark::kMicrosecond);

std::unique_ptr<Sandbox> Template() {
  auto made = Sandbox::Create({});
  if (!made.ok() || !(*made)->Load(PLUGIN_STATE).ok()) abort();
  auto dirty = *(*made)->Function<void(int, int)>("dirty");
  if (!dirty(2048, 1).ok() || !(*made)->Snapshot().ok()) abort();
  return *std::move(made);
}

void TakeSnapshot(benchmark::State& state) {
  const auto sandbox = Template();
  for (auto _ : state) {
    if (!sandbox->Snapshot().ok()) abort();
  }
}
BENCHMARK(TakeSnapshot)->Unit(benchmark::kMicrosecond);

// Clones are destroyed elsewhere.
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
  if (!Template()->Save(path).ok()) abort();
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
