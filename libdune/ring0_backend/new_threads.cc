// clone, clone3, fork, vfork, and the end of a thread. A new thread is a new vCPU of the same
// machine, also in a vfork child, which is another process with the same memory; a forked child
// makes a machine of its own. All begin in ring 0 where the program expects them.
#include <linux/sched.h>
#include <sys/mman.h>

#include <cerrno>

#include "libdune/ring0_backend/raw_call.h"
#include "libdune/ring0_backend/run_loop.h"
#include "libdune/ring0_backend/symbols.h"

namespace dune::ring0 {
namespace {

// struct clone_args of all versions that are known here. [linux]
struct CloneArguments {
  std::uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
  std::uint64_t set_tid, set_tid_size, cgroup;
};
constexpr std::uint64_t kFirstVersion = 64;

std::int64_t ReadArguments(const SystemCall& call, CloneArguments& arguments) {
  arguments = {};
  const std::uint64_t* from = call.arguments;
  switch (call.number) {
    case SYS_fork:
      arguments.exit_signal = SIGCHLD;
      return 0;
    case SYS_vfork:
      arguments.flags = CLONE_VM | CLONE_VFORK;
      arguments.exit_signal = SIGCHLD;
      return 0;
    case SYS_clone:
      arguments.flags = static_cast<std::uint32_t>(from[0]) & ~std::uint64_t{CSIGNAL};
      arguments.exit_signal = from[0] & CSIGNAL;
      arguments.stack = from[1];
      arguments.parent_tid = from[2];
      if ((arguments.flags & CLONE_PIDFD) != 0) arguments.pidfd = from[2];
      arguments.child_tid = from[3];
      arguments.tls = from[4];
      return 0;
    default:
      break;
  }
  const std::uint64_t size = from[1];
  if (size < kFirstVersion) return -EINVAL;
  if (size > sizeof(arguments)) return -E2BIG;
  if (!ReadProgram(from[0], &arguments, size)) return -EFAULT;
  // As clone has it: where the stack begins.
  if (arguments.stack != 0) arguments.stack += arguments.stack_size;
  return 0;
}

long CopyState(Thread* from, Thread* to) {
  if (const long got = RawCall(SYS_ioctl, from->vcpu, KVM_GET_XSAVE, &from->extended); got < 0) {
    return got;
  }
  return RawCall(SYS_ioctl, to->vcpu, KVM_SET_XSAVE, &from->extended);
}

// The child of a thread or vfork: where the parent is, with a result of 0, its own stack and FS
// base.
long SetUpChild(Thread* parent, Thread* child, const CloneArguments& arguments) {
  kvm_sregs& registers = parent->system_registers;
  if (const long got = RawCall(SYS_ioctl, parent->vcpu, KVM_GET_SREGS, &registers); got < 0) {
    return got;
  }
  const bool own_tls = (arguments.flags & CLONE_SETTLS) != 0;
  const long set =
      SetUpVcpu(child, &registers, own_tls ? arguments.tls : registers.fs.base, registers.gs.base);
  if (set < 0) return set;
  CopyBytes(&child->first_registers, &Registers(parent), sizeof(kvm_regs));
  child->first_registers.rax = 0;
  if (arguments.stack != 0) child->first_registers.rsp = arguments.stack;
  return CopyState(parent, child);
}

void ShareActions(Thread* parent, Thread* child, std::uint64_t flags) {
  child->actions = parent->actions;
  if ((flags & CLONE_SIGHAND) != 0) return;
  child->actions = &child->own_actions;
  CopyBytes(&child->own_actions, parent->actions, sizeof(Actions));
  if ((flags & CLONE_CLEAR_SIGHAND) == 0) return;
  for (KernelAction& action : child->own_actions.of) {
    if (action.is_function()) action = {};
  }
}

std::int64_t CloneThread(Thread* thread, CloneArguments arguments, std::uint64_t mask) {
  const bool is_thread = (arguments.flags & CLONE_THREAD) != 0;
  long error = 0;
  Thread* const child = TakePlace(thread->in_vfork_child, &error);
  if (child == nullptr) return error;
  if (error = SetUpChild(thread, child, arguments); error < 0) {
    ReleasePlace(child, thread->in_vfork_child);
    return error;
  }
  child->in_vfork_child = thread->in_vfork_child || !is_thread;
  ShareActions(thread, child, arguments.flags);
  child->alternate_stack = is_thread ? dunebox::abi::AlternateStack{} : thread->alternate_stack;
  child->first_mask = mask;
  if (is_thread) vm.entered.fetch_add(1);
  // The kernel's thread begins on the place's own stack.
  arguments.stack = reinterpret_cast<std::uint64_t>(child->block());
  arguments.stack_size = kLoopStackTop;
  const std::int64_t result = dune_clone(&arguments, sizeof(arguments), child);
  if (result < 0 && is_thread) vm.entered.fetch_sub(1);
  // A vfork child is over, or another program, when the kernel lets its parent go on.
  if (result < 0 || !is_thread) ReleasePlace(child, thread->in_vfork_child);
  return result;
}

void MakeMachineAnew(Thread* thread) {
  if (const long made = RenewMachine(thread); made < 0) Fatal("no machine for a forked child", made);
  vm.entered.store(1);
  if (const long made = OpenVcpu(thread); made < 0) Fatal("no vCPU for a forked child", made);
}

// The parent's registers lie in the child's copy of the place.
[[noreturn]] void BeginForked(Thread* thread, std::uint64_t stack, bool own_tls,
                              std::uint64_t tls) {
  thread->in_vfork_child = false;
  if (thread->actions == &thread->own_actions) {
    CopyBytes(&vm.actions, &thread->own_actions, sizeof(Actions));
    thread->actions = &vm.actions;
  }
  MakeMachineAnew(thread);
  kvm_sregs registers;
  CopyBytes(&registers, &thread->system_registers, sizeof(registers));
  // NOLINTNEXTLINE(clang-analyzer-core.CallAndMessage): the analyzer does not see what CopyBytes writes
  long set = SetUpVcpu(thread, &registers, own_tls ? tls : registers.fs.base, registers.gs.base);
  if (set >= 0) set = RawCall(SYS_ioctl, thread->vcpu, KVM_SET_XSAVE, &thread->extended);
  if (set < 0) Fatal("the vCPU of a forked child", set);
  thread->first_registers.rax = 0;
  if (stack != 0) thread->first_registers.rsp = stack;
  thread->id.store(static_cast<std::uint32_t>(RawCall(SYS_gettid)));
  UseSignalStack(thread);
  dune_begin_loop(thread);
}

std::int64_t Fork(Thread* thread, CloneArguments arguments, std::uint64_t mask) {
  if (const long got = RawCall(SYS_ioctl, thread->vcpu, KVM_GET_SREGS, &thread->system_registers);
      got < 0) {
    return got;
  }
  if (const long got = RawCall(SYS_ioctl, thread->vcpu, KVM_GET_XSAVE, &thread->extended);
      got < 0) {
    return got;
  }
  CopyBytes(&thread->first_registers, &Registers(thread), sizeof(kvm_regs));
  const std::uint64_t stack = arguments.stack;
  arguments.stack = arguments.stack_size = 0;  // the child's loop has a copy of this one
  // Without shared memory it only says who runs first, and the lock must not be held so long.
  arguments.flags &= ~std::uint64_t{CLONE_VFORK};
  thread->first_mask = mask;
  vm.lock.Lock();
  const long result = RawCall(SYS_clone3, &arguments, sizeof(arguments));
  vm.lock.Unlock();
  if (result == 0) {
    BeginForked(thread, stack, (arguments.flags & CLONE_SETTLS) != 0, arguments.tls);
  }
  return result;
}

// Signals are blocked; `mask` is the program's.
std::int64_t CloneMasked(Thread* thread, const SystemCall& call, std::uint64_t mask) {
  CloneArguments arguments;
  if (const std::int64_t read = ReadArguments(call, arguments); read < 0) return read;
  if ((arguments.flags & CLONE_VM) == 0) return Fork(thread, arguments, mask);
  // Memory shared by processes that run side by side would need a machine for each over the same
  // tables.
  if ((arguments.flags & (CLONE_THREAD | CLONE_VFORK)) == 0) return -EINVAL;
  return CloneThread(thread, arguments, mask);
}

}  // namespace

std::int64_t Clone(Thread* thread, const SystemCall& call) {
  const std::uint64_t mask = BlockSignals();
  if (thread->signalled != 0) return kMakeAgain;
  const std::int64_t result = CloneMasked(thread, call, mask);
  SetSignalMask(mask);
  return result;
}

std::int64_t ExitThread(Thread* thread, int status) {
  BlockSignals();
  if (thread->signalled != 0) return kMakeAgain;
  if (thread->actions != &vm.actions) {
    // A vfork child's process ends with it; its parent takes the place back.
    for (;;) RawCall(SYS_exit, status);
  }
  vm.entered.fetch_sub(1);
  dune_exit_thread(&thread->id, status);
}

}  // namespace dune::ring0

void dune_begin_child(dune::ring0::Thread* thread) {
  using namespace dune::ring0;
  thread->id.store(static_cast<std::uint32_t>(RawCall(SYS_gettid)));
  UseSignalStack(thread);
  dune_begin_loop(thread);
}
