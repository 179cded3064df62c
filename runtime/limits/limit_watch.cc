#include "runtime/limits/limit_watch.h"

#include <algorithm>

namespace dunebox::runtime {
namespace {

constexpr std::chrono::milliseconds kSampleInterval(100);

}  // namespace

std::optional<EndReason> LimitWatch::Reached() {
  const Clock::time_point now = Clock::now();
  if (limits_.wall_time && now - start_ >= *limits_.wall_time) return EndReason::kWallTime;
  if (is_output_full_ && is_output_full_()) return EndReason::kOutput;
  if (limits_.cpu_time && now >= next_sample_) {
    const auto used = cpu_clock_ ? cpu_clock_() : cpu_time_.Read();
    if (used >= *limits_.cpu_time) return EndReason::kCpuTime;
    // From after the reading, which takes longer the more processes there are.
    next_sample_ = Clock::now() + kSampleInterval;
  }
  return std::nullopt;
}

const timespec* LimitWatch::Pause() {
  if (!limits_.wall_time && !limits_.cpu_time && !is_output_full_) return nullptr;
  Clock::time_point next = Clock::time_point::max();
  if (is_output_full_) next = Clock::now() + kSampleInterval;
  if (limits_.wall_time) next = std::min(next, start_ + *limits_.wall_time);
  if (limits_.cpu_time) next = std::min(next, next_sample_);
  const auto left = std::max(next - Clock::now(), Clock::duration::zero());
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(left);
  pause_.tv_sec = static_cast<time_t>(seconds.count());
  pause_.tv_nsec = static_cast<long>(std::chrono::nanoseconds(left - seconds).count());
  return &pause_;
}

}  // namespace dunebox::runtime
