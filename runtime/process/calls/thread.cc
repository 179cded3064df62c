// The calling thread's own state and its end: segment bases, tid address, robust list, exit.
#include <asm/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "hostcalls/dispatch/host_call.h"
#include "runtime/process/calls/calls.h"
#include "runtime/process/guest_thread.h"
#include "runtime/process/process.h"
#include "runtime/process/report.h"

namespace dunebox::process {
namespace {

using hostcalls::ArgumentValues;
using hostcalls::Caller;
using hostcalls::Errno;
using hostcalls::kSuccess;
using hostcalls::SyscallResult;

constexpr std::uint64_t kRobustListHeadSize = 24;
#ifndef ARCH_GET_XCOMP_SUPP
#define ARCH_GET_XCOMP_SUPP 0x1021
#define ARCH_GET_XCOMP_PERM 0x1022
#endif

SyscallResult HandleArchPrctl(Caller& caller, const ArgumentValues& a) {
  GuestThread& thread = GuestThread::From(caller);
  const auto copy_out = [&](std::uint64_t value) {
    return caller.memory.CopyOut(GuestPtr<std::uint64_t>{a[1]}, value);
  };
  if (!thread.engine->FetchBases(thread.registers).ok()) return Errno{EAGAIN};
  switch (a[0]) {
    case ARCH_SET_FS:
    case ARCH_SET_GS:
      if (!caller.memory.window().AllowsSegmentBase(a[1])) return Errno{EPERM};
      (a[0] == ARCH_SET_FS ? thread.registers.fs_base : thread.registers.gs_base) = a[1];
      return kSuccess;
    case ARCH_GET_FS:
      return copy_out(thread.registers.fs_base);
    case ARCH_GET_GS:
      return copy_out(thread.registers.gs_base);
    case ARCH_GET_CPUID:
      return SyscallResult(1);  // CPUID does not fault
    case ARCH_SET_CPUID:
      return Errno{ENODEV};
    case ARCH_GET_XCOMP_SUPP:
    case ARCH_GET_XCOMP_PERM:
      return copy_out(thread.engine->extended_features());
    default:
      return Errno{EINVAL};  // as on a kernel without it: shadow stacks, AMX permission
  }
}

SyscallResult HandleSetTidAddress(Caller& caller, const ArgumentValues& a) {
  GuestThread::From(caller).clear_child_tid = a[0];
  return SyscallResult(gettid());
}

SyscallResult HandleSetRobustList(Caller& caller, const ArgumentValues& a) {
  if (a[1] != kRobustListHeadSize) return Errno{EINVAL};
  GuestThread::From(caller).robust_list = a[0];
  return kSuccess;
}

SyscallResult HandleGetRobustList(Caller& caller, const ArgumentValues& a) {
  const auto id = static_cast<pid_t>(a[0]);
  if (id != 0 && id != gettid()) return Errno{EPERM};
  const std::uint64_t head = GuestThread::From(caller).robust_list;
  if (auto out = caller.memory.CopyOut(GuestPtr<std::uint64_t>{a[1]}, head); !out.ok()) return out;
  return caller.memory.CopyOut(GuestPtr<std::uint64_t>{a[2]}, kRobustListHeadSize);
}

SyscallResult HandleExit(Caller& caller, const ArgumentValues& a) {
  GuestThread& thread = GuestThread::From(caller);
  thread.has_exited = true;
  thread.exit_status = static_cast<int>(a[0]);
  return SyscallResult::RegistersSet();
}

SyscallResult HandleExitGroup(Caller& caller, const ArgumentValues& a) {
  GuestThread& thread = GuestThread::From(caller);
  Process& owner = thread.owner;
  ReportEnd(owner);
  ReleaseRobustFutexes(thread);
  if (owner.debugger() != nullptr) owner.debugger()->OnExit(static_cast<int>(a[0]));
  syscall(SYS_exit_group, a[0]);
  __builtin_unreachable();
}

}  // namespace

void RegisterThreadHandlers(hostcalls::HandlerTable& handlers) {
  handlers.Bind("arch_prctl", HandleArchPrctl);
  handlers.Bind("set_tid_address", HandleSetTidAddress);
  handlers.Bind("set_robust_list", HandleSetRobustList);
  handlers.Bind("get_robust_list", HandleGetRobustList);
  handlers.Bind("exit", HandleExit);
  handlers.Bind("exit_group", HandleExitGroup);
}

}  // namespace dunebox::process
