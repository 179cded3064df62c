// The clock of --time and --cpu-time, and the count of --output, looked at by the process whose
// descendants are limited.
//
// Wall time begins when the watch is made and goes on while the program is stopped. CPU time is
// looked at every 100 ms at most, so a session can use a little more than its limit. So is whether
// the limit of output is reached; who reached it waits.
//
//   LimitWatch watch(limits);
//   if (const std::optional<EndReason> reached = watch.Reached()) ...
//   sigtimedwait(&set, &info, watch.Pause());
#ifndef DUNEBOX_RUNTIME_LIMITS_LIMIT_WATCH_H_
#define DUNEBOX_RUNTIME_LIMITS_LIMIT_WATCH_H_

#include <chrono>
#include <ctime>
#include <functional>
#include <optional>
#include <utility>

#include "runtime/limits/cpu_time.h"
#include "runtime/limits/session_end.h"
#include "runtime/limits/session_limits.h"

namespace dunebox::runtime {

class LimitWatch {
 public:
  using Clock = std::chrono::steady_clock;

  // Whether the output is full, and the CPU time that was used up to now.
  using OutputTest = std::function<bool()>;
  using CpuClock = std::function<std::chrono::milliseconds()>;

  // Both may be null: there is no limit of output; the descendants of this process are looked at.
  explicit LimitWatch(const SessionLimits& limits, OutputTest is_output_full = nullptr,
                      CpuClock cpu_clock = nullptr)
      : limits_(limits),
        is_output_full_(std::move(is_output_full)),
        start_(Clock::now()),
        cpu_clock_(std::move(cpu_clock)) {}

  std::optional<EndReason> Reached();
  // How long nothing has to be looked at; null: for ever.
  const timespec* Pause();

 private:
  const SessionLimits limits_;
  const OutputTest is_output_full_;
  const Clock::time_point start_;
  Clock::time_point next_sample_{};
  const CpuClock cpu_clock_;
  TreeCpuTime cpu_time_;
  timespec pause_{};
};

}  // namespace dunebox::runtime

#endif  // DUNEBOX_RUNTIME_LIMITS_LIMIT_WATCH_H_
