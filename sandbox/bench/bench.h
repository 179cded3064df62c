// `dunebox bench`: what the sandbox costs on this machine, in ratios to native runs by turns with it.
//
//   return RunBench({.engines = {"jit"}, .repeat = 5, .program = {"make", "-B"}});
//
// Without a program single operations are measured (operations.h), and a start. With one, its time: natively and
// inside, with all rights, its output thrown away.
#ifndef DUNEBOX_SANDBOX_BENCH_BENCH_H_
#define DUNEBOX_SANDBOX_BENCH_BENCH_H_

#include <string>
#include <vector>

namespace dunebox::bench {

inline constexpr int kMostRepeats = 1000;

struct BenchOptions {
  std::vector<std::string> engines;  // "jit", "kvm"; empty: those that this machine has
  int repeat = 5;                    // 1 to kMostRepeats
  bool as_json = false;
  std::vector<std::string> program;
};

// Prints the report to standard output. 0, or 125 with a message; an engine that is not here is told and left out
// unless it was asked for.
int RunBench(const BenchOptions& options);

}  // namespace dunebox::bench

#endif  // DUNEBOX_SANDBOX_BENCH_BENCH_H_
