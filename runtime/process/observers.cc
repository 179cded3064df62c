#include "runtime/process/observers.h"

#include "hostcalls/trace/chrome_trace.h"
#include "hostcalls/trace/json_trace.h"
#include "hostcalls/trace/text_trace.h"

namespace dunebox::process {
namespace {

std::unique_ptr<hostcalls::TraceSink> MakeTrace(const SessionState& session,
                                                std::string_view engine) {
  switch (session.trace) {
    case runtime::TraceFormat::kNone:
      return nullptr;
    case runtime::TraceFormat::kText:
      return std::make_unique<hostcalls::TextTrace>(session.trace_fd, session.report_fd);
    case runtime::TraceFormat::kJson:
      return std::make_unique<hostcalls::JsonTrace>(session.trace_fd, engine, session.report_fd);
    case runtime::TraceFormat::kChrome:
      return std::make_unique<hostcalls::ChromeTrace>(session.trace_fd, session.report_fd);
  }
  return nullptr;
}

}  // namespace

Observers::Observers(const SessionState& session, std::string_view engine)
    : trace_(MakeTrace(session, engine)) {
  if (session.diagnostics.counts_calls()) statistics_ = std::make_unique<ProgramStatistics>();
  sink_ = trace_.get();
  if (statistics_ == nullptr) return;
  sink_ = statistics_.get();
  if (trace_ != nullptr) sink_ = &both_.emplace(*trace_, *statistics_);
}

}  // namespace dunebox::process
