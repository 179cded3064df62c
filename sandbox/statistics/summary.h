// What the programs of one session did, added up: the lines of --stats=json, read back.
//
//   absl::StatusOr<Summary> summary = Summarize(lines);
//   summary->calls["forwarded"]["read"];
//
// A process that a signal ended, other than for a fault of its own, has written no line, and is not in it.
#ifndef DUNEBOX_SANDBOX_STATISTICS_SUMMARY_H_
#define DUNEBOX_SANDBOX_STATISTICS_SUMMARY_H_

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace dunebox::statistics {

using Counts = std::map<std::string, std::uint64_t>;

struct Summary {
  std::string engine;          // "jit", "kvm (emulated)"; empty: no line
  std::uint64_t programs = 0;  // lines: one for each program that a process was
  std::uint64_t processes = 0;
  std::uint64_t user_us = 0, system_us = 0;
  std::uint64_t minor_faults = 0, major_faults = 0;
  std::uint64_t peak_memory_kib = 0;  // of the process that had most
  std::uint64_t signals = 0;
  std::uint64_t failed_calls = 0;
  std::map<std::string, Counts> calls;  // by route, then by name; "other" for what a line had no room for
  Counts counters;                      // the engine's
  std::set<std::string> limits_hit;

  std::uint64_t CallsOf(const std::string& route) const;
  std::uint64_t AllCalls() const;
};

// `lines`: a JSON object in each. InvalidArgument for anything else.
absl::StatusOr<Summary> Summarize(std::string_view lines);

}  // namespace dunebox::statistics

#endif  // DUNEBOX_SANDBOX_STATISTICS_SUMMARY_H_
