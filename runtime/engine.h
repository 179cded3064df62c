// An execution engine runs the program's code until something happens; everything that happens then
// (system calls, signals, threads, policy) is the supervisor's, which is the same for all engines.
//
//   Exit exit = thread.Run(registers);
//   std::visit(Overloaded{[&](const SystemCall&) {...}, ...}, exit);
#ifndef DUNEBOX_RUNTIME_ENGINE_H_
#define DUNEBOX_RUNTIME_ENGINE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "hostcalls/abi/posted_writes.h"
#include "hostcalls/abi/signal_actions.h"
#include "hostcalls/abi/signal_frame.h"
#include "hostcalls/memory/address.h"
#include "libdune/x86/control.h"
#include "runtime/diagnostics.h"

namespace dunebox::runtime {

// The integer state of a guest thread. Vector and x87 state stays in the engine.
struct Registers {
  std::uint64_t rax = 0, rbx = 0, rcx = 0, rdx = 0;
  std::uint64_t rsi = 0, rdi = 0, rsp = 0, rbp = 0;
  std::uint64_t r8 = 0, r9 = 0, r10 = 0, r11 = 0;
  std::uint64_t r12 = 0, r13 = 0, r14 = 0, r15 = 0;
  std::uint64_t rip = 0;
  std::uint64_t rflags = dune::x86::rflags::kReserved1 | dune::x86::rflags::kInterrupt;
  // After a Run these two may be those of an earlier one until FetchBases: few calls want them.
  std::uint64_t fs_base = 0;
  std::uint64_t gs_base = 0;
};

// SYSCALL was executed. The registers are as after it on Linux: RIP behind the instruction and
// equal to RCX, RFLAGS equal to R11, the number in RAX.
struct SystemCall {};

// An exception that the guest has to hear of. RIP is where the CPU would report it.
struct Fault {
  dune::x86::Vector vector;
  std::uint64_t error_code;
  std::uint64_t address;    // CR2; for memory_error the byte that has no memory behind it
  bool memory_error;        // the mapping allows it, but nothing is behind it: SIGBUS
};

// Kick() or a host signal came; the registers are exact, nothing else happened.
struct Interrupted {};

// The engine cannot go on; nothing the guest did may lead here. Ends the process with 125.
struct EngineFailure {
  std::string reason;
};

// The program has wrecked the virtual CPU that it owns, as only one in ring 0 can: it cannot go on
// and could not run a handler. Ends the process as SIGSEGV's default action does.
struct GuestCrash {
  std::string reason;
};

using Exit = std::variant<SystemCall, Fault, Interrupted, EngineFailure, GuestCrash>;

template <typename... Handlers>
struct Overloaded : Handlers... {
  using Handlers::operator()...;
};
template <typename... Handlers>
Overloaded(Handlers...) -> Overloaded<Handlers...>;

// What an engine does about a call that it may answer by itself.
enum class Answer : std::uint8_t {
  kResult,       // the result is known before the call is made
  kSignalMask,   // rt_sigprocmask, within the bounds of OwnState
  kYield,        // sched_yield, but for one now and then
  kSegmentBase,  // arch_prctl
  kChildTid,     // set_tid_address: notes the address
  kRobustList,   // set_robust_list: the same
  kFutex,        // futex, to wake where BeginFutex has told of nobody
  kMemory,       // mmap and its like, in the memory that AddressSpace::OpenPool has lent
  kSignalReturn, // rt_sigreturn, while that memory is lent and there is a FaultHandler
  kClock,        // clock_gettime, where TakeClock has brought code that tells the time
  kTimeOfDay,    // gettimeofday, the same
  kTime,         // time, the same
  kSignalAction,    // rt_sigaction, to ask, or put one handler in another's place; of lent handlers
  kAlternateStack,  // sigaltstack
  kPostWrite,    // write, to the descriptors that posted_writes() names
};

// A system call that needs no exit. What is not the plain case of it is an exit all the same.
struct KnownAnswer {
  std::uint16_t number;
  Answer answer = Answer::kResult;
  std::int64_t result = 0;  // of kResult and kChildTid, as RAX has it
};
// As KnownAnswer::number: the result of all calls from this one on.
inline constexpr std::uint16_t kNumbersFromHere = 512;

// The guest's handler of SIGSEGV, where an engine may enter it by itself for faults in lent memory; it stays
// installed.
struct FaultHandler {
  std::uint64_t address = 0;
  std::uint64_t opening = 0;  // while the memory is lent for the opening's time (AddressSpace::pool_opening)
  std::uint64_t restorer = 0;
  std::uint64_t blocks = 0;             // added to the mask while it runs
  abi::AlternateStack alternate_stack;  // as frames show it
  bool switches_stack = false;          // to that one, unless it is there already
  bool IsNone() const { return address == 0; }
};

// State of a thread that its engine keeps while the thread runs, since the calls that change it may be
// answered without an exit. The supervisor has it while the thread does not run.
struct OwnState {
  std::uint64_t signal_mask = 0;
  // What may be added to the mask without an exit. Nothing that is in the mask now is taken out so.
  std::uint64_t addable_signals = 0;
  std::uint64_t clear_child_tid = 0;
  std::uint64_t robust_list = 0;
  FaultHandler fault_handler;
  // Whether what signal_actions() has is the process's handlers, and those that were replaced there, as a mask.
  bool lends_actions = false;
  std::uint64_t replaced_actions = 0;
  abi::AlternateStack alternate_stack;
};

// What a thread is about to do to futexes in the host's kernel.
enum class FutexUse : std::uint8_t {
  kWait,       // wait for one word
  kIrregular,  // move waiters, or wait in a way that an address does not tell
};

// For EngineThread::set_instructions_left.
inline constexpr std::int64_t kNoInstructionLimit = std::int64_t{1} << 55;

// The engine's half of one guest thread. Used by one host thread at a time, but for Kick.
class EngineThread {
 public:
  virtual ~EngineThread() = default;
  // Continues at `registers` and returns when something happens, with `registers` exact but for the
  // two bases. They are taken over from `registers` only before the first Run and after FetchBases.
  virtual Exit Run(Registers& registers) = 0;
  // Makes the bases in `registers` exact; between two Runs.
  virtual absl::Status FetchBases(Registers& registers) {
    (void)registers;
    return absl::OkStatus();
  }
  // Async-signal-safe, from a handler on this very thread: the current or next Run returns
  // Interrupted soon, unless it returns for another reason first.
  virtual void Kick() = 0;
  // Takes a pending Kick back; called when its cause has been dealt with.
  virtual void Unkick() = 0;

