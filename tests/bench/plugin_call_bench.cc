// What a call into a sandbox costs, beside a system call that does nothing, in the same run.
#include <benchmark/benchmark.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <span>
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

void CreateAndLoad(benchmark::State& state) {
  for (auto _ : state) {
    auto made = Sandbox::Create({});
    if (!made.ok() || !(*made)->Load(PLUGIN_CASES).ok()) abort();
  }
}
BENCHMARK(CreateAndLoad)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace dunebox

BENCHMARK_MAIN();
