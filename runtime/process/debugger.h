// What the run loop asks of whoever debugs the process: a gdb at the other end of a connection
// (runtime/debugger/). A process that nobody debugs has none, and tests a null pointer.
//
// All calls come from the thread they are about, on its own host thread, and may not return before
// the debugger lets it go on.
#ifndef DUNEBOX_RUNTIME_PROCESS_DEBUGGER_H_
#define DUNEBOX_RUNTIME_PROCESS_DEBUGGER_H_

#include <signal.h>

#include <cstdint>
#include <optional>

#include "runtime/engine.h"
#include "runtime/process/session_state.h"

namespace dunebox::process {

class GuestThread;

// Why a thread stands still.
struct StopReason {
  enum class Kind : std::uint8_t {
    kSignal,      // `signal` is about to be delivered
    kStep,        // the step that was asked for is done
    kBreakpoint,  // at the breakpoint that RIP is at
    kWatchpoint,  // the memory at `address` has changed
    kReadWatchpoint,    // it was read
    kAccessWatchpoint,  // it was read or written
    kExec,        // this is the first instruction of another program
  };
  Kind kind = Kind::kSignal;
  int signal = 0;
  std::uint64_t address = 0;
};

// A thread's part of the debugger's state: the debugger's while the thread is parked, else the thread's.
struct DebugState {
  bool steps = false;  // one instruction, or as long as RIP stays in [step_start, step_end)
  std::uint64_t step_start = 0, step_end = 0;
  bool is_step_done = false;       // to be looked at before more guest code runs
  std::optional<StopReason> stop;  // has happened and was not told yet
  siginfo_t signal_info{};         // with kSignal
  int signal_to_deliver = 0;       // when it goes on
};

class Debugger {
 public:
  virtual ~Debugger() = default;

  // In place of GuestThread::Run.
  virtual runtime::Exit Run(GuestThread& thread) = 0;
  // Was this fault the debugger's doing? Then there is nothing to deliver.
  virtual bool Takes(GuestThread& thread, const runtime::Fault& fault) = 0;
  // A signal is about to be delivered. What is to be delivered in its place; 0: nothing.
  virtual int OnSignal(GuestThread& thread, const siginfo_t& info) = 0;
  // The process is about to end.
  virtual void OnExit(int status) = 0;
  virtual void OnDeath(int signal) = 0;
  // Around the time in which a vforked child runs in this memory: it is not debugged.
  virtual void BeforeVfork(GuestThread& thread) = 0;
  virtual void AfterVfork(GuestThread& thread) = 0;
  // In a forked child, which is not debugged and has no debugger from now on.
  virtual void ForgetInChild() = 0;
  // What the program that an execve makes goes on with.
  virtual GdbConnection Connection() = 0;
};

}  // namespace dunebox::process

#endif  // DUNEBOX_RUNTIME_PROCESS_DEBUGGER_H_
