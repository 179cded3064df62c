#include "runtime/process/report.h"

#include <unistd.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "hostcalls/trace/write_line.h"
#include "runtime/process/process.h"

namespace dunebox::process {
namespace {

// Each line with "dunebox: [PID] " before it.
std::string WithPrefix(absl::string_view lines) {
  const std::string prefix = absl::StrCat("dunebox: [", getpid(), "] ");
  std::string text;
  for (const absl::string_view line : absl::StrSplit(lines, '\n', absl::SkipEmpty())) {
    absl::StrAppend(&text, prefix, line, "\n");
  }
  return text;
}

std::string StatisticsOf(Process& process) {
  runtime::ExecutionEngine& engine = process.machine().engine();
  const std::vector<runtime::Counter> counters = engine.Counters();
  if (const ProgramStatistics* statistics = process.statistics(); statistics != nullptr) {
    return statistics->ToJson(
        {.engine = engine.name(),
         .program = process.executable_path(),
         .counters = counters,
         .limits = process.limits().notes});
  }
  std::string lines = absl::StrCat("stats: program ", process.executable_path(), "\nstats: engine ",
                                   engine.name(), "\n");
  for (const runtime::Counter& counter : counters) lines += StatisticsLine(counter);
  return WithPrefix(lines);
}

}  // namespace

void ReportEnd(Process& process) {
  const SessionState& session = process.session();
  if (process.is_vforked()) return;
  process.machine().engine().OnProgramEnd();
  if (session.diagnostics.statistics) {
    hostcalls::UserFile(session.statistics_fd, session.report_fd, "--stats").Write(StatisticsOf(process));
  }
  if (!session.diagnostics.dump.empty()) {
    const std::string dump = process.machine().engine().Dump(session.diagnostics.dump);
    hostcalls::WriteLine(session.report_fd, WithPrefix(dump));
  }
}

}  // namespace dunebox::process
