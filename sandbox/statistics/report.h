// A summary for people, for programs, and for Prometheus.
//
//   std::string table = FormatTable(summary, {.command = "make -j4", .elapsed_ns = 1'200'000, .exit_status = 0});
#ifndef DUNEBOX_SANDBOX_STATISTICS_REPORT_H_
#define DUNEBOX_SANDBOX_STATISTICS_REPORT_H_

#include <cstdint>
#include <string>

#include "sandbox/statistics/summary.h"

namespace dunebox::statistics {

// What no program of the session knows.
struct Session {
  std::string command;
  std::uint64_t elapsed_ns = 0;
  int exit_status = 0;
};

// In the manner of perf-stat: a number a line, and what it means.
std::string FormatTable(const Summary& summary, const Session& session);

// One JSON object and "\n".
std::string FormatJson(const Summary& summary, const Session& session);

// The text format of Prometheus, version 0.0.4: for a collector that reads files. Every metric has a label `command`.
std::string FormatMetrics(const Summary& summary, const Session& session);

}  // namespace dunebox::statistics

#endif  // DUNEBOX_SANDBOX_STATISTICS_REPORT_H_
