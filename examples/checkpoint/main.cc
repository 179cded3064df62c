// A long computation that can be killed at any time and goes on where its last checkpoint was, in the middle of its
// recursion. It knows nothing of files: its memory and its stack lie in an arena at a fixed address, and a checkpoint is
// the pages of it that were written to since the last one, by libdune's dirty bits. What it computes: the number below
// LIMIT with the longest Collatz chain, with a table of what is known already.
//
//   checkpoint FILE [--limit=LIMIT] [--die-after=CHECKPOINTS] [--backend=best|software|ring0] [--dirty=best|kernel|faults]
//              [--by=best|clone|standing-still]
//
// FILE has the checkpoints, if there are any. The program is static and not relocatable, for return addresses lie in the
// arena too. --die-after kills it, to show that nothing is lost. --by=clone: checkpoints are written while the computation
// goes on, out of a copy-on-write clone of the process, which the software backend has not. What is asked for and not to be
// had is exit status 77 and the reason.
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "dune/dune.h"
#include "examples/checkpoint/checkpointer.h"
#include "examples/checkpoint/log.h"

namespace {

using checkpoint::Checkpointer;
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
  dune::Wanted backend = dune::Wanted::kBest;
  dune::DirtyMethod dirty_method = dune::DirtyMethod::kBest;
  std::optional<Checkpointer::By> by;  // nothing: the best
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
  static constexpr struct {
    std::string_view argument;
    void (*set)(Options& options);
  } kWords[] = {
      {"--backend=best", [](Options& o) { o.backend = dune::Wanted::kBest; }},
      {"--backend=software", [](Options& o) { o.backend = dune::Wanted::kSoftware; }},
      {"--backend=ring0", [](Options& o) { o.backend = dune::Wanted::kRing0; }},
      {"--dirty=best", [](Options& o) { o.dirty_method = dune::DirtyMethod::kBest; }},
      {"--dirty=kernel", [](Options& o) { o.dirty_method = dune::DirtyMethod::kKernel; }},
      {"--dirty=faults", [](Options& o) { o.dirty_method = dune::DirtyMethod::kFaults; }},
      {"--by=best", [](Options& o) { o.by.reset(); }},
      {"--by=clone", [](Options& o) { o.by = Checkpointer::By::kClone; }},
      {"--by=standing-still", [](Options& o) { o.by = Checkpointer::By::kStandingStill; }},
  };
  for (const auto& word : kWords) {
    if (argument != word.argument) continue;
    word.set(options);
    return true;
  }
  if (argument.starts_with("--")) return false;
  options.path = argument.data();
  return true;
}

absl::StatusOr<Checkpointer::By> ChooseBy(std::optional<Checkpointer::By> wanted) {
  const bool has_clones = dune::GetCapabilities().process_clones;
  if (wanted == Checkpointer::By::kClone && !has_clones) {
    return absl::UnavailableError("the software backend has no copy-on-write clones of the process");
  }
  return wanted.value_or(has_clones ? Checkpointer::By::kClone : Checkpointer::By::kStandingStill);
}

absl::Status Run(const Options& options) {
  const absl::StatusOr<Checkpointer::By> by = ChooseBy(options.by);
  if (!by.ok()) return by.status();
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
  std::printf("checkpoints are written %s\n", *by == Checkpointer::By::kClone
                                                   ? "out of a copy-on-write clone, while the computation goes on"
                                                   : "while the computation stands still");
  Checkpointer checkpointer(*log, range, *by);
  absl::Duration still;
  int made = 0;
  while (!arena.is_over) {
    swapcontext(&runner, &arena.context);
    const absl::Time begin = absl::Now();
    if (absl::Status taken = checkpointer.Take(); !taken.ok()) return taken;
    still += absl::Now() - begin;
    if (++made == options.die_after) {
      if (absl::Status finished = checkpointer.Finish(); !finished.ok()) return finished;
      std::fflush(stdout);
      raise(SIGKILL);
    }
  }
  if (absl::Status finished = checkpointer.Finish(); !finished.ok()) return finished;
  std::printf("made %d checkpoints of %zu pages, in all; each whole would have been %zu\n", made,
              checkpointer.pages(), static_cast<std::size_t>(made) * (range.size / dune::kPageSize));
  std::printf("the computation stood still for %.1f ms\n", absl::ToDoubleMilliseconds(still));
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
    std::fprintf(stderr, "usage: checkpoint FILE [--limit=LIMIT] [--die-after=CHECKPOINTS] [--backend=best|software|ring0] "
                         "[--dirty=best|kernel|faults] [--by=best|clone|standing-still]\n");
    return 2;
  }
  absl::Status status =
      dune::Enter({.backend = options.backend, .dirty_method = options.dirty_method});
  if (status.ok()) status = Run(options);
  if (status.ok()) return 0;
  std::fprintf(stderr, "dunebox: checkpoint: %s\n", std::string(status.message()).c_str());
  return absl::IsUnavailable(status) ? 77 : 1;
}
