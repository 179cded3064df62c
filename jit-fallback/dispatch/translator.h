// The half of translation that threads share: finds or makes the code for a guest address, links it, and
// takes it back when the guest's memory changes. All threads of a guest have the same one, and guests whose code
// is the same may have one in common.
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
#include "hostcalls/asymmetric_fence.h"
#include "hostcalls/counter.h"
#include "jit-fallback/cache/block_store.h"
#include "jit-fallback/cache/code_cache.h"
#include "jit-fallback/cache/kept_blocks.h"
#include "jit-fallback/cache/prepared_blocks.h"
#include "jit-fallback/dispatch/thread_context.h"
#include "jit-fallback/emit/emitter.h"

namespace dunebox::jit {

class Translator;

// Where guest code comes from: the memory of one guest. Guests whose code is the same at the same addresses may
// share a translator as long as it is.
class CodeSource {
 public:
  virtual ~CodeSource() = default;
  struct Code {
    std::span<const std::uint8_t> bytes;
    bool is_watched;  // the translator hears (Invalidate) of any change to them after this,
    // unless another thread has ended that meanwhile: to be asked with the translator's lock held,
    // before a block made of them is used.
    absl::FunctionRef<bool()> is_still_watched;
    // Not for the translator that asks, which others share: threads of this source leave it (Evict).
    bool is_own = false;
  };
  using Use = absl::FunctionRef<void(const Code&)>;
  enum class Purpose : std::uint8_t {
    kBlock,   // a block is made of them, and they are watched from now on
    kSingle,  // a block that runs once
    kLook,
  };
  // Calls `use` with the executable bytes at `pc`, at most `most` of them, none when there are none.
  virtual void WithCode(std::uint64_t pc, std::size_t most, Purpose purpose, Use use) = 0;
  // Which translator its threads go on with when they have left one; null: there is none to be had.
  virtual std::shared_ptr<Translator> CurrentTranslator() = 0;
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
struct AtKick {};  // also when Context::instructions_left has become negative
struct AtStep {};  // Step() has done its instruction
struct AtNoTranslator {};  // CurrentTranslator() has none: the guest cannot go on
using Stop = std::variant<AtSystemCall, AtInstruction, AtFault, AtFetchFault, AtKick, AtStep,
                          AtNoTranslator>;

// What came of asking for a block.
struct BlockFound {};
struct CodeMissing {
  std::uint64_t address;  // the byte that cannot be fetched
};
struct CodeNotShared {};  // CodeSource::Code::is_own
using BlockOutcome = std::variant<BlockFound, CodeMissing, CodeNotShared>;

// One thread of translated code. Used by its own host thread, but for the translator's changes.
class TranslatedThread {
 public:
  TranslatedThread(std::shared_ptr<Translator> translator, CodeSource& source,
                   std::unique_ptr<ThreadContext> context);
  ~TranslatedThread();
  TranslatedThread(const TranslatedThread&) = delete;
  TranslatedThread& operator=(const TranslatedThread&) = delete;

  ThreadContext& context() { return *context_; }
  // Continues at context().rip until something happens.
  Stop Run();
  // The same in a window, for who expects a system call: true at one, and else `stop` is what Run would return.
  bool RunToSystemCall(Stop& stop) {
    std::optional<ExitReason> reason;
    return RunNowToSystemCall(reason) || GoOnToSystemCall(reason, stop);
  }
  // Executes one instruction, whatever watches its page: for single steps, and for stores into code
  // that has just been invalidated.
  Stop Step();

 private:
  friend class Translator;
  struct Resume {
    std::uint64_t pc = 0, host = 0, version = 0;
  };
  enum class Where : std::uint8_t {
    kOutside,
    kRunning,  // in translated code
    kAtCall,   // Run has returned AtSystemCall and was not called again
  };

