// What `--stats=json` says of a program: its calls by name and route, time, faults, memory.
//
// Counts as an observer of the dispatcher, from the program's first step or, in a forked child,
// from its own. A vforked child's calls are in its parent's numbers. Threads count together,
// without locks. It knows nothing of engines; their counters are handed in.
//
//   ProgramStatistics statistics;                        // one of the dispatcher's observers
//   std::string line = statistics.ToJson({.engine = "kvm", .program = path, .counters = counters});
#ifndef DUNEBOX_RUNTIME_PROCESS_PROGRAM_STATISTICS_H_
#define DUNEBOX_RUNTIME_PROCESS_PROGRAM_STATISTICS_H_

#include <signal.h>
#include <sys/resource.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "hostcalls/dispatch/dispatcher.h"
#include "hostcalls/services/limit_notes.h"
#include "runtime/diagnostics.h"

namespace dunebox::process {

class ProgramStatistics final : public hostcalls::TraceSink {
 public:
  // What the line says beside what is counted here.
  struct Frame {
    std::string_view engine;
    std::string_view program;
    std::span<const runtime::Counter> counters;
    const hostcalls::LimitNotes* limits = nullptr;  // null: the session has none that refuse
  };

  ProgramStatistics() { Restart(); }

  void OnEnter(hostcalls::Caller& caller, const hostcalls::Row* row,
               const hostcalls::Request& request) override;
  void OnExit(hostcalls::Caller& caller, const hostcalls::Row* row,
              const hostcalls::Request& request, hostcalls::SyscallResult result) override;
  void OnNoReturn() override {}
  void OnSignal(const siginfo_t& info) override;
  void OnBegin(hostcalls::Beginning what, std::string_view program) override;

  // One JSON object and "\n", in at most PIPE_BUF bytes: of very many different calls, the rarest
  // are added up in "other_calls".
  std::string ToJson(const Frame& frame) const;

 private:
  using Count = std::atomic<std::uint64_t>;

  void Restart();
  // The members "calls" and "other_calls".
  std::string CallsByRoute(std::uint64_t& others) const;

  // By number; the last is for those without a row.
  std::array<Count, hostcalls::kSyscallTableSize> calls_{};
  Count unknown_calls_{0};
  Count failed_calls_{0};
  Count signals_{0};
  std::uint64_t start_ = 0;  // MonotonicNow()
  rusage usage_at_start_{};
};

}  // namespace dunebox::process

#endif  // DUNEBOX_RUNTIME_PROCESS_PROGRAM_STATISTICS_H_
