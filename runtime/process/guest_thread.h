// One thread of the guest: its registers, its signal state, its half of the engine, and the
// process it belongs to. The host thread that runs it is its kernel thread: same tid.
//
// Used by its own host thread only.
#ifndef DUNEBOX_RUNTIME_PROCESS_GUEST_THREAD_H_
#define DUNEBOX_RUNTIME_PROCESS_GUEST_THREAD_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "hostcalls/dispatch/caller.h"
#include "runtime/engine.h"
#include "runtime/process/debugger.h"
#include "runtime/process/known_answers.h"
#include "runtime/process/pool_use.h"
#include "runtime/process/posted_writes.h"
#include "runtime/signals/frame.h"
#include "runtime/signals/host_signals.h"

namespace dunebox::process {

class Process;
struct ExecState;

struct SignalState {
  signals::PendingSignals pending;
  std::uint64_t mask = 0;
  // Set while a call (sigsuspend, ppoll, ...) has replaced the mask: what comes back after it, or
  // after the handler of the signal that ends it.
  std::optional<std::uint64_t> mask_to_restore;
  signals::AlternateStack alternate_stack;

  // Is there anything that is with us already and not blocked?
  bool HasDeliverable() const { return (pending.mask() & ~mask) != 0; }
};

class GuestThread final : public hostcalls::Caller {
 public:
  // Made on the host thread that will run it.
  GuestThread(Process& guest, std::unique_ptr<runtime::EngineThread> engine);
  // Makes this the target of the calling host thread's signals.
  void Attach();
  ~GuestThread();

  pid_t LoneThread() const override;
  bool RestartsAfterSignal() const override;
  [[noreturn]] void EndBySignal(int signal) override;
  // The same for a signal that the program leaves to its default, without the reports that a process
  // makes at its end: with a core file, if that is wanted.
  [[noreturn]] void Die(const siginfo_t& info);

  static GuestThread& From(hostcalls::Caller& caller) { return static_cast<GuestThread&>(caller); }

  // Tells the engine what it may answer by itself; nothing while somebody traces, who wants to see
  // every call. On the thread's own host thread.
  void PublishAnswers();

  // Runs the guest until something happens. What the engine kept meanwhile is here again afterwards,
  // and the host's mask is the guest's.
  runtime::Exit Run();

  // The process's signal handlers, to be shown to the engine: only where nobody else can change them meanwhile.
  bool LendActions();
  // Those that the engine has replaced.
  void TakeActions(std::uint64_t replaced);

  // In a forked child: another engine in place of the parent's.
  void ReplaceEngine(std::unique_ptr<runtime::EngineThread> fresh);

  Process& owner;
  std::unique_ptr<runtime::EngineThread> engine;
  runtime::Registers registers;
  SignalState signal;
  PoolUse pool_use;
  PostedWrites posted;
  const bool posts_writes;  // ring 0 may be lent descriptors
  std::uint64_t clear_child_tid = 0;  // guest address, checked when it is used
  // Guest address, checked likewise; looked at by whoever ends the process.
  std::atomic<std::uint64_t> robust_list = 0;
  std::atomic<pid_t> id = 0;          // ThreadList's: the kernel's
  std::atomic<bool> is_held = false;  // ThreadList's: has to park
  DebugState debug;
  std::uint64_t shown_actions = 0;  // the version that the engine has
  RefusedCalls refused_calls;       // and been told so
  std::unique_ptr<ExecState> next_program;  // execve's, from when it is ready until it has failed
  bool has_exited = false;  // by exit(2): RunGuest returns
  int exit_status = 0;
};

// Ends the process: the host's failure, not the guest's.
[[noreturn]] void EndByEngineFailure(const std::string& reason);

// Runs the guest from the thread's registers until this thread exits. Does not return when the
// process ends.
void RunGuest(GuestThread& thread);

// What the kernel does for an ending thread: robust futexes, clear_child_tid. Every pointer is the
// guest's and checked. Ends the process when it was the last one, and does not return then.
void FinishThread(GuestThread& thread);
// The same of all threads, for one that is about to end the process or to replace its memory: mutexes in memory that
// others share would stay locked for ever. Where another thread holds any, all of them stand still from now on. Does
// not return if another thread ends the process already.
void ReleaseRobustFutexes(GuestThread& thread);

}  // namespace dunebox::process

#endif  // DUNEBOX_RUNTIME_PROCESS_GUEST_THREAD_H_
