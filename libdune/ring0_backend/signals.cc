// Signals of a thread in ring 0. The kernel's handler is always ours: on a private stack it notes
// one signal, blocks all others and stops the vCPU; the loop then builds the frame that the kernel
// would have built, on the program's stack. Dispositions without a function, pending signals and
// masks stay the kernel's.
//
// A signal may be noted at any time while the loop has not blocked them, and is then to be delivered by this loop to this
// thread. So whoever changes the mask, forks, or ends the loop blocks all first and then looks; if there is one, what the
// program asked for is asked for again behind the signal's handler.
#include <time.h>
#include <ucontext.h>

#include <cerrno>

#include "libdune/ring0_backend/raw_call.h"
#include "libdune/ring0_backend/run_loop.h"
#include "libdune/ring0_backend/symbols.h"
#include "libdune/x86/control.h"

namespace dune::ring0 {

namespace abi = dunebox::abi;

namespace {

constexpr std::uint64_t BitOf(int signal) { return std::uint64_t{1} << (signal - 1); }
constexpr std::uint64_t kRestorerFlag = 0x0400'0000;
constexpr std::uint64_t kMirroredFlags =
    SA_RESTART | SA_NOCLDSTOP | SA_NOCLDWAIT | static_cast<std::uint32_t>(SA_RESETHAND);
constexpr std::uint64_t kMinimumStack = 2048;  // MINSIGSTKSZ [linux]

long SetKernelAction(int signal, const KernelAction* action, KernelAction* old) {
  return RawCall(SYS_rt_sigaction, signal, action, old, 8);
}

// What the kernel is told when the program wants `wanted`.
KernelAction OurAction(int signal, const KernelAction& wanted) {
  if (!wanted.is_function() && signal != kTimeSignal) return wanted;
  return {.handler = reinterpret_cast<std::uint64_t>(&dune_host_signal),
          .flags = SA_SIGINFO | SA_ONSTACK | kRestorerFlag | (wanted.flags & kMirroredFlags),
          .restorer = reinterpret_cast<std::uint64_t>(&dune_restorer),
          .mask = kAllSignals};
}

std::uint64_t MaskInHandler(const KernelAction& action, int signal, std::uint64_t before) {
  const bool defer = (action.flags & SA_NODEFER) == 0;
  return before | action.mask | (defer ? BitOf(signal) : 0);
}

// What the signal's default action does: it ends the process, unless a debugger takes the signal away.
void RaiseByDefault(int signal) {
  const KernelAction by_default;
  SetKernelAction(signal, &by_default, nullptr);
  RawCall(SYS_tgkill, RawCall(SYS_getpid), RawCall(SYS_gettid), signal);
  SetSignalMask(~BitOf(signal));
}

[[noreturn]] void DieOf(int signal) {
  RaiseByDefault(signal);
  Fatal("a signal did not end the process", signal);
}

// A debugger that has attached sees the signal, and behind the loop's frames the program at its breakpoint. It takes that
// for no breakpoint of its own, so the instruction under it is still to be run: again and again until it has been
// deleted.
void StopAtBreakpoint(Thread* thread, std::uint64_t mask) {
  RaiseByDefault(SIGTRAP);
  SetSignalMask(mask);
  Registers(thread).rip -= 1;
  RegistersChanged(thread);
}

template <typename T>
T* At(kvm_xsave& area, std::size_t offset) {
  return reinterpret_cast<T*>(reinterpret_cast<std::byte*>(&area) + offset);
}

// The XSAVE area below `top`. 0: it cannot be written.
std::uint64_t PushExtendedState(Thread* thread, std::uint64_t top) {
  kvm_xsave& area = thread->extended;
  if (RawCall(SYS_ioctl, thread->vcpu, KVM_GET_XSAVE, &area) < 0) return 0;
  const std::uint64_t place = abi::ExtendedStatePlace(top, vm.state_bytes);
  abi::SoftwareReserved software{};
  software.magic1 = abi::kMagic1;
  software.extended_size = static_cast<std::uint32_t>(vm.state_bytes + sizeof(abi::kMagic2));
  software.features = vm.xcr0;
  software.state_size = static_cast<std::uint32_t>(vm.state_bytes);
  CopyBytes(At<std::byte>(area, abi::kSoftwareReservedOffset), &software, sizeof(software));
  std::uint64_t& present = *At<std::uint64_t>(area, abi::kHeaderOffset);
  present = (present & vm.xcr0) | abi::kLegacyFeatures;
  const std::uint32_t magic = abi::kMagic2;
  return WriteProgram(place, &area, vm.state_bytes) &&
                 WriteProgram(place + vm.state_bytes, &magic, sizeof(magic))
             ? place
             : 0;
}

void LoadInitialState(Thread* thread) {
  kvm_xsave& area = thread->extended;
  ZeroBytes(&area, sizeof(area));
  *At<std::uint16_t>(area, 0) = abi::kInitialControl;
  *At<std::uint32_t>(area, abi::kMxcsrOffset) = abi::kInitialMxcsr;
  *At<std::uint64_t>(area, abi::kHeaderOffset) = abi::kLegacyFeatures;
  if (RawCall(SYS_ioctl, thread->vcpu, KVM_SET_XSAVE, &area) < 0) Fatal("KVM_SET_XSAVE");
}

void SaveRegisters(const kvm_regs& from, abi::SignalContext& to) {
  to.r8 = from.r8, to.r9 = from.r9, to.r10 = from.r10, to.r11 = from.r11, to.r12 = from.r12;
  to.r13 = from.r13, to.r14 = from.r14, to.r15 = from.r15, to.rdi = from.rdi, to.rsi = from.rsi;
  to.rbp = from.rbp, to.rbx = from.rbx, to.rdx = from.rdx, to.rax = from.rax, to.rcx = from.rcx;
  to.rsp = from.rsp, to.rip = from.rip, to.rflags = from.rflags;
  to.cs = DUNE_RING0_CODE;
  to.ss = DUNE_RING0_DATA;
}

void RestoreRegisters(const abi::SignalContext& from, kvm_regs& to) {
  to.r8 = from.r8, to.r9 = from.r9, to.r10 = from.r10, to.r11 = from.r11, to.r12 = from.r12;
  to.r13 = from.r13, to.r14 = from.r14, to.r15 = from.r15, to.rdi = from.rdi, to.rsi = from.rsi;
  to.rbp = from.rbp, to.rbx = from.rbx, to.rdx = from.rdx, to.rax = from.rax, to.rcx = from.rcx;
  to.rsp = from.rsp, to.rip = from.rip;
  using namespace x86::rflags;
  to.rflags = (to.rflags & ~kUserSettable) | (from.rflags & kUserSettable);
}

struct Fault {
  std::uint64_t vector = 0, error = 0, cr2 = 0;
};

// The frame for `info`, with `mask` to be restored, and the registers for the handler.
bool PushFrame(Thread* thread, const KernelAction& action, const siginfo_t& info,
               std::uint64_t mask, const Fault& fault) {
  kvm_regs& registers = Registers(thread);
  abi::AlternateStack& stack = thread->alternate_stack;
  const bool switch_stack =
      (action.flags & SA_ONSTACK) != 0 && stack.enabled() && !stack.Contains(registers.rsp);
  const std::uint64_t top = switch_stack ? stack.base + stack.size : registers.rsp - abi::kRedZone;
  const std::uint64_t extended = PushExtendedState(thread, top);
  if (extended == 0) return false;
  abi::SignalFrame frame;
  ZeroBytes(&frame, sizeof(frame));
  frame.return_address = action.restorer;
  CopyBytes(&frame.info, &info, sizeof(info));
  frame.user.flags = abi::kContextFlags;
  frame.user.stack = stack;
  SaveRegisters(registers, frame.user.context);
  frame.user.context.error_code = fault.error;
  frame.user.context.trap_number = fault.vector;
  frame.user.context.cr2 = fault.cr2;
  frame.user.context.extended_state = extended;
  frame.user.context.old_mask = mask;
  frame.user.mask = mask;
  const std::uint64_t place = abi::FramePlace(extended);
  if (!WriteProgram(place, &frame, sizeof(frame))) return false;
  constexpr std::int32_t kAutoDisarm = std::int32_t{1} << 31;
  if (switch_stack && (stack.flags & kAutoDisarm) != 0) stack = {};
  LoadInitialState(thread);
  registers.rdi = static_cast<std::uint64_t>(info.si_signo);
  registers.rsi = place + offsetof(abi::SignalFrame, info);
  registers.rdx = place + offsetof(abi::SignalFrame, user);
  registers.rax = 0;
  registers.rsp = place;
  registers.rip = action.handler;
  registers.rflags &= ~(x86::rflags::kDirection | x86::rflags::kResume | x86::rflags::kTrap);
  RegistersChanged(thread);
  return true;
}

KernelAction TakeAction(Thread* thread, int signal) {
  KernelAction& action = thread->actions->of[signal];
  const KernelAction taken = action;
  if ((taken.flags & static_cast<std::uint32_t>(SA_RESETHAND)) != 0) action.handler = 0;
  return taken;
}

}  // namespace

void SetSignalMask(std::uint64_t mask) {
  RawCall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, nullptr, 8);
}
std::uint64_t BlockSignals(std::uint64_t which) {
  std::uint64_t before = 0;
  RawCall(SYS_rt_sigprocmask, SIG_BLOCK, &which, &before, 8);
  return before;
}

