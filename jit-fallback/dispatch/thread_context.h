// The memory of one thread under translation (Context, vector state, lookup table, signal stack)
// and its way into translated code and out.
//
// Made by any thread; Attach and Enter only on the host thread that runs the guest's.
#ifndef DUNEBOX_JIT_FALLBACK_DISPATCH_THREAD_CONTEXT_H_
#define DUNEBOX_JIT_FALLBACK_DISPATCH_THREAD_CONTEXT_H_

#include <signal.h>
#include <ucontext.h>

#include <array>
#include <atomic>
#include <bitset>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "absl/status/statusor.h"
#include "jit-fallback/dispatch/context.h"
#include "jit-fallback/dispatch/lookup_table.h"
#include "jit-fallback/emit/emitter.h"
#include "jit-fallback/emit/isolation.h"

extern "C" std::uint32_t dunebox_jit_windowed_enter(dunebox::jit::Context* context);

namespace dunebox::jit {

// The vector state of guests: which components, how large, how it is saved.
struct ExtendedLayout {
  std::uint64_t mask;  // XCR0 bits that are saved
  std::size_t size;    // of the standard-format area
  bool has_xsaveopt;
  struct Place {
    std::uint32_t offset, size;
  };
  std::array<Place, 64> places;  // of the components from 2 on, by number

  // Of this processor, with the components of `wanted` only.
  static ExtendedLayout OfHost(std::uint64_t wanted);
  // Puts the components into their initial state in an area of `size` bytes; MXCSR stays.
  void Initialize(std::uint64_t components, std::byte* area) const;
};

class ThreadContext {
 public:
  // Preconditions: with kPku, OpenProtectionKeys() has succeeded. With kSeg there is a
  // `window_base`, 4 GiB aligned; threads with a window and threads without one do not go together
  // in one process.
  static absl::StatusOr<std::unique_ptr<ThreadContext>> Create(
      const ExtendedLayout& layout, Isolation isolation = Isolation::kNone,
      std::optional<std::uint64_t> window_base = std::nullopt);
  // With kSeg, for many threads of which most do little: the lookup tables begin as `known`, and are memory of the
  // thread's own only where it has set an entry. When it forgets them they are `empty`. To be borrowed only.
  static absl::StatusOr<std::unique_ptr<ThreadContext>> CreateWith(
      const LookupTable& known, std::shared_ptr<const LookupTable> empty,
      const ExtendedLayout& layout, std::uint64_t window_base);
  ~ThreadContext();
  ThreadContext(const ThreadContext&) = delete;
  ThreadContext& operator=(const ThreadContext&) = delete;

  Context& context() { return *reinterpret_cast<Context*>(memory_); }
  // A component that XSTATE_BV calls initial may hold anything here.
  std::span<std::byte> extended_area();
  // As a thread begins, but for what functions leave alone: MXCSR and the x87 control word. Bits that
  // they do not have are dropped.
  void InitializeState(std::uint32_t mxcsr, std::uint16_t x87_control);
  // Of a thread that has ended, for another in the same window, if there is one: as a thread begins, but that the
  // targets are kept. By any thread; it is not attached. False: there is no memory for it.
  bool Renew();
  // Children that are forked before that have nothing in its place.
  void LeaveAtFork();
  std::uint64_t window_base() { return context().window_base; }
  std::uint32_t mxcsr() const;
  std::uint16_t x87_control() const;

  // System calls of this number and those that differ from it only below JIT_GATE_BITS are gates: made
  // where a function is called or returns, so that of the vector registers the first eight count and no
  // others, which then need not be saved and loaded. What else is in the area is not to be relied upon. Where
  // the processor cannot tell which components are in use, it is all saved. The x87 unit stays the host's, with
  // what the host has in it, until TakeX87.
  void SetGate(std::uint32_t number);
  // Before code of the guest's is entered that may use the x87 unit: from now on it has contents of its own there.
  void TakeX87() {
    if (!HasX87()) TakeX87Now();
  }

  // Before the first Enter.
  void SetCache(std::uint64_t start, std::uint64_t code_end);

  // The lookup table. Entries are set by the owner; any thread may clear one.
  void SetTarget(std::uint64_t pc, std::uint64_t host);
  void ClearTarget(std::uint64_t pc);
  void ClearTargets();
  // The same by the owner, outside of translated code.
  void ForgetTargets();
  // Nobody clears any from now on, until a thread has it again: which state of all code they are good for.
  void KeepTargets(std::uint64_t as_of) { targets_as_of_ = as_of; }
  std::optional<std::uint64_t> targets_as_of() const { return targets_as_of_; }
  // How many different targets the first table has room for; the most of what memory it takes.
  std::uint64_t table_entries() const { return entries_; }
  // In a forked child, before it enters translated code: tables of its own, without entries.
  absl::Status ContinueAfterFork();
  // Of `known`, if the tables began so and have not been forgotten since.
  std::optional<std::uint32_t> known_generation() const { return known_generation_; }

  // Makes the calling host thread the one that runs this: GS base, signal stack.
  void Attach();
  bool IsAttached() const { return is_borrowed_ || IsInGs(); }
  // The calling host thread is about to end, or to run another one: nothing of it leads here any more.
  void Detach();

