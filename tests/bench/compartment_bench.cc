// What compartments cost beside what a program would use instead of them: fork, another process, a
// thread. All in the same run; what goes to another process or thread is measured in real time, for
// it sleeps.
#include <benchmark/benchmark.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "dunebox/compartment.h"

namespace dunebox {
namespace {

std::shared_ptr<CompartmentCode> Code() {
  static const auto* const code = [] {
    auto loaded =
        CompartmentCode::Load({.libraries = {COMPARTMENT_CASES}, .gates = {"sign", "lend"}});
    if (!loaded.ok()) abort();
    return new std::shared_ptr<CompartmentCode>(*std::move(loaded));
  }();
  return *code;
}

std::shared_ptr<Region> NewRegion(const char* name) {
  auto region = Region::Create(name, 4096);
  if (!region.ok()) abort();
  return *std::move(region);
}

Gate Lend() {
  return Gate::ToHost<long(long)>("lend", 1l, [](long by, Compartment&, Tainted<long> value) {
    return value.UnverifiedValue() + by;
  });
}

// What a request handler would have: something to read, to write, to copy, and a way out.
Grants SomeGrants() {
  static const auto read = NewRegion("read"), written = NewRegion("written"),
                    copied = NewRegion("copied");
  return Grants()
      .Add(read, RegionAccess::kRead)
      .Add(written, RegionAccess::kReadWrite)
      .Add(copied, RegionAccess::kCopyOnWrite)
      .Add(CallGroup::kTime)
      .Add(Lend());
}

std::shared_ptr<Compartment> Make(Grants grants) {
  auto made = Compartment::Create(Code(), std::move(grants));
  if (!made.ok()) abort();
  return *std::move(made);
}

// ---- switching

void SystemCall(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(syscall(SYS_getppid));
}
BENCHMARK(SystemCall);

// Another process that answers what it is asked at once.
void SwitchToProcessAndBack(benchmark::State& state) {
  int there[2], back[2];
  if (pipe(there) != 0 || pipe(back) != 0) abort();
  const auto pass = [](int from, int to) {
    char byte = 0;
    return read(from, &byte, 1) == 1 && write(to, &byte, 1) == 1;
  };
  const pid_t child = fork();
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    while (pass(there[0], back[1])) {
    }
    _exit(0);
  }
  for (auto _ : state) {
    char byte = 0;
    if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1) abort();
  }
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  for (const int fd : {there[0], there[1], back[0], back[1]}) close(fd);
}
BENCHMARK(SwitchToProcessAndBack)->UseRealTime();

void SwitchToCompartmentAndBack(benchmark::State& state) {
  const auto compartment = Make(SomeGrants());
  auto next = *compartment->Function<int()>("next");
  for (auto _ : state) benchmark::DoNotOptimize(next());
}
BENCHMARK(SwitchToCompartmentAndBack);

// With the call that they come from.
void CallAndGateToHost(benchmark::State& state) {
  const auto compartment = Make(SomeGrants());
  auto use = *compartment->Function<long(long)>("use_lend");
  for (auto _ : state) benchmark::DoNotOptimize(use(1l));
}
BENCHMARK(CallAndGateToHost);

void CallAndGateIntoCompartment(benchmark::State& state) {
  const auto callee = Make(Grants());
  const auto compartment = Make(Grants().Add(*Gate::Into("lend", callee, "next", 0, 0)));
  auto use = *compartment->Function<long(long)>("use_lend");
  for (auto _ : state) benchmark::DoNotOptimize(use(1l));
}
BENCHMARK(CallAndGateIntoCompartment);

// ---- beginning anew: each with a first thing done in it, and its end

void ForkAndExit(benchmark::State& state) {
  for (auto _ : state) {
    const pid_t child = fork();
    if (child == 0) _exit(0);
    waitpid(child, nullptr, 0);
  }
}
BENCHMARK(ForkAndExit)->UseRealTime()->Unit(benchmark::kMicrosecond);

void ThreadAndJoin(benchmark::State& state) {
  for (auto _ : state) {
    pthread_t thread;
    if (pthread_create(
            &thread, nullptr, [](void* none) { return none; }, nullptr) != 0)
      abort();
    pthread_join(thread, nullptr);
  }
}
BENCHMARK(ThreadAndJoin)->UseRealTime()->Unit(benchmark::kMicrosecond);

void CreateCallAndDestroy(benchmark::State& state) {
  for (auto _ : state) {
    const auto compartment = Make(SomeGrants());
    if (!(*compartment->Function<int()>("next"))().ok()) abort();
  }
}
BENCHMARK(CreateCallAndDestroy)->UseRealTime()->Unit(benchmark::kMicrosecond);

void CreateOnly(benchmark::State& state) {
  constexpr std::size_t kMost = 200;
  std::vector<std::shared_ptr<Compartment>> made;
  for (auto _ : state) {
    made.push_back(Make(SomeGrants()));
    if (made.size() < kMost) continue;
    state.PauseTiming();
    made.clear();
    state.ResumeTiming();
  }
}
BENCHMARK(CreateOnly)->Unit(benchmark::kMicrosecond);

void RecycleAndCall(benchmark::State& state) {
  const auto compartment = Make(SomeGrants());
  auto next = *compartment->Function<int()>("next");
  for (auto _ : state) {
    if (!compartment->Recycle().ok() || !next().ok()) abort();
  }
}
BENCHMARK(RecycleAndCall)->UseRealTime()->Unit(benchmark::kMicrosecond);

void Narrow(benchmark::State& state) {
  const auto region = NewRegion("narrowed");
  for (auto _ : state) {
    state.PauseTiming();
    const auto compartment = Make(Grants().Add(region, RegionAccess::kReadWrite));
    state.ResumeTiming();
    if (!compartment->Narrow(Grants().Add(region, RegionAccess::kRead)).ok()) abort();
  }
}
BENCHMARK(Narrow)->Iterations(2000)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace dunebox

BENCHMARK_MAIN();
