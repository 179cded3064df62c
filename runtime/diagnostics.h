// What the user wants to see of an engine at work: --stats, --jit-perf-map, --jit-dump,
// --jit-record. Fixed for a
// session, and carried from one program to the next.
//
//   Diagnostics wanted{.statistics = true, .dump = "libc.so.6+0x28b60"};
//   std::string text = engine.Report(wanted);
#ifndef DUNEBOX_RUNTIME_DIAGNOSTICS_H_
#define DUNEBOX_RUNTIME_DIAGNOSTICS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace dunebox::runtime {

struct Diagnostics {
  bool statistics = false;
  bool perf_map = false;  // engine jit only
  std::string dump;       // a CodePlace as text, engine jit only; empty: none
  std::string record;     // directory for records of all emitted code, engine jit only; empty: none
  bool any_report() const { return statistics || !dump.empty(); }
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
std::string StatisticsLine(std::string_view name, std::uint64_t value);

}  // namespace dunebox::runtime

#endif  // DUNEBOX_RUNTIME_DIAGNOSTICS_H_
