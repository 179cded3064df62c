#include "libdune/software/faults.h"

#include <errno.h>
#include <signal.h>
#include <ucontext.h>

#include <array>
#include <atomic>
#include <cstring>
#include <mutex>

#include "libdune/software/thread_state.h"

namespace dune::software::faults {
namespace {

constexpr unsigned kPageFaultVector = 14;
constexpr std::size_t kKernelSignalSet = 8;  // bytes of one that the kernel writes [linux]

// Of #PF's error code. [intel/vol3 §4.7]
constexpr std::uint64_t kErrorPresent = 1 << 0;
constexpr std::uint64_t kErrorWrite = 1 << 1;
constexpr std::uint64_t kErrorFetch = 1 << 4;
constexpr std::uint64_t kErrorKey = 1 << 5;

// The signal a vector is told by; 0 where there is none.
constexpr auto kSignals = [] {
  std::array<int, 32> signals{};
#define DUNE_VECTOR(vector, signal) signals[vector] = signal;
#include "libdune/software/vectors.inc"
#undef DUNE_VECTOR
  return signals;
}();

std::array<std::atomic<TrapHandler>, kSignals.size()> trap_handlers{};
std::atomic<PageFaultHandler> page_fault_handler{nullptr};
std::atomic<Resolver> resolver{nullptr};

enum class Installed : std::uint8_t { kNothing, kOpen, kHeld };  // kHeld: no other signals come meanwhile

// By signal. Written under the lock, and before the handler that reads it is installed.
constinit std::mutex mutex;
std::array<struct sigaction, 32> former{};
std::array<Installed, 32> installed{};
// Bit N: vector N has a handler that is not HandlerKind::kBrief. Set before the handler is, and cleared after it.
std::atomic<std::uint32_t> not_brief{0};

bool IsBrief(std::uint64_t vector) { return (not_brief.load(std::memory_order_acquire) >> vector & 1) == 0; }

void CopyRegisters(const greg_t* registers, TrapFrame& frame) {
  const auto at = [&](int index) { return static_cast<std::uint64_t>(registers[index]); };
  constexpr std::uint64_t kSelector = 0xffff;
  frame = {.r15 = at(REG_R15), .r14 = at(REG_R14), .r13 = at(REG_R13), .r12 = at(REG_R12),
           .r11 = at(REG_R11), .r10 = at(REG_R10), .r9 = at(REG_R9),   .r8 = at(REG_R8),
           .rdi = at(REG_RDI), .rsi = at(REG_RSI), .rbp = at(REG_RBP), .rbx = at(REG_RBX),
           .rdx = at(REG_RDX), .rcx = at(REG_RCX), .rax = at(REG_RAX),
           .vector = at(REG_TRAPNO), .error = at(REG_ERR),
           .rip = at(REG_RIP), .cs = at(REG_CSGSFS) & kSelector, .rflags = at(REG_EFL),
           .rsp = at(REG_RSP), .ss = at(REG_CSGSFS) >> 48};
}

// What a handler may change. The kernel takes of RFLAGS what ring 3 may have, and the selectors stay.
void CopyRegisters(const TrapFrame& frame, greg_t* registers) {
  const auto put = [&](int index, std::uint64_t value) {
    registers[index] = static_cast<greg_t>(value);
  };
  put(REG_R15, frame.r15), put(REG_R14, frame.r14), put(REG_R13, frame.r13);
  put(REG_R12, frame.r12), put(REG_R11, frame.r11), put(REG_R10, frame.r10);
  put(REG_R9, frame.r9), put(REG_R8, frame.r8), put(REG_RDI, frame.rdi);
  put(REG_RSI, frame.rsi), put(REG_RBP, frame.rbp), put(REG_RBX, frame.rbx);
  put(REG_RDX, frame.rdx), put(REG_RCX, frame.rcx), put(REG_RAX, frame.rax);
  put(REG_RIP, frame.rip), put(REG_EFL, frame.rflags), put(REG_RSP, frame.rsp);
}

Access AccessOf(std::uint64_t error) {
  if ((error & kErrorFetch) != 0) return Access::kExecute;
  return (error & kErrorWrite) != 0 ? Access::kWrite : Access::kRead;
}

Rights NeededFor(Access access) {
  switch (access) {
    case Access::kRead: return Rights::kRead;
    case Access::kWrite: return Rights::kReadWrite;
    case Access::kExecute: return Rights::kReadExecute;
  }
  return Rights::kAll;
}

// The signals that the thread was open to when this one came.
sigset_t InterruptedMask(const ucontext_t& context) {
  sigset_t mask;
  sigemptyset(&mask);
  std::memcpy(&mask, &context.uc_sigmask, kKernelSignalSet);
  return mask;
}

// For a handler that is not brief and was set after a signal for a brief one had come.
void LetSignalsIn(const ucontext_t& context) {
  const sigset_t mask = InterruptedMask(context);
  SetSignalsHeld(false);
  pthread_sigmask(SIG_SETMASK, &mask, nullptr);
}

Resolution CallHandler(TrapFrame& frame, std::uintptr_t address, const ucontext_t& context) {
  const bool is_page_fault = frame.vector == kPageFaultVector;
  const TrapHandler trap_handler = trap_handlers[frame.vector].load(std::memory_order_acquire);
  const PageFaultHandler handler = page_fault_handler.load(std::memory_order_acquire);
  if (AreSignalsHeld() && !IsBrief(frame.vector)) LetSignalsIn(context);
  if (!is_page_fault) return trap_handler == nullptr ? Resolution::kPass : trap_handler(frame);
  if (handler == nullptr) return Resolution::kPass;
  PageFault fault{.address = address,
                  .access = AccessOf(frame.error),
                  .present = (frame.error & kErrorPresent) != 0,
                  .frame = frame};
  return handler(fault);
}

// A page fault that is the backend's own doing. First, and in every thread.
bool Resolve(const greg_t* registers) {
  const auto error = static_cast<std::uint64_t>(registers[REG_ERR]);
  if (registers[REG_TRAPNO] != kPageFaultVector || (error & kErrorKey) != 0) return false;
  const Resolver resolve = resolver.load(std::memory_order_acquire);
  return resolve != nullptr && resolve(static_cast<std::uintptr_t>(registers[REG_CR2]),
                                       NeededFor(AccessOf(error)));
}

// Whether the program can go on with the context's registers.
bool Handle(ucontext_t& context) {
  greg_t* const registers = context.uc_mcontext.gregs;
  if (Resolve(registers)) return true;
  TrapFrame frame;
  if (!IsThreadIn() || !BeginHandler(&frame)) return false;
  CopyRegisters(registers, frame);
  const Resolution resolution =
      CallHandler(frame, static_cast<std::uintptr_t>(registers[REG_CR2]), context);
  EndHandler();
  if (resolution == Resolution::kPass) return false;
  CopyRegisters(frame, registers);
  return true;
}

// To whom had the signal before. The default is put back, and the instruction ends the process when it is run again.
void PassOn(int signal, siginfo_t* info, void* context) {
  const struct sigaction action = former[static_cast<std::size_t>(signal)];
  if ((action.sa_flags & SA_SIGINFO) == 0 &&
      (action.sa_handler == SIG_DFL || action.sa_handler == SIG_IGN)) {
    // Only what the kernel itself has found cannot be ignored.
    if (action.sa_handler == SIG_IGN && info->si_code <= 0) return;
    struct sigaction standard{};
    standard.sa_handler = SIG_DFL;
    sigaction(signal, &standard, nullptr);
    // Sent by somebody, it would not come again by itself.
    if (info->si_code <= 0) raise(signal);
    return;
  }
  // As for a handler that was called in place of ours. The context's own mask comes back with its return.
  const sigset_t interrupted = InterruptedMask(*static_cast<ucontext_t*>(context));
  sigset_t mask;
  sigorset(&mask, &action.sa_mask, &interrupted);
  if ((action.sa_flags & SA_NODEFER) == 0) sigaddset(&mask, signal);
  pthread_sigmask(SIG_SETMASK, &mask, nullptr);
  if ((action.sa_flags & SA_SIGINFO) != 0) {
    action.sa_sigaction(signal, info, context);
  } else {
    action.sa_handler(signal);
  }
}

// The kernel clears the direction and the trap flag for a handler; no code of ours is compiled for this one. The program's
// own comes back with the context.
void ClearAlignmentChecks() {
  constexpr std::uint64_t kAlignmentCheck = 1 << 18;
  const std::uint64_t flags = __builtin_ia32_readeflags_u64();
  if ((flags & kAlignmentCheck) != 0) __builtin_ia32_writeeflags_u64(flags & ~kAlignmentCheck);
}

template <Installed how>
void OnSignal(int signal, siginfo_t* info, void* context) {
  ClearAlignmentChecks();
  const int saved_errno = errno;
  const bool were_held = AreSignalsHeld();
  if (how == Installed::kHeld) SetSignalsHeld(true);
  ucontext_t& interrupted = *static_cast<ucontext_t*>(context);
  const auto vector = static_cast<std::uint64_t>(interrupted.uc_mcontext.gregs[REG_TRAPNO]);
  // A positive code is the kernel's own; the vector of a signal that somebody sent is an older fault's.
  const bool is_exception =
      info->si_code > 0 && vector < kSignals.size() && kSignals[vector] == signal;
  const bool is_handled = is_exception && Handle(interrupted);
  SetSignalsHeld(were_held);
  if (!is_handled) PassOn(signal, info, context);
  errno = saved_errno;
}

bool IsOurs(const struct sigaction& action) {
  return (action.sa_flags & SA_SIGINFO) != 0 && (action.sa_sigaction == OnSignal<Installed::kOpen> ||
                                                 action.sa_sigaction == OnSignal<Installed::kHeld>);
}

// What a signal needs for the handlers that there are.
Installed HowNeeded(int signal) {
  bool is_needed = signal == SIGSEGV && (page_fault_handler.load() != nullptr || resolver.load() != nullptr);
  bool is_brief = true;
  for (std::size_t vector = 0; vector < kSignals.size(); ++vector) {
    if (kSignals[vector] != signal) continue;
    is_needed |= trap_handlers[vector].load() != nullptr;
    is_brief &= IsBrief(vector);
  }
  if (!is_needed) return Installed::kNothing;
  return is_brief ? Installed::kHeld : Installed::kOpen;
}

struct sigaction ActionFor(Installed how) {
  struct sigaction action{};
  // Not deferred: a handler may fault itself.
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  action.sa_sigaction = how == Installed::kHeld ? OnSignal<Installed::kHeld> : OnSignal<Installed::kOpen>;
  if (how == Installed::kHeld) {
    sigfillset(&action.sa_mask);
    for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS}) sigdelset(&action.sa_mask, fault);
  }
  return action;
}

