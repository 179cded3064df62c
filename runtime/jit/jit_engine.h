// The engine that translates: guest code runs in this process as blocks of its own instructions
// with the control flow rewritten (jit-fallback/), on every x86-64 host with FSGSBASE. The
// supervisor is the same as under kvm.
#ifndef DUNEBOX_RUNTIME_JIT_JIT_ENGINE_H_
#define DUNEBOX_RUNTIME_JIT_JIT_ENGINE_H_

#include <atomic>
#include <bitset>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "hostcalls/table/table.h"
#include "jit-fallback/cache/prepared_blocks.h"
#include "jit-fallback/dispatch/lookup_table.h"
#include "jit-fallback/dispatch/translator.h"
#include "runtime/engine.h"
#include "runtime/jit/code_cache_size.h"
#include "runtime/jit/code_pages.h"
#include "runtime/jit/code_recorder.h"
#include "runtime/jit/guest_code_writer.h"
#include "runtime/jit/perf_dump.h"
#include "runtime/jit/perf_map.h"
#include "runtime/memory/address_space.h"
#include "runtime/memory/range_set.h"

namespace dunebox::runtime {

// What engines have in common whose guests began with the same memory, in windows of their own: translations of
// what nobody can write to.
struct SharedCode {
  std::shared_ptr<jit::Translator> translator;
  memory::RangeSet ranges;  // private, executable, not writable; of the same bytes everywhere
  std::shared_ptr<const jit::LookupTable> known, empty;  // what threads begin with, and forget to
};

struct JitOptions {
  std::size_t cache_size = kDefaultJitCacheBytes;  // bytes for translated code and its exits
  jit::Isolation isolation = jit::Isolation::kNone;
  // System calls that may run without the dispatcher where that would add nothing.
  std::bitset<hostcalls::kSyscallTableSize> in_place_calls;
  bool measure_time = false;               // of translating, for Report
  std::unique_ptr<PerfMap> perf_map;       // null: no names for perf
  std::unique_ptr<PerfDump> perf_dump;     // null: no code for perf
  std::unique_ptr<CodeRecorder> recorder;  // null: no record of emitted code
  std::shared_ptr<const SharedCode> shared;  // null: none; with kSeg
  // jit::EmitterOptions: Interrupted is then also what ends a thread's Run when it has none left.
  bool counts_instructions = false;
  bool is_called = false;  // Translator::Options
  bool keeps_blocks = false;  // for others of this process (jit::BlockStore); with kSeg
  std::shared_ptr<const jit::PreparedBlocks> prepared;  // translations made ahead; null: none
  int code_fd = -1;    // where the guest's blocks go (jit::AppendGuestCode); -1: nowhere
  int report_fd = -1;  // standard error, for code_fd
};

class JitEngine final : public ExecutionEngine,
                        public memory::MappingObserver,
                        public hostcalls::MemoryWatcher,
                        public jit::CodeSource {
 public:
  // Why this host cannot run it; OK when it can.
  static absl::Status CheckHost();
  // How translations are made here that are prepared for others: without what is one session's.
  static jit::EmitterOptions EmitterFor(jit::Isolation isolation);
  // The same, and really makes and runs a little code.
  static absl::Status TryHost();

  // Attaches itself to `space`, which outlives it.
  static absl::StatusOr<std::unique_ptr<JitEngine>> Create(JitOptions options,
                                                           memory::AddressSpace& space);
  ~JitEngine() override;

  std::string name() const override { return "jit"; }
  absl::StatusOr<std::unique_ptr<EngineThread>> CreateThread() override;
  // Confined code cannot reach host pages.
  bool can_alias_host_pages() const override {
    return !jit::IsMask(isolation_) && isolation_ != jit::Isolation::kSeg;
  }
  absl::Status AliasHostPages(const GuestRange& at, const void* host) override;
  void LockForFork() override;
  void UnlockAfterFork() override;
  absl::StatusOr<bool> ContinueAfterFork(EngineThread& self) override;
  bool SetBreakpoints(std::span<const std::uint64_t> addresses) override;
  std::vector<Counter> Counters() override;
  std::string Dump(const std::string& place) override;
  void OnProgramEnd() override;

  // ---- with kSeg, in windows

  // The translations of `ranges` become common property, and the others are gone. No guest code runs.
  absl::StatusOr<std::shared_ptr<const SharedCode>> Share(memory::RangeSet ranges);
  // Back to the ones of `shared`, after a guest that may have gone its own way; its memory is what it was when
  // they were shared, or will be. No guest code runs.
  void ReturnTo(std::shared_ptr<const SharedCode> shared);
  // Only the translations of `ranges` stay, and they stay this engine's own. No guest code runs.
  void KeepOnly(const memory::RangeSet& ranges);
  // What makes the guest's threads leave translated code soon. Before a thread is made.
  void SetKick(std::function<void()> kick) { kick_ = std::move(kick); }

  // MappingObserver
  void Forget(const GuestRange& range) override;
  void ForgetMappings(const GuestRange& range) override;
  bool NeedsHostInvalidation() const override { return false; }

  // MemoryWatcher
  void BeforeAccess(std::uint64_t address, std::uint64_t size) override;

  // CodeSource
  void WithCode(std::uint64_t pc, std::size_t most, Purpose purpose, Use use) override;
  std::shared_ptr<jit::Translator> CurrentTranslator() override;

  enum class WriteFault : unsigned char {
    kNotOurs,   // the guest may not write there
    kCodePage,  // it held translated code; it is writable now
    kAllowed,   // the guest may write there: somebody else has made it writable meanwhile
  };
  // Whether the guest may make this access: a protection key that says otherwise is about to
  // change.
  bool MayAccess(GuestVirt address, bool write) const;
  // A store to `address` has failed.
  WriteFault OnWriteFault(GuestVirt address);

  const jit::ExtendedLayout& extended_layout() const { return extended_layout_; }
  memory::AddressSpace& space() { return space_; }

 private:
  // The lowest breakpoint in [start, end); `end` when there is none.
  std::uint64_t NextBreakpoint(std::uint64_t start, std::uint64_t end);
  bool AllProtected(const memory::VmaMap& map, const GuestRange& range);
  // Whether stores to the page that the guest may write will be seen from now on; not those of the kernel's in a call that
  // another thread has begun before: it would get EFAULT, and what it has read would be lost.
  bool WatchPage(GuestVirt start);
  bool IsAnyCallWriting(const GuestRange& page);
  JitEngine(memory::AddressSpace& space, jit::Isolation isolation);

  absl::Status ReserveGuard();
  // Preconditions: the lock is held.
  absl::StatusOr<std::unique_ptr<jit::ThreadContext>> CreateContext();
  absl::Status MakeTranslator(const JitOptions& options);
  void TellPerf(const jit::MadeBlock& block);
  // Another translator for the threads of this engine, which leave the one they have. Null: none is to be
  // had. Preconditions: the lock is held.
  void GoOnWith(std::shared_ptr<jit::Translator> translator);
  void StopSharing();
  void StopWatching();
  void InvalidateAllBut(const memory::RangeSet& ranges);
  bool IsSharing();
  bool IsShared(const GuestRange& code);     // all of it
  bool IsOfShared(const GuestRange& range);  // any of it
  std::shared_ptr<jit::Translator> OwnTranslator();

  memory::AddressSpace& space_;
  const jit::Isolation isolation_;
  const jit::ExtendedLayout extended_layout_;
  std::span<std::byte> guard_;
  std::optional<std::uint64_t> window_base_;  // of isolation `seg`
  CodePages code_pages_;
  std::mutex breakpoints_mutex_;  // a leaf
  std::vector<std::uint64_t> breakpoints_;
  GuestRange alias_;
  std::uint64_t alias_host_ = 0;
  std::unique_ptr<PerfMap> perf_map_;
  std::unique_ptr<PerfDump> perf_dump_;
  std::unique_ptr<CodeRecorder> recorder_;  // called with the translator's lock held
  std::unique_ptr<GuestCodeWriter> code_writer_;  // the same
  std::atomic<std::uint64_t> code_page_faults_{0};
  jit::Translator::Options translation_;  // for one of its own
  std::function<void()> kick_ = [] {};

  // Leaves the lock of the address space outside and the translators' inside.
  std::mutex sharing_mutex_;  // guards what follows
  std::shared_ptr<jit::Translator> translator_;
  std::shared_ptr<const SharedCode> shared_;  // while translator_ is its one; null: it is this engine's own
};

}  // namespace dunebox::runtime

#endif  // DUNEBOX_RUNTIME_JIT_JIT_ENGINE_H_
