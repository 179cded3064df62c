#include "hostcalls/trace/chrome_trace.h"

#include <sys/prctl.h>
#include <sys/syscall.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "hostcalls/trace/json.h"
#include "hostcalls/trace/text.h"

namespace dunebox::hostcalls {
namespace {

constexpr std::size_t kMostProgramBytes = 1024;  // of a line's PIPE_BUF

// The format counts in microseconds.
std::string Microseconds(std::uint64_t nanoseconds) {
  return absl::StrFormat("%d.%03d", nanoseconds / 1000, nanoseconds % 1000);
}

JsonObject EventOf(std::string_view phase, const EventOrigin& origin, std::string_view name) {
  JsonObject object;
  object.Text("name", name)
      .Text("ph", phase)
      .Number("pid", origin.process)
      .Number("tid", origin.thread)
      .Value("ts", Microseconds(origin.time));
  return object;
}

std::string Line(JsonObject& object) { return absl::StrCat(object.Take(), ",\n"); }

// Names are metadata events ("M"); of several the last counts.
std::string NameLine(std::string_view what, const EventOrigin& origin, std::string_view name) {
  JsonObject arguments;
  arguments.Value("name", JsonText(Escape(name), kMostProgramBytes));
  return Line(EventOf("M", origin, what).Value("args", arguments.Take()));
}

std::string ThreadNameLine(const EventOrigin& origin) {
  constexpr std::size_t kNameBytes = 16;  // [linux] TASK_COMM_LEN
  char name[kNameBytes] = {};
  prctl(PR_GET_NAME, name);
  return NameLine("thread_name", origin, name);
}

bool NamesItsThread(const CallEvent& call) {
  return call.number == SYS_prctl && call.result && call.result->ok() &&
         call.text.arguments().front() == "PR_SET_NAME";
}

}  // namespace

std::string ChromeTrace::FormatCall(const CallEvent& call) const {
  JsonObject arguments;
  arguments.Value("arguments", ArgumentsAsJson(call.row, call.text))
      .Value("result", ResultAsJson(call.row, call.result));
  if (call.result && call.result->error() != 0 && !call.result->is_restart()) {
    arguments.Text("errno", ErrnoName(call.result->error()));
  }
  const Route route = call.row == nullptr ? Route::kAbsent : call.row->route;
  JsonObject object = EventOf(call.result ? "X" : "i", call.origin, call.text.name());
  if (call.result) {
    object.Value("dur", Microseconds(call.duration));
  } else {
    object.Text("s", "t");  // an instant of its thread
  }
  object.Text("cat", ToString(route)).Value("args", arguments.Take());
  std::string lines = Line(object);
  if (NamesItsThread(call)) lines += ThreadNameLine(call.origin);
  return lines;
}

std::string ChromeTrace::FormatSignal(const EventOrigin& origin, const siginfo_t& info) const {
  JsonObject arguments;
  for (const SignalField& field : SignalFields(info)) arguments.Text(field.name, field.value);
  return Line(EventOf("i", origin, SignalText(info.si_signo))
                  .Text("s", "t")
                  .Text("cat", "signal")
                  .Value("args", arguments.Take()));
}

std::string ChromeTrace::FormatBegin(const EventOrigin& origin, Beginning what,
                                     std::string_view program) const {
  std::string thread = ThreadNameLine(origin);
  if (what == Beginning::kThread) return thread;
  return absl::StrCat(NameLine("process_name", origin, program), thread);
}

}  // namespace dunebox::hostcalls
