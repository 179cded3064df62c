// What the threads of one guest process share: memory, signal dispositions, descriptors' limits,
// the dispatcher. Split as Linux splits it, so that clone can share or copy each part.
#ifndef DUNEBOX_RUNTIME_PROCESS_PROCESS_H_
#define DUNEBOX_RUNTIME_PROCESS_PROCESS_H_

#include <memory>
#include <string>

#include "hostcalls/dispatch/caller.h"
#include "hostcalls/dispatch/dispatcher.h"
#include "hostcalls/services/limits.h"
#include "runtime/engine.h"
#include "runtime/memory/address_space.h"
#include "runtime/signals/action.h"

namespace dunebox::process {

struct ProcessOptions {
  hostcalls::ReservedDescriptors reserved;
  std::string executable_path;
  hostcalls::TraceSink* trace = nullptr;  // outlives the process
};

class Process final : public hostcalls::ProcessView {
 public:
  Process(const ProcessOptions& options, memory::AddressSpace& space,
          hostcalls::VirtualLimits& limits);

  std::string executable_path() const override { return executable_path_; }
  std::string FormatMaps() const override { return space_.FormatMaps(); }

  memory::AddressSpace& space() { return space_; }
  signals::SignalHandlers& signal_handlers() { return signal_handlers_; }
  const hostcalls::Dispatcher& dispatcher() const { return dispatcher_; }
  hostcalls::VirtualLimits& limits() { return limits_; }
  hostcalls::ReservedDescriptors reserved() const { return reserved_; }
  hostcalls::TraceSink* trace() const { return trace_; }

 private:
  const hostcalls::ReservedDescriptors reserved_;
  const std::string executable_path_;
  hostcalls::TraceSink* const trace_;
  memory::AddressSpace& space_;
  hostcalls::VirtualLimits& limits_;
  signals::SignalHandlers signal_handlers_;
  const hostcalls::Dispatcher dispatcher_;
};

// Every handler of every family, bound to its row.
hostcalls::HandlerTable AllHandlers();

}  // namespace dunebox::process

#endif  // DUNEBOX_RUNTIME_PROCESS_PROCESS_H_