  // Of the program counter: whether its block is known, if `version` is the translator's.
  Resume& KnownAt(std::uint64_t pc) { return resumes_[(pc ^ (pc >> 8)) % resumes_.size()]; }
  bool IsRunning() const { return where_.load(std::memory_order_seq_cst) == Where::kRunning; }
  void Stand(Where where) { where_.store(where, std::memory_order_release); }
  // What follows sees what whoever has asked about calls (IsAnyAtCall) did before, or is seen to be one.
  void StandAtCall() {
    Stand(Where::kAtCall);
    LightFence();
  }
  // From next_, or if there is none, the block at context().rip.
  Stop GoOn();
  // Makes CurrentTranslator() its own; false: there is none.
  bool Move();
  // Counts as running from then on. False: what was found when the translator had this version is not good any more.
  bool Begin(std::uint64_t version);
  ExitReason EnterAt(std::uint64_t host, EntryKind kind, std::uint64_t version);
  // Of RunToSystemCall: whether the block was known, and its code led to one. Else why it was left; nothing: it was not
  // entered.
  bool RunNowToSystemCall(std::optional<ExitReason>& reason);
  // When it is not there at once.
  bool GoOnToSystemCall(std::optional<ExitReason> reason, Stop& stop);
  // `stepped`: the one instruction that a single block was made of. Null: it was another block.
  std::optional<Stop> Leave(ExitReason reason, const Instruction* stepped = nullptr);
  static std::optional<Stop> StopAfter(const BlockOutcome& outcome);
  std::optional<Stop> OnLink();
  std::optional<Stop> OnLookup();
  std::optional<Stop> OnSignal();
  Stop AsNative(const AtFault& fault);
  std::optional<Stop> OnStale();
  // Whether a block from there on would be one that does not check itself.
  bool MayBeWatched(std::uint64_t pc);
  std::optional<Stop> OnInstruction(ExitReason reason);
  AtInstruction AtStepped(const Instruction& stepped);

  std::shared_ptr<Translator> translator_;
  CodeSource& source_;
  std::unique_ptr<ThreadContext> context_;  // never null, but at the end
  std::atomic<bool> must_move_{false};
  std::atomic<Where> where_{Where::kOutside};
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
  std::uint64_t taken = 0;        // blocks that another translator had made, or that were prepared
  std::uint64_t translate_nanoseconds = 0;          // with Options::measure_time
  std::array<std::uint64_t, kExitReasons> exits{};  // by ExitReason
};

// A block, as it went into the code cache.
struct MadeBlock {
  std::uint64_t pc, host;  // of the first byte
  std::vector<std::uint8_t> code;
};

class Translator {
 public:
  struct Options {
    std::size_t cache_size = std::size_t{256} << 20;
    Limits limits;
    EmitterOptions emitter;
    bool measure_time = false;
    // The code is called, and the x87 unit stays the caller's until there is code that may use it
    // (ThreadContext::SetGate). With kSeg.
    bool is_called = false;
    // Where translations come from and go to; outlives the translator. Null: nowhere.
    BlockStore* store = nullptr;
    // Where they come from, before the store is asked. Null: nowhere.
    std::shared_ptr<const PreparedBlocks> prepared;
    // Told of every block that was made. Called without a lock. Null: nobody is.
    std::function<void(const MadeBlock&)> on_block;
    // Told of all code before it can run, exit stubs included. Called with the lock held.
    OnNewCode on_new_code;
  };
  static absl::StatusOr<std::unique_ptr<Translator>> Create(Options options);

  // Code in [start, end) is not what it was. No thread enters it again; those in it leave it at the
  // end of its block.
  void Invalidate(std::uint64_t start, std::uint64_t end);

  // The memory of a thread that has ended, for the next in a window at `window_base`, if there is one: its first
  // jumps find their targets. Null: none is left.
  std::unique_ptr<ThreadContext> TakeParked(std::uint64_t window_base);

  // Whether a thread of the source is at a system call for which `is_one` is true, which is asked with the registers that it
  // was made with. What the caller has done before, whoever comes to a call later sees.
  bool IsAnyAtCall(const CodeSource& source, absl::FunctionRef<bool(const Context& registers)> is_one);
  // Threads of `source` go on with its CurrentTranslator(), which is another one already. `kick` makes those
  // that run translated code leave it soon; when this returns none of them is in it. Not to be called by a
  // thread that is.
  void Evict(const CodeSource& source, absl::FunctionRef<void()> kick);

  void LockForFork();
  void UnlockAfterFork() { mutex_.unlock(); }
  // In a forked child, unlocked, whose only thread is `self`'s: code memory of its own at the same
  // addresses in place of the parent's, which goes on writing to that.
  absl::Status ContinueAfterFork(TranslatedThread& self);
  TranslatorStatistics statistics();
  // Calls `look` while the cache does not change.
  void Inspect(absl::FunctionRef<void(const CodeCache&)> look);
  // The blocks that can be entered.
  std::vector<MadeBlock> LivingBlocks();
  // For new threads, of what indirect jumps may lead to now.
  absl::StatusOr<std::shared_ptr<const LookupTable>> MakeTable();

 private:
  friend class TranslatedThread;
  struct Found {
    std::uint32_t block;
    std::uint64_t host;
    std::uint64_t version;
  };
  using Apply = absl::FunctionRef<void(const Found&)>;

  Translator(Options options, std::unique_ptr<CodeCache> cache);

