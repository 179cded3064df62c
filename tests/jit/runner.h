// Runs guest code from an Arena twice: on the bare processor and translated. Each run takes all
// registers from a Machine, goes on until an exception ends it, and leaves the registers there.
//
// In an Arena's window the translated run is isolated by `seg`, and nothing is accessible below 4
// GiB meanwhile; of a native RSP 32 bits are looked at.
//
// One at a time, on one thread: there are signal handlers underneath.
//
//   Runner runner(arena, {});
//   Ending native = runner.RunNative(machine_a), translated = runner.RunTranslated(machine_b);
#ifndef DUNEBOX_TESTS_JIT_RUNNER_H_
#define DUNEBOX_TESTS_JIT_RUNNER_H_

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "jit-fallback/dispatch/translator.h"
#include "runtime/engine.h"
#include "tests/jit/arena.h"
#include "tests/jit/machine.h"

namespace dunebox::jit {

// The general registers in front of an instruction.
struct Snapshot {
  std::uint64_t rip = 0, rflags = 0;
  std::array<std::uint64_t, 16> gpr{};
};
std::string Describe(const Snapshot& snapshot);

class Runner {
 public:
  struct Options {
    std::size_t cache_size = std::size_t{8} << 20;
    Limits limits;
    bool check_by_loop = true;  // as EmitterOptions
    Isolation isolation = Isolation::kNone;
  };
  Runner(Arena& arena, const Options& options);
  ~Runner();
  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;

  Arena& arena() { return arena_; }
  Translator& translator() { return *translator_; }
  Context& context() { return thread_->context().context(); }
  // Another thread runs from now on, in this memory; who did so far is still one of the translator's.
  std::unique_ptr<TranslatedThread> ChangeThread(std::unique_ptr<ThreadContext> memory);
  std::unique_ptr<ThreadContext> FreshMemory() const;

  Ending RunNative(Machine& machine);
  // With a trap behind each instruction: the state in front of every one, RFLAGS without TF.
  Ending TraceNative(Machine& machine, std::vector<Snapshot>& trace);
  Ending RunTranslated(Machine& machine);

  // Translated with a trap behind each host instruction: `visit` is called in front of each one
  // that a signal would find in translated code, with the guest's state as recovered from there.
  using Visit = std::function<void(const Snapshot& recovered, std::uint64_t host)>;
  Ending StepTranslated(Machine& machine, const Visit& visit);

  // Translated, thrown out by a kick now and then and continued; `visit` gets the state at each
  // kick.
  struct Kicks {
    // In front of every n-th host instruction by single steps, on the average; 0: by a timer. The
    // way in and out takes about sixty.
    unsigned every = 0;
    std::uint64_t seed = 0;
  };
  Ending KickTranslated(Machine& machine, const Kicks& kicks,
                        const std::function<void(const Snapshot&)>& visit);

 private:
  void Load(const Machine& machine);
  void Store(Machine& machine);
  // Runs on through what the runtime would do for the guest; an ending, or a kick.
  bool Continue(Ending& ending);
  Ending EndOf(const AtInstruction& at);
  Ending EndOf(const runtime::Fault& fault);
  void PopFlags(const Instruction& instruction);

  Arena& arena_;
  const Isolation isolation_;
  std::shared_ptr<Translator> translator_;
  const CodeCache* cache_ = nullptr;
  std::unique_ptr<TranslatedThread> thread_;
};

}  // namespace dunebox::jit

#endif  // DUNEBOX_TESTS_JIT_RUNNER_H_
