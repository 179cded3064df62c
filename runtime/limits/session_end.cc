#include "runtime/limits/session_end.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "hostcalls/errors/message.h"
#include "hostcalls/services/limit_notes.h"
#include "hostcalls/trace/json.h"

namespace dunebox::runtime {
namespace {

using hostcalls::JsonObject;
using hostcalls::JsonText;

std::string TextOrNull(std::string_view text) { return text.empty() ? "null" : JsonText(text); }

std::string_view ReasonName(EndReason reason) {
  switch (reason) {
    case EndReason::kExited:
      return "exited";
    case EndReason::kSignaled:
      return "signaled";
    case EndReason::kWallTime:
    case EndReason::kCpuTime:
    case EndReason::kOutput:
    case EndReason::kMemory:
    case EndReason::kFileSize:
      return "limit";
    case EndReason::kParentGone:
      return "parent-gone";
  }
  return "";
}

std::string_view LimitName(EndReason reason) {
  if (reason == EndReason::kWallTime) return "wall-time";
  if (reason == EndReason::kCpuTime) return "cpu-time";
  if (reason == EndReason::kMemory) return "memory";
  if (reason == EndReason::kFileSize) return "file-size";
  return reason == EndReason::kOutput ? "output" : "";
}

}  // namespace

absl::Status LimitFailure(const SessionEnd& end, const SessionLimits& limits) {
  const auto killed = [](errors::Id id, std::string_view what, const std::string& limit) {
    return errors::Named(id, absl::AbortedError(absl::StrCat("killed: ", std::string(what), " limit ",
                                                             limit, " reached")));
  };
  using errors::Id;
  if (end.reason == EndReason::kWallTime && limits.wall_time) {
    return killed(Id::kWallTime, "wall time", FormatDuration(*limits.wall_time));
  }
  if (end.reason == EndReason::kCpuTime && limits.cpu_time) {
    return killed(Id::kCpuTime, "CPU time", FormatDuration(*limits.cpu_time));
  }
  if (end.reason == EndReason::kOutput && limits.output) {
    return killed(Id::kOutputLimit, "output", FormatSize(*limits.output));
  }
  if (end.reason == EndReason::kMemory && limits.memory) {
    return killed(Id::kMemoryLimit, "memory", FormatSize(*limits.memory));
  }
  if (end.reason == EndReason::kFileSize && limits.file_size) {
    return killed(Id::kFileSizeLimit, "file size", FormatSize(*limits.file_size));
  }
  return absl::OkStatus();
}

std::string RefusalMessage(const RefusedLimits& refused, const SessionLimits& limits) {
  std::vector<std::string> parts;
  if (refused.memory && limits.memory) {
    parts.push_back(absl::StrCat("memory ", FormatSize(*limits.memory)));
  }
  if (refused.tasks && limits.tasks) {
    parts.push_back(absl::StrCat("processes and threads ", *limits.tasks));
  }
  if (refused.open_files && limits.open_files) {
    parts.push_back(absl::StrCat("open files ", *limits.open_files));
  }
  if (refused.file_size && limits.file_size) {
    parts.push_back(absl::StrCat("file size ", FormatSize(*limits.file_size)));
  }
  if (parts.empty()) return {};
  return absl::StrCat("the program was refused more than its limits: ", absl::StrJoin(parts, ", "));
}

std::string StartedLine(int pid, std::string_view engine, std::string_view isolation) {
  return JsonObject()
             .Text("event", "started")
             .Number("pid", pid)
             .Text("engine", engine)
             .Value("isolation", TextOrNull(isolation))
             .Take() +
         "\n";
}

std::string EndedLine(const SessionEnd& end, const RefusedLimits& refused) {
  std::vector<std::string> names;
  const auto add = [&](bool is_refused, hostcalls::RefusedLimit limit) {
    if (is_refused) names.push_back(JsonText(hostcalls::ToString(limit)));
  };
  add(refused.memory, hostcalls::RefusedLimit::kMemory);
  add(refused.tasks, hostcalls::RefusedLimit::kTasks);
  add(refused.open_files, hostcalls::RefusedLimit::kOpenFiles);
  add(refused.file_size, hostcalls::RefusedLimit::kFileSize);
  const std::string_view limit = LimitName(end.reason);
  return JsonObject()
             .Text("event", "ended")
             .Number("exit_status", end.exit_status)
             .Value("signal", end.signal == 0 ? "null" : absl::StrCat(end.signal))
             .Text("reason", ReasonName(end.reason))
             .Value("limit", TextOrNull(limit))
             .Value("refused", absl::StrCat("[", absl::StrJoin(names, ","), "]"))
             .Take() +
         "\n";
}

}  // namespace dunebox::runtime