void UseSignalStack(Thread* thread) {
  abi::AlternateStack ours;
  ours.base = reinterpret_cast<std::uint64_t>(thread->block() + kSignalStackAt);
  ours.size = kSignalStackBytes;
  ours.flags = 0;
  RawCall(SYS_sigaltstack, &ours, nullptr);
}

void DeliverSignal(Thread* thread) {
  siginfo_t info;
  CopyBytes(&info, &thread->info, sizeof(info));
  // NOLINTNEXTLINE(clang-analyzer-core.uninitialized.Assign): the analyzer does not see what CopyBytes writes
  const int signal = info.si_signo;
  const std::uint64_t before = thread->mask_before;
  const KernelAction action = TakeAction(thread, signal);
  std::uint64_t mask = before;
  if (action.is_function()) {
    if (!PushFrame(thread, action, info, before, {})) DieOf(SIGSEGV);
    mask = MaskInHandler(action, signal, thread->mask_at_signal);
  } else if (action.handler == 0) {
    // The handler was taken away meanwhile: the kernel does what it does by default, but for the one that stays ours.
    if (signal == kTimeSignal) DieOf(signal);
    RawCall(SYS_tgkill, RawCall(SYS_getpid), RawCall(SYS_gettid), signal);
  }
  // From here on the next one may be noted.
  thread->run->immediate_exit = 0;
  __atomic_store_n(&thread->signalled, 0, __ATOMIC_SEQ_CST);
  SetSignalMask(mask);
}