  void Enlist(TranslatedThread& thread);
  void Dismiss(TranslatedThread& thread);
  void Forget(TranslatedThread& thread);
  // The thread has ended; its memory stays with it if there is enough parked.
  void Retire(TranslatedThread& thread);
  // Finds or makes the block and calls `apply` while it cannot be invalidated.
  BlockOutcome WithBlock(TranslatedThread& thread, std::uint64_t pc, EntryKind kind, Apply apply);
  // A block of the one instruction at `pc` that nobody finds again.
  BlockOutcome WithSingle(CodeSource& source, std::uint64_t pc, Apply apply);
  std::uint32_t Make(EntryKind kind);
  std::uint32_t MakeNow(EntryKind kind);
  // Until the next call.
  std::span<const std::uint8_t> BytesOf(const CodeSource::Code& code);
  // The block as somebody else has translated it; nothing: nobody has, or it is not to be had so. In moved_.
  std::optional<FoundBlock> FindKept(std::uint64_t pc, std::span<const std::uint8_t> bytes, EntryKind kind);
  bool keeps_copies() const { return options_.store != nullptr || options_.prepared != nullptr; }
  bool WouldAdmitX87(const FoundBlock& kept) const;
  // The same, in the cache, and with it what it leads to within `bytes` (taken_along_); kNone.
  std::uint32_t Take(std::uint64_t pc, std::span<const std::uint8_t> bytes, EntryKind kind);
  void TakeAlong(std::uint64_t start, std::span<const std::uint8_t> bytes);
  // Where it leads to is in ways_ then. kNone: there is no room.
  std::uint32_t Add(std::uint64_t pc, std::span<const std::uint8_t> bytes, EntryKind kind, const FoundBlock& kept);
  void TellOf(std::uint32_t id);
  // Preconditions: no lock is held.
  void Announce();
  void Flush();
  // Threads leave translated code, and enter it again only when they have asked for a block anew.
  void StopThreads();
  // The block is about to be the first that may use the x87 unit.
  void AdmitX87();
  std::uint64_t version() const { return version_.load(std::memory_order_seq_cst); }

  const Options options_;
  std::unique_ptr<CodeCache> cache_;
  // Changes whenever a host address that somebody may remember stops being good.
  std::atomic<std::uint64_t> version_{1};
  // Set before the version is one with such a block, for good.
  std::atomic<bool> may_use_x87_{false};
  std::mutex mutex_;  // guards what follows, and changes of cache_
  Emitter emitter_;
  Block block_;
  MovedCode moved_;
  struct Way {
    std::uint64_t target;
    std::uint32_t link;  // kNone: an indirect jump's
  };
  std::vector<Way> ways_;                   // out of what is being taken
  std::vector<std::uint32_t> taken_along_;  // blocks
  std::vector<std::uint8_t> copied_;
  std::vector<MadeBlock> made_;  // not announced yet
  std::uint64_t entry_stubs_ = 0, entry_stub_guest_bytes_ = 0, taken_ = 0, translate_nanoseconds_ = 0;
  std::array<std::uint64_t, kExitReasons> past_exits_{};  // of threads that are gone
  std::vector<TranslatedThread*> threads_;
  // Of threads that have ended. Nobody takes targets from them: who gets one clears it if any has been taken back
  // meanwhile.
  std::vector<std::unique_ptr<ThreadContext>> parked_;
  std::uint64_t parked_entries_ = 0;  // ThreadContext::table_entries, of all
  std::uint64_t taken_back_ = 0;      // how often
};

// ---- what each call of a function takes ---------------------------------------------------------

inline bool TranslatedThread::Begin(std::uint64_t version) {
  where_.store(Where::kRunning, std::memory_order_relaxed);
  LightFence();
  if (translator_->version() != version || must_move_.load(std::memory_order_seq_cst)) return false;
  if (translator_->may_use_x87_.load(std::memory_order_relaxed)) context_->TakeX87();
  return true;
}

inline bool TranslatedThread::RunNowToSystemCall(std::optional<ExitReason>& reason) {
  const Context& state = context_->context();
  const Resume& known = KnownAt(state.rip);
  if (__atomic_load_n(&state.kick, __ATOMIC_RELAXED) != 0 || known.pc != state.rip) return false;
  const ExitReason left = Begin(known.version) ? context_->EnterWindow(known.host) : ExitReason::kKicked;
  if (left != ExitReason::kSystemCall) {
    reason = left;
    return false;
  }
  exits_[static_cast<std::size_t>(left)].Add();
  StandAtCall();
  return true;
}

}  // namespace dunebox::jit

#endif  // DUNEBOX_JIT_FALLBACK_DISPATCH_TRANSLATOR_H_
