// A long computation that can be killed at any time and goes on where its last checkpoint was, in the middle of its
// recursion. It knows nothing of files: its memory and its stack lie in an arena at a fixed address, and a checkpoint is
// the pages of it that were written to since the last one, by libdune's dirty bits. What it computes: the number below
// LIMIT with the longest Collatz chain, with a table of what is known already.
//
//   checkpoint FILE [--limit=LIMIT] [--die-after=CHECKPOINTS] [--dirty=best|kernel|faults]
//
// FILE has the checkpoints, if there are any. The program is static and not relocatable, for return addresses lie in the
// arena too. --die-after kills it, to show that nothing is lost.
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "dune/dune.h"
#include "examples/checkpoint/log.h"

namespace {

using dune::Range;

constexpr std::uintptr_t kArenaAddress = 0x1000'0000'0000;
constexpr std::size_t kStackSize = 256 << 10;
constexpr std::uint32_t kLargestLimit = 16 << 20;
constexpr std::uint32_t kStepsBetween = 400'000;

// All that the computation is, and nothing else.
struct Arena {
  ucontext_t context;  // where it goes on
  std::uint32_t limit;
  std::uint32_t steps;
  std::uint32_t best;
  std::uint32_t best_length;
  bool is_over;
  alignas(dune::kPageSize) char stack[kStackSize];
  alignas(dune::kPageSize) std::uint32_t lengths[kLargestLimit];
};

Arena& arena = *reinterpret_cast<Arena*>(kArenaAddress);
// Who runs the computation: this process's, and so not in the arena.
ucontext_t runner;

std::uint32_t ChainLength(std::uint64_t number) {
  if (number == 1) return 1;
  if (number < arena.limit && arena.lengths[number] != 0) return arena.lengths[number];
  // Anywhere in the recursion: the other side does not know where this one is, and need not.
  if (++arena.steps % kStepsBetween == 0) swapcontext(&arena.context, &runner);
  const std::uint32_t length =
      1 + ChainLength(number % 2 == 0 ? number / 2 : 3 * number + 1);
  if (number < arena.limit) arena.lengths[number] = length;
  return length;
}

void Compute() {
  for (std::uint32_t number = 1; number < arena.limit; ++number) {
    const std::uint32_t length = ChainLength(number);
    if (length <= arena.best_length) continue;
    arena.best = number;
    arena.best_length = length;
  }
  arena.is_over = true;
}

void Begin(std::uint32_t limit) {
  arena.limit = limit;
  getcontext(&arena.context);
  arena.context.uc_stack.ss_sp = arena.stack;
  arena.context.uc_stack.ss_size = sizeof(arena.stack);
  arena.context.uc_link = &runner;
  makecontext(&arena.context, Compute, 0);
}

struct Options {
  const char* path = nullptr;
  std::uint32_t limit = 1'000'000;
  int die_after = 0;
  dune::DirtyMethod dirty_method = dune::DirtyMethod::kBest;
};

bool ParseOption(std::string_view argument, Options& options) {
  constexpr std::string_view kLimit = "--limit=";
  constexpr std::string_view kDieAfter = "--die-after=";
  if (argument.starts_with(kLimit)) {
    options.limit = static_cast<std::uint32_t>(std::atoi(argument.data() + kLimit.size()));
    return options.limit > 1 && options.limit <= kLargestLimit;
  }
  if (argument.starts_with(kDieAfter)) {
    options.die_after = std::atoi(argument.data() + kDieAfter.size());
    return options.die_after > 0;
  }
  if (argument == "--dirty=kernel") options.dirty_method = dune::DirtyMethod::kKernel;
  if (argument == "--dirty=faults") options.dirty_method = dune::DirtyMethod::kFaults;
  if (argument.starts_with("--")) return argument.starts_with("--dirty=");
  options.path = argument.data();
  return true;
}

absl::Status Run(const Options& options) {
  const Range range{kArenaAddress, sizeof(Arena)};
  void* const mapped = mmap(&arena, range.size, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
  if (mapped != &arena) return absl::UnavailableError("the arena's address is taken");
  absl::StatusOr<checkpoint::CheckpointLog> log = checkpoint::CheckpointLog::Open(options.path);
  if (!log.ok()) return log.status();
  absl::StatusOr<int> restored = log->Restore(range);
  if (!restored.ok()) return restored.status();
  if (absl::Status tracked =
          dune::PageTable::Current().Track(range, dune::Tracking::kDirty);
      !tracked.ok()) {
    return tracked;
  }
  if (*restored == 0) Begin(options.limit);
  std::printf("restored %d checkpoints\n", *restored);
  std::size_t saved = 0;
  int made = 0;
  while (!arena.is_over) {
    swapcontext(&runner, &arena.context);
    absl::StatusOr<std::size_t> pages = log->Append(range);
    if (!pages.ok()) return pages.status();
    saved += *pages;
    if (++made == options.die_after) {
      std::fflush(stdout);
      raise(SIGKILL);
    }
  }
  std::printf("made %d checkpoints of %zu pages, in all; each whole would have been %zu\n", made,
              saved, static_cast<std::size_t>(made) * (range.size / dune::kPageSize));
  std::printf("below %u the longest chain, %u long, is that of %u\n", arena.limit,
              arena.best_length, arena.best);
  return absl::OkStatus();
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  for (int index = 1; index < argc; ++index) {
    if (ParseOption(argv[index], options)) continue;
    std::fprintf(stderr, "dunebox: checkpoint: bad argument %s\n", argv[index]);
    return 2;
  }
  if (options.path == nullptr) {
    std::fprintf(stderr, "usage: checkpoint FILE [--limit=LIMIT] [--die-after=CHECKPOINTS]\n");
    return 2;
  }
  absl::Status status =
      dune::Enter({.backend = dune::Wanted::kSoftware, .dirty_method = options.dirty_method});
  if (absl::IsUnavailable(status)) return 77;
  if (status.ok()) status = Run(options);
  if (status.ok()) return 0;
  std::fprintf(stderr, "dunebox: checkpoint: %s\n", std::string(status.message()).c_str());
  return 1;
}