void RaiseFault(Thread* thread, const FaultSignal& fault) {
  std::uint64_t before = BlockSignals();
  const bool is_noted = thread->signalled != 0;
  if (is_noted) {
    before = thread->mask_before;
    // The other signal came first, and behind its handler the instruction is there again. Where it is not, this frame comes
    // below the other's.
    if (fault.restarts) return;
  }
  const KernelAction action = TakeAction(thread, fault.signal);
  if (!action.is_function() || (before & BitOf(fault.signal)) != 0) {
    constexpr std::uint64_t kBreakpoint = 3;
    if (fault.vector == kBreakpoint && !is_noted) return StopAtBreakpoint(thread, before);
    DieOf(fault.signal);
  }
  siginfo_t info;
  ZeroBytes(&info, sizeof(info));
  info.si_signo = fault.signal;
  info.si_code = fault.code;
  info.si_addr = reinterpret_cast<void*>(fault.address);
  if (!PushFrame(thread, action, info, before,
                 {.vector = fault.vector, .error = fault.error, .cr2 = fault.cr2})) {
    DieOf(SIGSEGV);
  }
  const std::uint64_t mask = MaskInHandler(action, fault.signal, before);
  if (is_noted) {
    thread->mask_before = thread->mask_at_signal = mask;
  } else {
    SetSignalMask(mask);
  }
}

