// The end of a thread, as the kernel does it, but with every pointer of the guest's checked.
//
// The kernel never has the list itself, although it alone could walk it when SIGKILL ends a thread: it follows the program's
// pointers wherever they lead and changes each word there that is the thread's id. Such words of the runtime's are in memory that
// outlives the process: the slots of --pids and the count of --output, and all that a vforked child shares with its parent.
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <optional>

#include "hostcalls/dispatch/host_call.h"
#include "runtime/process/guest_thread.h"
#include "runtime/process/process.h"
#include "runtime/process/report.h"

namespace dunebox::process {
namespace {

constexpr int kMostRobustEntries = 2048;  // ROBUST_LIST_LIMIT [linux]

// struct robust_list_head. [linux]
struct RobustListHead {
  std::uint64_t first;
  std::int64_t futex_offset;
  std::uint64_t pending;
};
static_assert(sizeof(RobustListHead) == 24);

void Wake(GuestThread& thread, std::uint64_t address, std::uint64_t how_many) {
  // A signal that is noted by now finds nobody to be delivered to, and must not keep the call from being made.
  hostcalls::SyscallResult woken = hostcalls::Errno{EINTR};
  do {
    thread.signal_pending = 0;
    woken = hostcalls::HostCall(thread, SYS_futex, {address, FUTEX_WAKE, how_many});
  } while (woken.is_restart());
}

// The owner died: mark the word and wake a waiter, if it is ours.
void ReleaseRobustFutex(GuestThread& thread, std::uint64_t entry, std::int64_t offset,
                        bool was_pending) {
  const std::uint64_t address = entry + static_cast<std::uint64_t>(offset);
  const auto id = static_cast<std::uint32_t>(thread.id.load());
  for (;;) {
    auto word = thread.memory.CopyIn(GuestPtr<std::uint32_t>{address});
    if (!word.ok()) return;
    // Died between unlocking and taking the entry off: somebody may be left waiting.
    if (was_pending && *word == 0) return Wake(thread, address, 1);
    if ((*word & FUTEX_TID_MASK) != id) return;
    const std::uint32_t marked = (*word & FUTEX_WAITERS) | FUTEX_OWNER_DIED;
    switch (thread.memory.CompareExchange(address, *word, marked)) {
      case hostcalls::GuestMemory::Exchange::kOtherValue:
        continue;
      case hostcalls::GuestMemory::Exchange::kFault:
        return;
      case hostcalls::GuestMemory::Exchange::kDone:
        if ((*word & FUTEX_WAITERS) != 0) Wake(thread, address, 1);
        return;
    }
  }
}

// Nothing: the thread has no list, or none that can be read.
std::optional<RobustListHead> RobustListOf(const GuestThread& thread) {
  const std::uint64_t address = thread.robust_list;
  if (address == 0) return std::nullopt;
  auto head = thread.memory.CopyIn(GuestPtr<RobustListHead>{address});
  return head.ok() ? std::optional(*head) : std::nullopt;
}

bool MayHoldRobustFutexes(const GuestThread& thread) {
  const std::optional<RobustListHead> head = RobustListOf(thread);
  return head && (head->first != thread.robust_list || head->pending != 0);
}

void WalkRobustList(GuestThread& thread) {
  const std::optional<RobustListHead> head = RobustListOf(thread);
  if (!head) return;
  // Bit 0 of a pointer marks a priority-inheriting futex, which the kernel cleans up itself.
  constexpr std::uint64_t kPointer = ~std::uint64_t{1};
  std::uint64_t entry = head->first;
  for (int i = 0; i < kMostRobustEntries && (entry & kPointer) != thread.robust_list; ++i) {
    auto next = thread.memory.CopyIn(GuestPtr<std::uint64_t>{entry & kPointer});
    if (entry != head->pending) {
      ReleaseRobustFutex(thread, entry & kPointer, head->futex_offset, false);
    }
    if (!next.ok()) return;
    entry = *next;
  }
  if (head->pending != 0) {
    ReleaseRobustFutex(thread, head->pending & kPointer, head->futex_offset, true);
  }
}

void ClearChildTid(GuestThread& thread) {
  if (thread.clear_child_tid == 0) return;
  constexpr std::uint32_t kNobody = 0;
  if (thread.memory.CopyOut(GuestPtr<std::uint32_t>{thread.clear_child_tid}, kNobody).ok()) {
    Wake(thread, thread.clear_child_tid, 1);
  }
}

}  // namespace

void ReleaseRobustFutexes(GuestThread& thread) {
  const PoolPause pause(thread);
  // Most processes end without any: only then it is worth to stop the others, who use what theirs protect.
  bool others_may = false;
  thread.owner.threads().ForEach([&](GuestThread& other) {
    others_may = others_may || (&other != &thread && MayHoldRobustFutexes(other));
  });
  if (others_may) {
    thread.owner.threads().HoldForEnd(thread);
    thread.owner.threads().ForEach([&](GuestThread& other) {
      if (&other != &thread) WalkRobustList(other);
    });
  }
  WalkRobustList(thread);
}

void FinishThread(GuestThread& thread) {
  {
    // While this thread counts: the last one's end is that of all.
    const PoolPause pause(thread);
    WalkRobustList(thread);
  }
  const bool is_last = thread.owner.EndThread();
  thread.owner.threads().Remove(thread);
  if (is_last) ReportEnd(thread.owner);
  if (is_last && thread.owner.debugger() != nullptr) {
    thread.owner.debugger()->OnExit(thread.exit_status);
  }
  // A process is counted until its parent has waited for it.
  runtime::TaskSlots* const tasks = thread.owner.tasks();
  if (tasks != nullptr && gettid() != getpid()) tasks->LeaveThread();
  {
    const PoolPause pause(thread);
    ClearChildTid(thread);
  }
  // A thread of the kernel's own, which KVM may have given this process, would keep it for ever.
  if (is_last) syscall(SYS_exit_group, thread.exit_status);
}

}  // namespace dunebox::process
