#include "hostcalls/trace/json_trace.h"

#include "hostcalls/trace/json.h"
#include "hostcalls/trace/text.h"

namespace dunebox::hostcalls {
namespace {

constexpr std::size_t kMostProgramBytes = 2048;  // of a line's PIPE_BUF

JsonObject EventOf(std::string_view event, const EventOrigin& origin) {
  JsonObject object;
  object.Text("event", event)
      .Number("pid", origin.process)
      .Number("tid", origin.thread)
      .Number("start_ns", origin.time);
  return object;
}

std::string_view KindOf(const CallEvent& call) {
  if (call.result) return "call";
  return NeverReturns(call.row) ? "exit" : "exec";
}

std::string_view NameOf(Beginning what) {
  switch (what) {
    case Beginning::kProgram:
      return "program";
    case Beginning::kThread:
      return "thread";
    case Beginning::kForkedChild:
      return "fork";
    case Beginning::kVforkedChild:
      return "vfork";
  }
  return "?";
}

}  // namespace

std::string JsonTrace::FormatCall(const CallEvent& call) const {
  JsonObject object = EventOf(KindOf(call), call.origin);
  object.Text("name", call.text.name())
      .Number("number", call.number)
      .Value("args", ArgumentsAsJson(call.row, call.text))
      .Value("result", ResultAsJson(call.row, call.result));
  if (call.result && call.result->is_restart()) {
    object.Value("interrupted", "true");
  } else if (call.result && call.result->error() != 0) {
    const std::string name = ErrnoName(call.result->error());
    name.empty() ? object.Number("errno", call.result->error()) : object.Text("errno", name);
  }
  object.Number("duration_ns", call.duration).Text("engine", engine_);
  const Route route = call.row == nullptr ? Route::kAbsent : call.row->route;
  object.Text("route", ToString(route));
  if (route == Route::kDenied || route == Route::kAbsent) object.Text("denied_by", "table");
  if (!call.denied_by.empty()) object.Text("denied_by", call.denied_by);
  return object.Take() + "\n";
}

std::string JsonTrace::FormatSignal(const EventOrigin& origin, const siginfo_t& info) const {
  JsonObject object = EventOf("signal", origin);
  object.Text("name", SignalText(info.si_signo)).Number("number", info.si_signo);
  for (const SignalField& field : SignalFields(info)) object.Text(field.name, field.value);
  return object.Text("engine", engine_).Take() + "\n";
}

std::string JsonTrace::FormatBegin(const EventOrigin& origin, Beginning what,
                                   std::string_view program) const {
  JsonObject object = EventOf("start", origin);
  object.Text("name", NameOf(what)).Value("program", JsonText(Escape(program), kMostProgramBytes));
  return object.Text("engine", engine_).Take() + "\n";
}

}  // namespace dunebox::hostcalls