std::int64_t SignalReturn(Thread* thread) {
  BlockSignals();
  if (thread->signalled != 0) return kMakeAgain;
  kvm_regs& registers = Registers(thread);
  abi::SignalFrame frame;
  if (!ReadProgram(registers.rsp - 8, &frame, sizeof(frame))) DieOf(SIGSEGV);
  const std::uint64_t place = frame.user.context.extended_state;
  if (place == 0) {
    LoadInitialState(thread);
  } else {
    kvm_xsave& area = thread->extended;
    if (!ReadProgram(place, &area, vm.state_bytes)) DieOf(SIGSEGV);
    ZeroBytes(At<std::byte>(area, vm.state_bytes), sizeof(area) - vm.state_bytes);
    if (RawCall(SYS_ioctl, thread->vcpu, KVM_SET_XSAVE, &area) < 0) DieOf(SIGSEGV);
  }
  RestoreRegisters(frame.user.context, registers);
  RegistersChanged(thread);
  const abi::AlternateStack& stack = frame.user.stack;
  if (!thread->alternate_stack.Contains(registers.rsp) &&
      (!stack.enabled() || stack.size >= kMinimumStack)) {
    thread->alternate_stack = stack;
  }
  SetSignalMask(frame.user.mask);
  return kRegistersSet;
}

std::int64_t SetAction(Thread* thread, const SystemCall& call) {
  const auto signal = static_cast<int>(call.arguments[0]);
  const std::uint64_t wanted_at = call.arguments[1], old_at = call.arguments[2];
  if (call.arguments[3] != 8 || signal < 1 || signal > static_cast<int>(kSignals)) return -EINVAL;
  KernelAction wanted;
  if (wanted_at != 0 && !ReadProgram(wanted_at, &wanted, sizeof(wanted))) return -EFAULT;
  const LoopLock::Holder holder(vm.lock);
  const KernelAction old = thread->actions->of[signal];
  if (wanted_at != 0) {
    const KernelAction ours = OurAction(signal, wanted);
    // The program's first: a signal may come between the two.
    thread->actions->of[signal] = wanted;
    if (const long set = SetKernelAction(signal, &ours, nullptr); set < 0) {
      thread->actions->of[signal] = old;
      return set;
    }
  }
  return old_at != 0 && !WriteProgram(old_at, &old, sizeof(old)) ? -EFAULT : 0;
}

std::int64_t SetAlternateStack(Thread* thread, const SystemCall& call) {
  abi::AlternateStack& stack = thread->alternate_stack;
  const std::uint64_t rsp = Registers(thread).rsp;
  const bool on_it = stack.enabled() && stack.Contains(rsp);
  abi::AlternateStack wanted, old = stack;
  if (old.enabled()) old.flags = on_it ? SS_ONSTACK : 0;
  if (call.arguments[0] != 0) {
    if (!ReadProgram(call.arguments[0], &wanted, sizeof(wanted))) return -EFAULT;
    if (on_it) return -EPERM;
    if (wanted.enabled() && wanted.size < kMinimumStack) return -ENOMEM;
    wanted.flags &= ~SS_ONSTACK;
    stack = wanted.enabled() ? wanted : abi::AlternateStack{};
  }
  if (call.arguments[1] != 0 && !WriteProgram(call.arguments[1], &old, sizeof(old))) return -EFAULT;
  return 0;
}

void TakeActions() {
  for (int signal = 1; signal <= static_cast<int>(kSignals); ++signal) {
    KernelAction found;
    if (SetKernelAction(signal, nullptr, &found) < 0) continue;
    if (found.handler == reinterpret_cast<std::uint64_t>(&dune_host_signal)) continue;
    vm.actions.of[signal] = found;
    if (!found.is_function() && signal != kTimeSignal) continue;
    const KernelAction ours = OurAction(signal, found);
    SetKernelAction(signal, &ours, nullptr);
  }
}

void GiveActionsBack() {
  for (int signal = 1; signal <= static_cast<int>(kSignals); ++signal) {
    const KernelAction& action = vm.actions.of[signal];
    if (action.is_function() || signal == kTimeSignal) SetKernelAction(signal, &action, nullptr);
  }
}

