// Threads that the plugin starts by itself, and those that its C library makes to be lent.
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <optional>
#include <utility>

#include "sandbox/plugin/host_signals.h"
#include "sandbox/plugin/host_thread.h"
#include "sandbox/plugin/instance.h"
#include "sandbox/plugin/instance_parts.h"

namespace dunebox::plugin {

using hostcalls::Errno;
using hostcalls::SyscallResult;

SyscallResult Instance::StartThread(PluginThread& parent, const NewThread& request) {
  if (request.thread_pointer && !memory_.window().AllowsSegmentBase(*request.thread_pointer)) {
    return Errno{EPERM};
  }
  absl::StatusOr<std::unique_ptr<GuestCpu>> cpu = engine_->CreateCpu();
  std::vector<std::byte> extended(parent.engine->extended_state_size());
  if (!cpu.ok() || !parent.engine->FetchBases(parent.registers).ok() ||
      !parent.engine->SaveExtendedState(extended).ok() ||
      !(*cpu)->thread().LoadExtendedState(extended).ok()) {
    return Errno{EAGAIN};
  }
  // One, whatever the program does that was to make it.
  const bool is_lent = parent.made != nullptr && *parent.made == nullptr;
  auto thread = std::make_unique<PluginThread>(next_id_++, *std::move(cpu));
  thread->registers = parent.registers;
  thread->registers.rax = 0;
  thread->registers.rsp = request.stack;
  if (request.thread_pointer) thread->registers.fs_base = *request.thread_pointer;
  thread->clear_child_tid = request.clear_tid;
  thread->signal_mask = parent.signal_mask;
  thread->runs_by_itself = !is_lent;
  const pid_t id = thread->id;
  for (const std::optional<std::uint64_t>& address : {request.parent_tid, request.child_tid}) {
    // A bad address is not reported, as on Linux.
    if (address) (void)memory_.CopyOut(GuestPtr<pid_t>{*address}, id);
  }
  if (is_lent) {
    Enlist(*thread);
    *parent.made = std::move(thread);
    return SyscallResult(id);
  }
  {
    const std::lock_guard lock(mutex_);
    if (failure_ || running_by_themselves_ >= policy_.plugin_threads) return Errno{EAGAIN};
    ++running_by_themselves_;
    threads_.push_back(thread.get());
  }
  if (RunByItself(*thread)) {
    (void)thread.release();  // its own
    return SyscallResult(id);
  }
  const std::lock_guard lock(mutex_);
  std::erase(threads_, thread.get());
  --running_by_themselves_;
  changed_.notify_all();
  return Errno{EAGAIN};
}

// On a host thread of its own, which the application's signals do not go to. True: it is the owner.
bool Instance::RunByItself(PluginThread& started) {
  const std::uint64_t mask = ApplicationSignals();
  std::uint64_t before = 0;
  syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, &before, sizeof(before));
  const std::optional<pthread_t> host_thread = StartHostThread([this, &started] {
    std::unique_ptr<PluginThread> thread(&started);
    PrepareThread();
    {
      const Borrowed borrowed(*this, *thread);
      BeginIdleBudget(*thread);
      for (;;) {
        Stop stop = Ended{};
        {
          const Entered entered(*thread);
          stop = RunThread(*thread);
        }
        const CallbackCalled* const called = std::get_if<CallbackCalled>(&stop);
        if (called != nullptr && RunCallback(*thread, thread->registers, called->number).ok()) continue;
        if (std::holds_alternative<ThreadExited>(stop)) {
          Finish(*thread);
        } else {
          End({.kind = Failure::Kind::kMismatch});
        }
        break;
      }
    }
    Dismiss(*thread);
    thread.reset();
    const std::lock_guard lock(mutex_);
    --running_by_themselves_;
    changed_.notify_all();
  });
  if (host_thread) pthread_detach(*host_thread);
  syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, nullptr, sizeof(before));
  return host_thread.has_value();
}

// What Linux does for an ending thread.
void Instance::Finish(PluginThread& thread) {
  constexpr std::uint32_t kNobody = 0;
  if (thread.clear_child_tid == 0) return;
  void* const word = memory_.HostAddress(thread.clear_child_tid, sizeof(kNobody));
  if (word == nullptr ||
      !memory_.CopyOut(GuestPtr<std::uint32_t>{thread.clear_child_tid}, kNobody).ok()) {
    return;
  }
  syscall(SYS_futex, word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, nullptr, nullptr, 0);
}

}  // namespace dunebox::plugin
