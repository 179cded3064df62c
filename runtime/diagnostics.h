// What the user wants to see of programs and engines at work: --trace, --stats, --backtrace,
// --jit-perf-map, --jit-perf-dump, --jit-dump, --jit-record. Fixed for a session, and carried from one program to the next.
//
//   Diagnostics wanted{.statistics = true, .dump = "libc.so.6+0x28b60"};
//   std::string text = engine.Dump(wanted.dump);
#ifndef DUNEBOX_RUNTIME_DIAGNOSTICS_H_
#define DUNEBOX_RUNTIME_DIAGNOSTICS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace dunebox::runtime {

enum class TraceFormat : unsigned char { kNone, kText, kJson, kChrome };
enum class StatisticsFormat : unsigned char { kText, kJson };

struct Diagnostics {
  bool statistics = false;
  StatisticsFormat statistics_format = StatisticsFormat::kText;  // with `statistics`
  bool perf_map = false;  // engine jit only
  std::string perf_dump;  // directory for code and its names, engine jit only; empty: none
  bool backtrace = false;  // of a process that crashes
  std::string dump;       // a CodePlace as text, engine jit only; empty: none
  std::string record;     // directory for records of all emitted code, engine jit only; empty: none
  // Whether something may have to be said on standard error while programs run.
  bool any_report() const {
    return statistics || backtrace || perf_map || !dump.empty() || !perf_dump.empty() || !record.empty();
  }
  // The statistics name every call; the engine answers none by itself then.
  bool counts_calls() const { return statistics && statistics_format == StatisticsFormat::kJson; }
};

// What an engine has counted of a process: "blocks", 1234.
struct Counter {
  std::string_view name;  // of static storage
  std::uint64_t value = 0;
};

// A place in guest code as a user names it: "0x401000" or "401000", or where it lies in a mapped
// file, "libc.so.6+0x28b60".
struct CodePlace {
  std::string file;  // without directories; empty: `offset` is the address
  std::uint64_t offset = 0;

  static std::optional<CodePlace> Parse(std::string_view text);
};

// What is behind the last slash.
std::string_view BaseName(std::string_view path);

// One line of --stats: "stats: blocks 1234\n".
std::string StatisticsLine(const Counter& counter);

}  // namespace dunebox::runtime

#endif  // DUNEBOX_RUNTIME_DIAGNOSTICS_H_