std::int64_t SetTimer(Thread* thread, std::uint64_t nanoseconds) {
  thread->state->timed_out = 0;
  const auto self = static_cast<std::uint32_t>(RawCall(SYS_gettid));
  if (thread->timer_of != self) {
    if (nanoseconds == 0) return 0;
    // The place's former thread had one of its own.
    if (thread->timer_of != 0) RawCall(SYS_timer_delete, thread->timer);
    thread->timer_of = 0;
    sigevent event{};
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = kTimeSignal;
    event.sigev_value.sival_ptr = thread;
    event._sigev_un._tid = static_cast<pid_t>(self);
    const long made = RawCall(SYS_timer_create, CLOCK_MONOTONIC, &event, &thread->timer);
    if (made < 0) return made;
    thread->timer_of = self;
  }
  std::uint64_t mask = 0;
  RawCall(SYS_rt_sigprocmask, SIG_BLOCK, nullptr, &mask, 8);
  // All are blocked while one that was taken waits for its frame.
  if (thread->signalled != 0) mask = thread->mask_before;
  if (nanoseconds != 0 && (mask & BitOf(kTimeSignal)) != 0) return -EBUSY;
  constexpr std::uint64_t kSecond = 1'000'000'000;
  itimerspec when{};
  when.it_value.tv_sec = static_cast<time_t>(nanoseconds / kSecond);
  when.it_value.tv_nsec = static_cast<long>(nanoseconds % kSecond);
  const long set = RawCall(SYS_timer_settime, thread->timer, 0, &when, nullptr);
  // What was on its way has come with the call; a run that has not begun yet still has all its time.
  if (nanoseconds == 0) thread->state->timed_out = 0;
  return set;
}

namespace {

bool IsTimer(const Thread* thread, int signal, const siginfo_t* info) {
  return signal == kTimeSignal && info->si_code == SI_TIMER && info->si_value.sival_ptr == thread;
}

void StopHostCall(std::uint64_t& rip) {
  if (rip >= reinterpret_cast<std::uint64_t>(dune_host_call_window) &&
      rip < reinterpret_cast<std::uint64_t>(dune_host_call_end)) {
    rip = reinterpret_cast<std::uint64_t>(dune_host_call_stopped);
  }
}

// A thread that is not in ring 0 runs the program's handler as the kernel would have.
void RunNatively(int signal, siginfo_t* info, ucontext_t* context) {
  KernelAction& action = vm.actions.of[signal];
  const KernelAction taken = action;
  if ((taken.flags & static_cast<std::uint32_t>(SA_RESETHAND)) != 0) action.handler = 0;
  if (!taken.is_function()) return;
  std::uint64_t before = 0;
  CopyBytes(&before, &context->uc_sigmask, sizeof(before));
  SetSignalMask(MaskInHandler(taken, signal, before));
  reinterpret_cast<void (*)(int, siginfo_t*, void*)>(taken.handler)(signal, info, context);
}

}  // namespace
}  // namespace dune::ring0

void dune_host_signal(int signal, siginfo_t* info, void* raw_context) {
  using namespace dune::ring0;
  auto* const context = static_cast<ucontext_t*>(raw_context);
  Thread* const thread = FindThread(static_cast<std::uint32_t>(RawCall(SYS_gettid)));
  if (thread == nullptr) return RunNatively(signal, info, context);
  if (IsTimer(thread, signal, info)) {
    thread->state->timed_out = 1;
    thread->run->immediate_exit = 1;
    return;
  }
  // Never two: the kernel blocks all while this handler runs, and until the loop has built the
  // frame.
  auto rip = static_cast<std::uint64_t>(context->uc_mcontext.gregs[REG_RIP]);
  CopyBytes(&thread->info, info, sizeof(*info));
  CopyBytes(&thread->mask_before, &context->uc_sigmask, sizeof(thread->mask_before));
  CopyBytes(&context->uc_sigmask, &kAllSignals, sizeof(kAllSignals));
  // A call that waits with a mask of its own has it still, for the handler; behind that the program's is there again.
  const bool has_own_mask = thread->waits_with_mask && context->uc_mcontext.gregs[REG_RAX] == -EINTR &&
                            rip == reinterpret_cast<std::uint64_t>(dune_host_call_end);
  thread->mask_at_signal = has_own_mask ? thread->mask_of_call : thread->mask_before;
  thread->signalled = 1;
  thread->run->immediate_exit = 1;
  StopHostCall(rip);
  context->uc_mcontext.gregs[REG_RIP] = static_cast<greg_t>(rip);
}
