#include "runtime/process/process.h"

#include "hostcalls/services/services.h"
#include "runtime/process/calls/calls.h"

namespace dunebox::process {

Process::Process(const ProcessOptions& options, memory::AddressSpace& space,
                 hostcalls::VirtualLimits& limits)
    : reserved_(options.reserved),
      executable_path_(options.executable_path),
      trace_(options.trace),
      space_(space),
      limits_(limits),
      dispatcher_(AllHandlers(), options.trace) {
  signal_handlers_.Inherit();
}

hostcalls::HandlerTable AllHandlers() {
  hostcalls::HandlerTable handlers;
  hostcalls::RegisterServiceHandlers(handlers);
  RegisterMemoryHandlers(handlers);
  RegisterSignalHandlers(handlers);
  RegisterMaskedWaitHandlers(handlers);
  RegisterThreadHandlers(handlers);
  return handlers;
}

}  // namespace dunebox::process
