// How many processes and threads a session has, counted by the runtimes themselves: --pids.
//
// RLIMIT_NPROC counts all processes of a user and none of root's. This is one page or more that all
// runtimes of the session share: a slot for each task, with its id in it. Whoever makes a task
// claims a slot first and the new task confirms it; nobody gives a process's slot back, because a
// killed one could not. When no slot is free, those whose task is gone are. A zombie still counts,
// as it does for the kernel.
//
// An id that the kernel gives to a stranger before the slot was looked at again keeps that slot
// taken: it errs to the strict side. The pages are the runtime's, out of the guest's reach.
//
//   absl::StatusOr<std::unique_ptr<TaskSlots>> slots = TaskSlots::Create(64);
//   std::optional<TaskSlots::Claim> claim = slots->Take();   // nothing: EAGAIN
//   fork() == 0 ? slots->Confirm(*claim) : ...
#ifndef DUNEBOX_RUNTIME_LIMITS_TASK_SLOTS_H_
#define DUNEBOX_RUNTIME_LIMITS_TASK_SLOTS_H_

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "absl/status/statusor.h"
#include "runtime/file_descriptor.h"

namespace dunebox::runtime {

class TaskSlots {
 public:
  struct Claim {
    std::size_t slot;
    std::uint32_t mark;  // what is in it until the task confirms it
  };

  // A file for `count` tasks. The size is sealed.
  static absl::StatusOr<FileDescriptor> CreateFile(std::uint64_t count);
  // Maps it. The descriptor stays the caller's.
  static absl::StatusOr<std::unique_ptr<TaskSlots>> Map(int fd);
  ~TaskSlots();
  TaskSlots(const TaskSlots&) = delete;
  TaskSlots& operator=(const TaskSlots&) = delete;

  // Nothing when the session has as many tasks as it may.
  std::optional<Claim> Take();
  // By the new task. False when the slot was taken for free meanwhile, because who claimed it is
  // dead: then the task must end.
  bool Confirm(const Claim& claim);
  // By the one who claimed, for the new task `id`, which may have been killed before it confirmed.
  void HandOver(const Claim& claim, pid_t id);
  // By the one who claimed, when no task came of it.
  void GiveBack(const Claim& claim);
  // By a thread at its end.
  void LeaveThread();

 private:
  using Slot = std::atomic<std::uint32_t>;
  static_assert(Slot::is_always_lock_free);
  explicit TaskSlots(std::span<Slot> slots) : slots_(slots) {}
  std::optional<Claim> TakeFree(std::uint32_t mark);

  const std::span<Slot> slots_;
};

}  // namespace dunebox::runtime

#endif  // DUNEBOX_RUNTIME_LIMITS_TASK_SLOTS_H_
