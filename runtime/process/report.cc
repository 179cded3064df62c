#include "runtime/process/report.h"

#include <unistd.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "hostcalls/trace/write_line.h"
#include "runtime/process/process.h"

namespace dunebox::process {

void ReportEnd(Process& process) {
  const SessionState& session = process.session();
  if (session.report_fd < 0 || process.is_vforked()) return;
  runtime::ExecutionEngine& engine = process.machine().engine();
  std::string report;
  if (session.diagnostics.statistics) {
    absl::StrAppend(&report, "stats: program ", process.executable_path(), "\nstats: engine ",
                    engine.name(), "\n");
  }
  report += engine.Report(session.diagnostics);
  const std::string prefix = absl::StrCat("dunebox: [", getpid(), "] ");
  std::string lines;
  for (const absl::string_view line : absl::StrSplit(report, '\n', absl::SkipEmpty())) {
    absl::StrAppend(&lines, prefix, line, "\n");
  }
  hostcalls::WriteLine(session.report_fd, lines);
}

}  // namespace dunebox::process
