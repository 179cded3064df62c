#include "runtime/dry_run.h"

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace dunebox::runtime {
namespace {

// Quoted, so that each word is one however it is written.
std::string Quoted(const std::string& word) {
  return absl::StrCat("\"", absl::Utf8SafeCEscape(word), "\"");
}

std::string Line(std::string_view name, std::string_view value) {
  return absl::StrCat(std::string(name), ": ", std::string(value), "\n");
}

std::string DescribeLimits(const SessionLimits& limits) {
  std::string text;
  if (limits.wall_time) text += Line("limit wall time", FormatDuration(*limits.wall_time));
  if (limits.cpu_time) text += Line("limit cpu time", FormatDuration(*limits.cpu_time));
  if (limits.memory) text += Line("limit memory", FormatSize(*limits.memory) + " a process");
  if (limits.tasks) text += Line("limit processes and threads", absl::StrCat(*limits.tasks));
  if (limits.open_files) text += Line("limit open files", absl::StrCat(*limits.open_files));
  if (limits.file_size) text += Line("limit file size", FormatSize(*limits.file_size));
  return text.empty() ? Line("limits", "none") : text;
}

std::string DescribeEnvironment(const EnvironmentChanges& changes) {
  std::string text = Line("environment", changes.clear ? "empty" : "the caller's");
  for (const std::string& entry : changes.entries) {
    const bool sets = entry.find('=') != std::string::npos;
    text += Line(sets ? "environment set" : "environment pass", Quoted(entry));
  }
  return text;
}

}  // namespace

std::string DescribeSession(const SessionOptions& options, const SessionPlan& plan) {
  std::string text = Line("program", Quoted(plan.program));
  for (const std::string& argument : options.arguments) text += Line("argument", Quoted(argument));
  text += Line("engine", plan.engine);
  if (!plan.isolation.empty()) text += Line("isolation", plan.isolation);
  text += options.rights;
  if (!options.directory.empty()) text += Line("directory", Quoted(options.directory));
  return text + DescribeLimits(options.limits) + DescribeEnvironment(options.environment);
}

}  // namespace dunebox::runtime
