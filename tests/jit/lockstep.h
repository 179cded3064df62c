// The guest's state in front of every host instruction of translated code, as recovered from there,
// against what the bare processor goes through.
#ifndef DUNEBOX_TESTS_JIT_LOCKSTEP_H_
#define DUNEBOX_TESTS_JIT_LOCKSTEP_H_

#include <cstdint>
#include <string>
#include <vector>

#include "tests/jit/runner.h"

namespace dunebox::jit {

// Walks along a native trace: each state seen has to be the current one or one soon after it.
class TraceFollower {
 public:
  TraceFollower(Arena& arena, const std::vector<Snapshot>& trace) : arena_(arena), trace_(trace) {}

  // How far on the next state may be; more than one when some are not seen.
  void set_stride(std::size_t stride) { stride_ = stride; }
  void See(const Snapshot& seen, std::uint64_t host);
  std::uint64_t seen() const { return seen_; }
  std::size_t position() const { return position_; }
  // What was wrong first; empty when nothing was.
  const std::string& complaint() const { return complaint_; }

 private:
  bool IsAt(const Snapshot& seen, const Snapshot& expected) const;
  // The instructions from there on overwrite the arithmetic flags before anything can see them.
  bool AreFlagsSpent(std::uint64_t pc) const;

  Arena& arena_;
  const std::vector<Snapshot>& trace_;
  std::size_t stride_ = 1;
  std::size_t position_ = 0;
  std::uint64_t seen_ = 0;
  std::string complaint_;
};

// Runs `start` in both ways by single steps; what was wrong first. Adds the host instructions seen.
std::string CompareSteps(Runner& runner, const Machine& start, const std::vector<std::byte>& memory,
                         std::uint64_t& host_instructions);

}  // namespace dunebox::jit

#endif  // DUNEBOX_TESTS_JIT_LOCKSTEP_H_
