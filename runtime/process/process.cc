#include "runtime/process/process.h"

#include <utility>

#include "hostcalls/services/services.h"
#include "runtime/process/calls/calls.h"

namespace dunebox::process {

Process::Process(const SessionState& session, Machine& machine, hostcalls::VirtualLimits& limits,
                 hostcalls::TraceSink* trace, ProgramView program)
    : session_(session),
      program_(std::move(program)),
      trace_(trace),
      machine_(machine),
      limits_(limits),
      dispatcher_(AllHandlers(), trace) {
  signal_handlers_.Inherit();
}

Process::Process(const Process& parent, hostcalls::VirtualLimits& limits)
    : session_(parent.session_),
      program_(parent.program_),
      trace_(parent.trace_),
      machine_(parent.machine_),
      limits_(limits),
      signal_handlers_(parent.signal_handlers_),
      dispatcher_(parent.dispatcher_) {}

hostcalls::HandlerTable AllHandlers() {
  hostcalls::HandlerTable handlers;
  hostcalls::RegisterServiceHandlers(handlers);
  RegisterMemoryHandlers(handlers);
  RegisterSignalHandlers(handlers);
  RegisterMaskedWaitHandlers(handlers);
  RegisterThreadHandlers(handlers);
  RegisterCloneHandlers(handlers);
  RegisterExecHandlers(handlers);
  return handlers;
}

}  // namespace dunebox::process
