// What the parts of Instance have in common: a guest thread in the hands of a host thread, and until when.
#ifndef DUNEBOX_SANDBOX_PLUGIN_INSTANCE_PARTS_H_
#define DUNEBOX_SANDBOX_PLUGIN_INSTANCE_PARTS_H_

#include <sys/types.h>
#include <unistd.h>

#include <cstdint>

#include "absl/time/time.h"
#include "sandbox/plugin/instance.h"
#include "sandbox/plugin/plugin_thread.h"
#include "sandbox/plugin/watchdog.h"

namespace dunebox::plugin {

inline pid_t HostThread() {
  static constinit thread_local pid_t id = 0;
  if (id == 0) id = gettid();
  return id;
}

inline std::uint64_t DeadlineIn(absl::Duration time) {
  if (time == absl::InfiniteDuration()) return kNoDeadline;
  // At most 292 years.
  return CoarseNow() + static_cast<std::uint64_t>(absl::ToInt64Nanoseconds(time));
}

inline std::uint64_t BudgetFromNow(pid_t thread, absl::Duration time) {
  if (time == absl::InfiniteDuration()) return kNoDeadline;
  return CpuTimeOf(thread) + static_cast<std::uint64_t>(absl::ToInt64Nanoseconds(time));
}

inline CallFrame WithArgument(std::uint64_t argument) {
  CallFrame frame;
  frame.AddInteger(argument);
  return frame;
}

inline bool IsCallback(std::uint64_t number) {
  return number >= DUNEBOX_GATE_CALLBACK && number < DUNEBOX_GATE_CALLBACK + DUNEBOX_MOST_CALLBACKS;
}

// Takes a guest thread over for a stretch of guest code, with what the host expects to find again.
class Entered {
 public:
  explicit Entered(PluginThread& thread) : cpu_(*thread.cpu) { cpu_.Enter(); }
  ~Entered() { cpu_.Leave(); }
  Entered(const Entered&) = delete;
  Entered& operator=(const Entered&) = delete;

 private:
  GuestCpu& cpu_;
};

// A guest thread in the hands of the calling host thread, for a call and what is called from its
// callbacks.
class Instance::Borrowed {
 public:
  Borrowed(Instance& instance, PluginThread& thread)
      : instance_(instance), thread_(thread), outer_(innermost_) {
    innermost_ = this;
    // In GuestCpu::Run is the fence behind this.
    thread_.host_thread.store(HostThread(), std::memory_order_relaxed);
    thread_.was_refused_memory = false;
  }
  ~Borrowed() {
    thread_.host_thread.store(0, std::memory_order_relaxed);
    innermost_ = outer_;
  }
  Borrowed(const Borrowed&) = delete;
  Borrowed& operator=(const Borrowed&) = delete;

  // Whether the calling host thread has none at all.
  static bool IsNone() { return innermost_ == nullptr; }
  static const Borrowed* Innermost() { return innermost_; }
  const Instance& instance() const { return instance_; }
  const PluginThread& thread() const { return thread_; }
  // The guest thread of `instance` that the calling host thread has; null: none.
  static PluginThread* Of(const Instance& instance) {
    for (const Borrowed* entry = innermost_; entry != nullptr; entry = entry->outer_) {
      if (&entry->instance_ == &instance) return &entry->thread_;
    }
    return nullptr;
  }

 private:
  static constinit thread_local Borrowed* innermost_;
  Instance& instance_;
  PluginThread& thread_;
  Borrowed* const outer_;
};

}  // namespace dunebox::plugin

#endif  // DUNEBOX_SANDBOX_PLUGIN_INSTANCE_PARTS_H_
