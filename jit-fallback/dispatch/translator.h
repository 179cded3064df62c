// The process-wide half of translation: finds or makes the code for a guest address, links it, and
// takes it back when the guest's memory changes. Shared by all threads.
//
// Lock order: the code source's own lock, then the translator's. A thread counts as running from
// before it enters translated code until it has read what it needs to know about where it left; the
// memory of blocks is reused only when no thread is running.
#ifndef DUNEBOX_JIT_FALLBACK_DISPATCH_TRANSLATOR_H_
#define DUNEBOX_JIT_FALLBACK_DISPATCH_TRANSLATOR_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <variant>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "hostcalls/counter.h"
#include "jit-fallback/cache/code_cache.h"
#include "jit-fallback/dispatch/thread_context.h"
#include "jit-fallback/emit/emitter.h"

namespace dunebox::jit {

// Where guest code comes from.
class CodeSource {
 public:
  virtual ~CodeSource() = default;
  struct Code {
    std::span<const std::uint8_t> bytes;
    bool is_watched;  // the translator hears (Invalidate) of any change to them after this,
    // unless another thread has ended that meanwhile: to be asked with the translator's lock held,
    // before a block made of them is used.
    absl::FunctionRef<bool()> is_still_watched;
  };
  using Use = absl::FunctionRef<void(const Code&)>;
  // Calls `use` with the executable bytes at `pc`, at most `most` of them, none when there are
  // none. Without `watch` they are not watched from now on.
  virtual void WithCode(std::uint64_t pc, std::size_t most, bool watch, Use use) = 0;
};

// Why a thread is out of translated code, with its Context exact.
struct AtSystemCall {};  // `rip` is behind it
struct AtInstruction {   // `rip` is at one that the runtime carries out, or that always traps
  Instruction instruction;
  bool is_too_long;  // refused for its length: #GP, not #UD
};
struct AtFault {  // an exception of the CPU's at `rip`
  std::uint64_t vector, error_code, address;
  int signal, code;  // as the host kernel reported it
};
struct AtFetchFault {     // the instruction at `rip` cannot be fetched
  std::uint64_t address;  // the byte that is missing
};
struct AtKick {};
struct AtStep {};  // Step() has done its instruction
using Stop = std::variant<AtSystemCall, AtInstruction, AtFault, AtFetchFault, AtKick, AtStep>;

class Translator;

// One thread of translated code. Used by its own host thread, but for the translator's changes.
class TranslatedThread {
 public:
  TranslatedThread(Translator& translator, std::unique_ptr<ThreadContext> context);
  ~TranslatedThread();
  TranslatedThread(const TranslatedThread&) = delete;
  TranslatedThread& operator=(const TranslatedThread&) = delete;

  ThreadContext& context() { return *context_; }
  // Continues at context().rip until something happens.
  Stop Run();
  // The same, for who expects a system call: true at one, and else `stop` is what Run would return.
  bool RunToSystemCall(Stop& stop);
  // Executes one instruction, whatever watches its page: for single steps, and for stores into code
  // that has just been invalidated.
  Stop Step();

 private:
  friend class Translator;
  struct Resume {
    std::uint64_t pc = 0, host = 0, version = 0;
  };

  // Of the program counter: whether its block is known, if `version` is the translator's.
  Resume& KnownAt(std::uint64_t pc) { return resumes_[(pc ^ (pc >> 8)) % resumes_.size()]; }
  // From next_, or if there is none, the block at context().rip.
  Stop GoOn();
  ExitReason EnterAt(std::uint64_t host, EntryKind kind, std::uint64_t version);
  std::optional<Stop> Leave(ExitReason reason);
  std::optional<Stop> OnLink();
  std::optional<Stop> OnLookup();
  std::optional<Stop> OnSignal();
  Stop AsNative(const AtFault& fault);
  std::optional<Stop> OnStale();
  Stop OnInstruction();

