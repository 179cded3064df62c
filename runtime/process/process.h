// What the threads of one guest process share: memory and engine, signal dispositions, limits,
// the dispatcher. Split as Linux splits it: a vforked child has its own Process over the same
// Machine.
#ifndef DUNEBOX_RUNTIME_PROCESS_PROCESS_H_
#define DUNEBOX_RUNTIME_PROCESS_PROCESS_H_

#include <unistd.h>

#include <atomic>
#include <string>
#include <vector>

#include "hostcalls/dispatch/caller.h"
#include "hostcalls/dispatch/dispatcher.h"
#include "hostcalls/policy/guard.h"
#include "hostcalls/services/limits.h"
#include "runtime/limits/task_slots.h"
#include "runtime/process/debugger.h"
#include "runtime/process/denial_report.h"
#include "runtime/process/machine.h"
#include "runtime/process/observers.h"
#include "runtime/process/pool_use.h"
#include "runtime/process/session_state.h"
#include "runtime/process/thread_list.h"
#include "runtime/signals/action.h"

namespace dunebox::process {

// What /proc/self shows of the program that was loaded.
struct ProgramView {
  std::string executable_path;
  std::string command_line;  // each string with its NUL
  std::string environment;   // the same
  std::string auxv;          // the vector's bytes
  // HiddenProcessorFlags under an engine: few programs ask. Null: none are hidden.
  std::vector<std::string> (*hidden_flags)(EngineKind engine) = nullptr;
};

class Process final : public hostcalls::ProcessView {
 public:
  // `tasks` may be null: no limit. All outlive the process.
  Process(SessionState session, Machine& machine, hostcalls::VirtualLimits& limits,
          runtime::TaskSlots* tasks, const Observers& observers, ProgramView program);
  // A child that shares the parent's memory but nothing else (vfork): copies.
  Process(const Process& parent, hostcalls::VirtualLimits& limits);

  std::string executable_path() const override { return program_.executable_path; }
  std::string CommandLine() const override { return program_.command_line; }
  std::string Environment() const override { return program_.environment; }
  std::string AuxiliaryVector() const override { return program_.auxv; }
  std::vector<std::string> HiddenProcessorFlags() const override {
    if (program_.hidden_flags == nullptr) return {};
    return program_.hidden_flags(session_.engine);
  }
  std::string FormatMaps() const override { return machine_.space().FormatMaps(); }

  const SessionState& session() const { return session_; }
  Machine& machine() { return machine_; }
  memory::AddressSpace& space() { return machine_.space(); }
  signals::SignalHandlers& signal_handlers() { return signal_handlers_; }
  const signals::SignalHandlers& signal_handlers() const { return signal_handlers_; }
  const hostcalls::Dispatcher& dispatcher() const { return dispatcher_; }
  hostcalls::VirtualLimits& limits() { return limits_; }
  hostcalls::ReservedDescriptors reserved() const { return limits_.reserved(); }
  runtime::TaskSlots* tasks() const { return tasks_; }
  // Null when nobody watches.
  hostcalls::TraceSink* trace() const { return observers_.sink(); }
  // Null unless the session counts calls.
  const ProgramStatistics* statistics() const { return observers_.statistics(); }
  // Null when the session's rules permit everything.
  const hostcalls::policy::Guard* guard() const {
    return guard_.allows_all() ? nullptr : &guard_;
  }
  // Does it run in its parent's memory?
  bool is_vforked() const { return is_vforked_; }

  PoolWorth& pool_worth() { return pool_worth_; }
  // Null when nobody debugs this process; set before its first thread runs. A vforked child has none.
  Debugger* debugger() const { return debugger_; }
  void SetDebugger(Debugger* debugger) { debugger_ = debugger; }
  // To be held one by one. `BeginThread` counts them.
  ThreadList& threads() { return thread_list_; }

  // Threads of this process. A forked child, which inherits this object, has one.
  void BeginThread();
  // True for the last one.
  bool EndThread();
  // Asked by one of them: is it alone? False, too, for a while in the child of a process with more.
  bool HasOneThread() const { return static_cast<std::uint32_t>(threads_.load()) == 1; }

 private:
  const SessionState session_;
  DenialReport denial_report_;
  const hostcalls::policy::Guard guard_;
  const ProgramView program_;
  runtime::TaskSlots* const tasks_;
  const Observers& observers_;
  Machine& machine_;
  hostcalls::VirtualLimits& limits_;
  signals::SignalHandlers signal_handlers_;
  const hostcalls::Dispatcher dispatcher_;
  const bool is_vforked_;
  PoolWorth pool_worth_;
  Debugger* debugger_ = nullptr;
  ThreadList thread_list_;
  // In the upper half the pid for which the lower half counts.
  std::atomic<std::uint64_t> threads_{0};
};

// Every handler of every family, bound to its row.
hostcalls::HandlerTable AllHandlers();

}  // namespace dunebox::process

#endif  // DUNEBOX_RUNTIME_PROCESS_PROCESS_H_
