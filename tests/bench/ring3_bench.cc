// Ring 3 by the translator (dunebox/ring3.h): a system call of its code's to the monitor and back, beside what a monitor
// in another process costs at least, a switch there and back by pipes. The clock, for the other process counts, too.
//
//   ring3_bench [Google Benchmark's options]
#include <benchmark/benchmark.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <string>

#include "dune/dune.h"
#include "dune/user.h"
#include "dunebox/ring3.h"

namespace {

constexpr std::uintptr_t kCode = 0x400000;
constexpr unsigned char kCalls[] = {0x0f, 0x05, 0xeb, 0xfc};  // again: syscall; jmp again

void RunUser(benchmark::State& state, absl::Duration time) {
  absl::StatusOr<dune::PageTable> table = dune::PageTable::Create(dune::PageTable::Contents::kEmpty);
  void* const code =
      mmap(nullptr, dune::kPageSize, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  std::memcpy(code, kCalls, sizeof(kCalls));
  if (!table.ok() ||
      !table->Map({kCode, dune::kPageSize}, code, {.rights = dune::Rights::kReadExecute}).ok()) {
    state.SkipWithError("no table");
    return;
  }
  dune::UserContext context;
  context.rip = kCode;
  for (auto _ : state) {
    const absl::StatusOr<dune::Stop> stop = dune::RunUser(context, *table, {.time = time});
    if (!stop.ok() || stop->reason != dune::StopReason::kSystemCall) return state.SkipWithError("RunUser");
  }
  munmap(code, dune::kPageSize);
}
BENCHMARK_CAPTURE(RunUser, without_a_limit, absl::InfiniteDuration());
BENCHMARK_CAPTURE(RunUser, with_a_time_limit, absl::Seconds(10));

void PipeThereAndBack(benchmark::State& state) {
  int there[2], back[2];
  if (pipe(there) != 0 || pipe(back) != 0) return state.SkipWithError("pipe");
  const pid_t child = fork();
  char byte = 0;
  if (child == 0) {
    close(there[1]);
    while (read(there[0], &byte, 1) == 1 && write(back[1], &byte, 1) == 1) {
    }
    _exit(0);
  }
  for (auto _ : state) {
    if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1) return state.SkipWithError("pipe");
  }
  for (const int end : {there[0], there[1], back[0], back[1]}) close(end);
  waitpid(child, nullptr, 0);
}
BENCHMARK(PipeThereAndBack)->UseRealTime();

}  // namespace

int main(int argc, char** argv) {
  absl::Status ready = dunebox::ProvideRing3();
  if (ready.ok()) ready = dune::Enter({.backend = dune::Wanted::kSoftware});
  if (!ready.ok()) {
    std::fprintf(stderr, "dunebox: ring3_bench: %s\n", std::string(ready.message()).c_str());
    return 1;
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
}