  Translator& translator_;
  const std::unique_ptr<ThreadContext> context_;
  std::atomic<bool> is_running_{false};
  // The block to go on with, when the last exit has found it already.
  std::optional<Resume> next_;
  EntryKind next_kind_ = EntryKind::kDirect;
  std::array<Counter, kExitReasons> exits_;
  std::array<Resume, 256> resumes_{};  // by pc; valid for one version of the translator
};

// What has been done so far. Of the process, threads that are gone included; a forked child begins
// at zero, although it goes on with its parent's blocks.
struct TranslatorStatistics {
  CacheCounters cache;
  std::uint64_t entry_stubs = 0;  // blocks that only lead from an indirect jump to another block
  std::uint64_t translate_nanoseconds = 0;          // with Options::measure_time
  std::array<std::uint64_t, kExitReasons> exits{};  // by ExitReason
};

class Translator {
 public:
  struct Options {
    std::size_t cache_size = std::size_t{256} << 20;
    Limits limits;
    EmitterOptions emitter;
    bool measure_time = false;
    // Told of every block that was made. Called without a lock. Null: nobody is.
    std::function<void(std::uint64_t pc, std::uint64_t host, std::uint32_t size)> on_block;
    // Told of all code before it can run, exit stubs included. Called with the lock held.
    OnNewCode on_new_code;
  };
  static absl::StatusOr<std::unique_ptr<Translator>> Create(Options options, CodeSource& source);

  // Code in [start, end) is not what it was. No thread enters it again; those in it leave it at the
  // end of its block.
  void Invalidate(std::uint64_t start, std::uint64_t end);

  void LockForFork() { mutex_.lock(); }
  void UnlockAfterFork() { mutex_.unlock(); }
  // In a forked child, unlocked, whose only thread is `self`'s: code memory of its own at the same
  // addresses in place of the parent's, which goes on writing to that.
  absl::Status ContinueAfterFork(TranslatedThread& self);
  TranslatorStatistics statistics();
  // Calls `look` while the cache does not change.
  void Inspect(absl::FunctionRef<void(const CodeCache&)> look);

 private:
  friend class TranslatedThread;
  struct Found {
    std::uint32_t block;
    std::uint64_t host;
    std::uint64_t version;
  };
  using Apply = absl::FunctionRef<void(const Found&)>;

  Translator(Options options, CodeSource& source, std::unique_ptr<CodeCache> cache);

  void Enlist(TranslatedThread& thread);
  void Dismiss(TranslatedThread& thread);
  // Finds or makes the block and calls `apply` while it cannot be invalidated. Returns the address
  // of the missing byte when the code cannot be fetched.
  std::optional<std::uint64_t> WithBlock(std::uint64_t pc, EntryKind kind, Apply apply);
  // A block of the one instruction at `pc` that nobody finds again.
  std::optional<std::uint64_t> WithSingle(std::uint64_t pc, Apply apply);
  std::uint32_t Make(EntryKind kind);
  std::uint32_t MakeNow(EntryKind kind);
  // Preconditions: no lock is held.
  void Announce();
  void Flush();
  std::uint64_t version() const { return version_.load(std::memory_order_seq_cst); }

  const Options options_;
  CodeSource& source_;
  std::unique_ptr<CodeCache> cache_;
  // Changes whenever a host address that somebody may remember stops being good.
  std::atomic<std::uint64_t> version_{1};
  std::mutex mutex_;  // guards what follows, and changes of cache_
  Emitter emitter_;
  Block block_;
  struct Made {
    std::uint64_t pc, host;
    std::uint32_t size;
  };
  std::vector<Made> made_;  // not announced yet
  std::uint64_t entry_stubs_ = 0, entry_stub_guest_bytes_ = 0, translate_nanoseconds_ = 0;
  std::array<std::uint64_t, kExitReasons> past_exits_{};  // of threads that are gone
  std::vector<TranslatedThread*> threads_;
};

}  // namespace dunebox::jit

#endif  // DUNEBOX_JIT_FALLBACK_DISPATCH_TRANSLATOR_H_
