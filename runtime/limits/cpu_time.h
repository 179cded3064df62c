// The CPU time of everything below this process, for --cpu-time.
//
// No kernel interface adds up a tree as it goes on. Two sums are taken, and the larger one counts:
// what each process seen so far has used itself, as it was when last looked at; and what living
// processes say of themselves and their reaped children, with what this process has reaped (as a
// subreaper it reaps all orphans). The first has what nobody reaps, the second what was too short to
// be seen. Missed is only what is both: short, and ignored by its parent (SIGCHLD set to SIG_IGN).
//
//   TreeCpuTime time;
//   while (time.Read() < limit) ...
#ifndef DUNEBOX_RUNTIME_LIMITS_CPU_TIME_H_
#define DUNEBOX_RUNTIME_LIMITS_CPU_TIME_H_

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string_view>
#include <utility>

namespace dunebox::runtime {

// The fields of /proc/PID/stat that matter here, in clock ticks.
struct ProcessTimes {
  std::uint64_t own = 0;
  std::uint64_t reaped = 0;
  std::uint64_t start = 0;

  static std::optional<ProcessTimes> Parse(std::string_view stat);
};

class TreeCpuTime {
 public:
  std::chrono::milliseconds Read();

 private:
  using Key = std::pair<pid_t, std::uint64_t>;  // with the start: ids are used again
  // Everything below this process, with the time of each. Returns what it says of itself and of its reaped children.
  static std::uint64_t VisitTree(std::map<Key, std::uint64_t>& living);

  std::map<Key, std::uint64_t> living_;  // own time of those that were there the last time
  std::uint64_t gone_ = 0;               // of those that are no more
};

}  // namespace dunebox::runtime

#endif  // DUNEBOX_RUNTIME_LIMITS_CPU_TIME_H_
