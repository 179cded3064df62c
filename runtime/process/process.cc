#include "runtime/process/process.h"

#include <utility>

#include "hostcalls/services/services.h"
#include "runtime/process/calls/calls.h"

namespace dunebox::process {

Process::Process(SessionState session, Machine& machine, hostcalls::VirtualLimits& limits,
                 runtime::TaskSlots* tasks, const Observers& observers, ProgramView program)
    : session_(std::move(session)),
      denial_report_(session_),
      guard_(session_.rules, &denial_report_),
      program_(std::move(program)),
      tasks_(tasks),
      observers_(observers),
      machine_(machine),
      limits_(limits),
      dispatcher_(AllHandlers(), observers.sink()),
      is_vforked_(false) {
  signal_handlers_.Inherit();
}

Process::Process(const Process& parent, hostcalls::VirtualLimits& limits)
    : session_(parent.session_),
      denial_report_(session_),
      guard_(session_.rules, &denial_report_),
      program_(parent.program_),
      tasks_(parent.tasks_),
      observers_(parent.observers_),
      machine_(parent.machine_),
      limits_(limits),
      signal_handlers_(parent.signal_handlers_),
      dispatcher_(parent.dispatcher_),
      is_vforked_(true) {}

namespace {

constexpr std::uint64_t kPidUnit = std::uint64_t{1} << 32;

// How many threads there are after a fork: the one that forked.
std::uint64_t CountFor(std::uint64_t threads, std::uint64_t pid) {
  if (threads == 0) return pid * kPidUnit;  // the first one
  return threads / kPidUnit == pid ? threads : pid * kPidUnit + 1;
}

}  // namespace

void Process::BeginThread() {
  const auto pid = static_cast<std::uint64_t>(getpid());
  std::uint64_t seen = threads_.load();
  while (!threads_.compare_exchange_weak(seen, CountFor(seen, pid) + 1)) {
  }
  limits_.ForgetDescriptors();
}

bool Process::EndThread() {
  const auto pid = static_cast<std::uint64_t>(getpid());
  std::uint64_t seen = threads_.load();
  while (!threads_.compare_exchange_weak(seen, CountFor(seen, pid) - 1)) {
  }
  limits_.ForgetDescriptors();
  return CountFor(seen, pid) % kPidUnit == 1;
}

hostcalls::HandlerTable AllHandlers() {
  hostcalls::HandlerTable handlers;
  hostcalls::RegisterServiceHandlers(handlers);
  RegisterMemoryHandlers(handlers);
  RegisterMemoryNodeHandlers(handlers);
  RegisterSignalHandlers(handlers);
  RegisterMaskedWaitHandlers(handlers);
  RegisterThreadHandlers(handlers);
  RegisterCloneHandlers(handlers);
  RegisterExecHandlers(handlers);
  return handlers;
}

}  // namespace dunebox::process