  // The extended state in XSAVE's standard format; `area` has extended_state_size() bytes.
  virtual std::size_t extended_state_size() const = 0;
  virtual absl::Status SaveExtendedState(std::span<std::byte> area) = 0;
  // The area has been validated: no reserved bits, only components of extended_features().
  virtual absl::Status LoadExtendedState(std::span<const std::byte> area) = 0;
  // From now on these calls may be answered without a SystemCall exit, and no others. Only where
  // uses_known_answers().
  virtual bool uses_known_answers() const { return false; }
  virtual void KnowAnswers(std::span<const KnownAnswer> answers) { (void)answers; }
  // Before and after each Run, only where uses_known_answers(). What comes back is within what was
  // lent, whatever the guest has done to the engine's memory.
  virtual void Lend(const OwnState& state) { (void)state; }
  virtual OwnState TakeBack() { return {}; }

  // Where the engine looks for the handlers of the process, and puts others; the supervisor's while the thread does
  // not run. Null: nowhere.
  virtual abi::SignalActions* signal_actions() { return nullptr; }

  // Where the engine puts what kPostWrite has taken; null: it takes nothing. The guest's ring 0 can write there
  // while the thread runs.
  virtual abi::PostedWrites* posted_writes() { return nullptr; }

  // Around a call of the kernel's, only where uses_known_answers(): a full barrier before it, and the
  // same words after it.
  virtual void BeginFutex(FutexUse use, std::uint64_t word) { (void)use, (void)word; }
  virtual void EndFutex(FutexUse use, std::uint64_t word) { (void)use, (void)word; }

  // XCR0 as the guest sees it.
  virtual std::uint64_t extended_features() const = 0;

  // How many instructions may still be executed, where an engine counts them for who asks it to; less than 0 when Run
  // has returned Interrupted because there were no more. Between two Runs.
  virtual std::int64_t instructions_left() const { return kNoInstructionLimit; }
  virtual void set_instructions_left(std::int64_t number) { (void)number; }
};

// The engine's half of one process.
class ExecutionEngine {
 public:
  virtual ~ExecutionEngine() = default;
  // "kvm (hardware)", "kvm (emulated)", ... for doctor and status.
  virtual std::string name() const = 0;
  virtual absl::StatusOr<std::unique_ptr<EngineThread>> CreateThread() = 0;
  // Shows the guest host pages read-only at a range where the host has other (or no) memory: the
  // vDSO's clock data. Once per engine, before the first guest instruction.
  virtual absl::Status AliasHostPages(const GuestRange& at, const void* host) = 0;
  // Whether it can.
  virtual bool can_alias_host_pages() const = 0;
  // Machine code, int f(clockid_t, timespec*) at `entry`, that tells the time from those pages, which it expects
  // right below itself; for an engine that can run it where the program cannot get at it. Integer instructions
  // only, no system calls; not 0 when it cannot tell. After AliasHostPages, before the first guest instruction.
  virtual absl::Status TakeClock(std::span<const std::byte> code, std::uint64_t entry) {
    (void)code, (void)entry;
    return absl::OkStatus();
  }
  // Around fork: nobody changes the engine's state in between, so that the child, which cannot use
  // it, can take it apart and build its own.
  virtual void LockForFork() = 0;
  virtual void UnlockAfterFork() = 0;
  // In a forked child, unlocked: true when this engine and `self`, the thread that forked, go on
  // there; false when the child needs another engine.
  virtual absl::StatusOr<bool> ContinueAfterFork(EngineThread& self) {
    (void)self;
    return false;
  }
  // From now on exactly at these addresses, in ascending order, nothing is executed but an INT3: Fault
  // kBreakpoint with RIP one behind, while the memory there stays what it is. False where an engine
  // executes what the memory holds. No thread of the process runs guest code meanwhile.
  virtual bool SetBreakpoints(std::span<const std::uint64_t> addresses) {
    (void)addresses;
    return false;
  }
  // What --stats prints when the process ends. Its threads may be running.
  virtual std::vector<Counter> Counters() = 0;
  // What --jit-dump prints of `place` then: whole lines.
  virtual std::string Dump(const std::string& place) {
    (void)place;
    return {};
  }
  // The program is about to end, by exit or by execve: what is written down of its code is all there is.
  virtual void OnProgramEnd() {}
};

}  // namespace dunebox::runtime

#endif  // DUNEBOX_RUNTIME_ENGINE_H_