  // Instead of Attach, for a host thread that goes back to code of its own between two Enters in a window: what
  // that code may expect to find again beside what each Enter puts back. The thread has been made ready
  // (PrepareHostThread).
  void Borrow() {
    if (HasX87()) NoteX87Control();
    context().host_mxcsr = __builtin_ia32_stmxcsr();
    is_borrowed_ = true;
  }
  // With the x87 unit empty and flags that the guest may have set cleared, as a function leaves them.
  void GiveBack() {
    constexpr std::uint64_t kUnusual = 0x24'4000;  // nested task, alignment checks, identification
    is_borrowed_ = false;
    if (HasX87()) GiveBackX87();
    if ((context().rflags & kUnusual) != 0) ClearFlags();
  }

  // Runs translated code at host address `host`, which is the block at context().rip.
  ExitReason Enter(std::uint64_t host, EntryKind kind);
  // The same of a block that is entered directly, in a window.
  ExitReason EnterWindow(std::uint64_t host) {
    ClearInitialComponents();
    *reinterpret_cast<std::uint64_t*>(memory_ + JIT_TO_RESUME) = host;
    return EnterWindowNow();
  }

 private:
  // `empty` is null where the thread fills its tables itself.
  ThreadContext(std::byte* memory, const ExtendedLayout& layout, Isolation isolation,
                std::optional<std::uint64_t> window_base, std::shared_ptr<const LookupTable> empty);
  bool IsInGs() const;
  // Whether the guest's pages of the memory have their keys now.
  bool SetKeys();
  ExitPointers& pointers();
  bool HasX87() { return (context().own_components & JIT_X87_COMPONENT) != 0; }
  void TakeX87Now();
  void NoteX87Control();
  void GiveBackX87();
  static void ClearFlags();
  // What is called initial since the last time has to be so.
  void ClearInitialComponents() {
    constexpr std::size_t kPresentOffset = 512;  // XSTATE_BV [intel/vol1 §13.4.2]
    const auto present =
        *reinterpret_cast<const std::uint64_t*>(memory_ + offsetof(Context, extended) + kPresentOffset);
    const std::uint64_t stale = dirty_ & ~present;
    dirty_ = present;  // by the next exit these may have been written
    if (stale != 0) InitializeStale(stale);
  }
  void InitializeStale(std::uint64_t components);
  void ClearEmptySecond();
  void ClearSecond();
  // The first table anew, of so many different entries, all without contents. Where it cannot be had the former one stays.
  bool MapFirst(std::uint64_t entries);
  ExitReason EnterNow();
  // In a window RSP is an address of the host's while translated code runs, and an offset otherwise.
  ExitReason EnterWindowNow() {
    constexpr std::uint64_t kOffset = 0xffff'ffff;
    Context& state = context();
    std::uint64_t& rsp = state.gpr[4];
    rsp = state.window_base + (rsp & kOffset);
    const auto reason = static_cast<ExitReason>(dunebox_jit_windowed_enter(&state));
    rsp &= kOffset;
    return reason;
  }
  std::uint64_t& Entry(std::uint64_t pc);
  std::uint64_t NoTarget();
  SecondEntry& Second(std::uint64_t pc);

  static constexpr std::size_t kSecondPerPage = kContextPage / sizeof(SecondEntry);
  static constexpr std::size_t kSecondPages = JIT_SECOND_TABLE_ENTRIES / kSecondPerPage;

  std::byte* const memory_;
  const ExtendedLayout layout_;
  const Isolation isolation_;
  bool is_borrowed_ = false;
  std::uint16_t host_x87_control_ = 0;  // while it is borrowed and has contents of its own in the unit
  const std::shared_ptr<const LookupTable> empty_;
  std::optional<std::uint32_t> known_generation_;
  std::optional<std::uint64_t> targets_as_of_;
  bool is_left_at_fork_ = false;
  std::uint64_t entries_ = 0;        // different ones of the first table
  std::bitset<kSecondPages> second_;  // pages of the second table that may have targets
  unsigned displaced_ = 0;           // targets that have been put in another's place since it was mapped
  std::uint64_t dirty_ = 0;  // components whose place in the area may hold something
};

// Of the calling host thread: no rseq, and an alternate signal stack, its own one if that has
// kLeastHostStack bytes, until the thread ends. True when it was not so before.
bool PrepareHostThread();
namespace internal {
extern thread_local constinit bool is_host_thread_ready;
}
inline bool IsHostThreadReady() { return internal::is_host_thread_ready; }
inline constexpr std::size_t kLeastHostStack = 32 * 1024;
// Puts the alternate stack back after somebody has disabled it. For a thread that is ready.
void RenewHostThreadStack();

// Of the calling host thread: its registration with the kernel. Required before it runs guest code.
void UnregisterRseq();

// The calling host thread has no Context, whatever it has inherited from its maker.
void ForgetContext();

// ---- for host signal handlers, async-signal-safe
// -------------------------------------------------

// The calling thread's Context; null when it has none.
Context* CurrentContext();
// A signal came at `machine`: if that is in translated code or on the way into it, the thread
// leaves to the runtime as soon as the handler returns. The thread's kick flag is set already.
void LeaveTranslatedCode(Context& context, ucontext_t& machine);
// An exception of the CPU's; false when it is not the guest's.
bool TakeGuestFault(Context& context, const siginfo_t& info, ucontext_t& machine);

}  // namespace dunebox::jit

#endif  // DUNEBOX_JIT_FALLBACK_DISPATCH_THREAD_CONTEXT_H_