// Installs what has become needed, and gives back what is not any more. Under the lock.
void Update(int signal) {
  const auto index = static_cast<std::size_t>(signal);
  const Installed needed = HowNeeded(signal);
  if (needed == installed[index]) return;
  if (installed[index] == Installed::kNothing) {
    sigaction(signal, nullptr, &former[index]);
  } else {
    struct sigaction current{};
    sigaction(signal, nullptr, &current);
    // Somebody else's by now: not ours to change or to give back.
    if (!IsOurs(current)) {
      if (needed == Installed::kNothing) installed[index] = needed;
      return;
    }
  }
  const struct sigaction action = needed == Installed::kNothing ? former[index] : ActionFor(needed);
  sigaction(signal, &action, nullptr);
  installed[index] = needed;
}

template <typename Handler>
void Set(std::atomic<Handler>& place, unsigned vector, Handler handler, HandlerKind kind) {
  const std::uint32_t bit = std::uint32_t{1} << vector;
  const bool is_brief = handler == nullptr || kind == HandlerKind::kBrief;
  const std::lock_guard lock(mutex);
  if (!is_brief) not_brief.fetch_or(bit);
  place.store(handler, std::memory_order_release);
  if (is_brief) not_brief.fetch_and(~bit);
  Update(kSignals[vector]);
}

}  // namespace

void SetResolver(Resolver new_resolver) {
  const std::lock_guard lock(mutex);
  resolver.store(new_resolver, std::memory_order_release);
  Update(SIGSEGV);
}

absl::Status SetTrapHandler(unsigned vector, TrapHandler handler, HandlerKind kind) {
  if (kSignals[vector] == 0) {
    return absl::UnimplementedError("Linux does not tell a program of this vector");
  }
  Set(trap_handlers[vector], vector, handler, kind);
  return absl::OkStatus();
}

absl::Status SetPageFaultHandler(PageFaultHandler handler, HandlerKind kind) {
  Set(page_fault_handler, kPageFaultVector, handler, kind);
  return absl::OkStatus();
}

std::uint32_t SettableVectors() {
  std::uint32_t vectors = 0;
  for (unsigned vector = 0; vector < kSignals.size(); ++vector) {
    if (kSignals[vector] != 0 && vector != kPageFaultVector) vectors |= std::uint32_t{1} << vector;
  }
  return vectors;
}

void Lock() { mutex.lock(); }
void Unlock() { mutex.unlock(); }

}  // namespace dune::software::faults
