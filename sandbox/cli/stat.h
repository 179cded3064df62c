// `dunebox stat`, and --metrics-file of `dunebox run`: a run whose statistics are added up.
//
//   return RunStat(command, session);
#ifndef DUNEBOX_SANDBOX_CLI_STAT_H_
#define DUNEBOX_SANDBOX_CLI_STAT_H_

#include <string>

#include "runtime/session.h"

namespace dunebox::cli {

// Where the report of `dunebox stat` goes, and in which form.
struct StatReport {
  std::string file;  // empty: standard error
  bool as_json = false;
};

// Both return the exit status; messages go to standard error. A file that cannot be written is told before PROG runs
// where that can be known, and costs no more than the message afterwards: the program has run.
int RunStat(const runtime::SessionOptions& session, const StatReport& report, const std::string& metrics_file);
int RunWithMetrics(const runtime::SessionOptions& session, const std::string& metrics_file);

}  // namespace dunebox::cli

#endif  // DUNEBOX_SANDBOX_CLI_STAT_H_
