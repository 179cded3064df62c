// Who watches a program's calls: the trace that the session asks for, the statistics, both, nobody.
//
//   Observers observers(session, engine.name());
//   Dispatcher dispatcher(handlers, observers.sink());   // null: nobody watches, nothing is spent
#ifndef DUNEBOX_RUNTIME_PROCESS_OBSERVERS_H_
#define DUNEBOX_RUNTIME_PROCESS_OBSERVERS_H_

#include <memory>
#include <optional>
#include <string_view>

#include "hostcalls/dispatch/dispatcher.h"
#include "hostcalls/trace/tee_trace.h"
#include "runtime/process/program_statistics.h"
#include "runtime/process/session_state.h"

namespace dunebox::process {

class Observers {
 public:
  // `engine` is the engine's name.
  Observers(const SessionState& session, std::string_view engine);
  Observers(const Observers&) = delete;
  Observers& operator=(const Observers&) = delete;

  // Null when nobody watches.
  hostcalls::TraceSink* sink() const { return sink_; }
  // Null unless the session counts calls.
  const ProgramStatistics* statistics() const { return statistics_.get(); }

 private:
  std::unique_ptr<hostcalls::TraceSink> trace_;
  std::unique_ptr<ProgramStatistics> statistics_;
  std::optional<hostcalls::TeeTrace> both_;
  hostcalls::TraceSink* sink_ = nullptr;
};

}  // namespace dunebox::process

#endif  // DUNEBOX_RUNTIME_PROCESS_OBSERVERS_H_
