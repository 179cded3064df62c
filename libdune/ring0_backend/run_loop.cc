#include "libdune/ring0_backend/run_loop.h"

#include <sys/mman.h>
#include <sys/uio.h>

#include <cerrno>

#include "libdune/general_registers.h"
#include "libdune/ring0_backend/clones.h"
#include "libdune/ring0_backend/mirror.h"
#include "libdune/ring0_backend/raw_call.h"
#include "libdune/ring0_backend/symbols.h"
#include "libdune/x86/control.h"

namespace dune::ring0 {
namespace {

constexpr unsigned kMostFruitlessRepairs = 1000;

std::uint64_t Address(const void* pointer) { return reinterpret_cast<std::uint64_t>(pointer); }
std::uint64_t AliasOf(const std::byte* label) {
  return DUNE_ALIAS_BASE + (Address(label) - Address(dune_ring0_text));
}
bool IsInStubs(std::uint64_t rip) {
  return rip >= DUNE_ALIAS_BASE && rip < AliasOf(dune_ring0_text_end);
}

// A frame lies on an IST stack, which the stubs know by its address in the upper half, or on the
// handlers' stack.
TrapFrame* FrameAt(Thread* thread, std::uint64_t rsp) {
  const std::uint64_t alias = AliasOfBlock(thread->index);
  if (rsp >= alias && rsp < alias + DUNE_ALIAS_BLOCK_BYTES) {
    return reinterpret_cast<TrapFrame*>(thread->block() + (rsp - alias));
  }
  return reinterpret_cast<TrapFrame*>(rsp);
}

void LoadFrame(Thread* thread, const TrapFrame& frame) {
  kvm_regs& registers = Registers(thread);
  CopyGeneralRegisters(frame, registers);
  RegistersChanged(thread);
}

kvm_sregs& ReadSystemRegisters(Thread* thread) {
  kvm_sregs& system = thread->system_registers;
  if (RawCall(SYS_ioctl, thread->vcpu, KVM_GET_SREGS, &system) < 0) Fatal("KVM_GET_SREGS");
  return system;
}

// What the processor says: RIP and RSP are whatever ring 3 has made them, before the fetch has failed, too.
bool IsRing3(Thread* thread) { return (ReadSystemRegisters(thread).cs.selector & 3) == 3; }

// Ring 3 is stopped as by an exception: the registers become a frame, and the vCPU goes on where
// RunUser does.
void StopUser(Thread* thread, std::uint64_t vector = DUNE_VECTOR_STOPPED, std::uint64_t error = 0) {
  kvm_regs& registers = Registers(thread);
  constexpr std::uint64_t kFrameAt = DUNE_BLOCK_USER_TOP - sizeof(TrapFrame);
  TrapFrame& frame = *reinterpret_cast<TrapFrame*>(thread->block() + kFrameAt);
  CopyGeneralRegisters(registers, frame);
  frame.cs = DUNE_RING3_CODE, frame.ss = DUNE_RING3_DATA;
  frame.vector = vector, frame.error = error;
  kvm_sregs& system = ReadSystemRegisters(thread);
  const std::uint64_t fs = system.fs.base, gs = system.gs.base;
  SetSegments(system, thread->index);
  system.fs.base = fs, system.gs.base = gs;
  if (RawCall(SYS_ioctl, thread->vcpu, KVM_SET_SREGS, &system) < 0) Fatal("KVM_SET_SREGS");
  registers.rbx = AliasOfBlock(thread->index);
  registers.rsp = registers.rbx + kFrameAt;
  registers.rip = AliasOf(dune_ring0_from_user);
  registers.rflags = x86::rflags::kReserved1;
  RegistersChanged(thread);
}

// KVM was about to raise an exception when it was stopped. It will, wherever RIP is by then.
bool IsExceptionUnderWay(Thread* thread) {
  kvm_vcpu_events events{};
  if (RawCall(SYS_ioctl, thread->vcpu, KVM_GET_VCPU_EVENTS, &events) < 0) Fatal("KVM_GET_VCPU_EVENTS");
  return events.exception.injected != 0 || events.exception.pending != 0 || events.interrupt.injected != 0;
}

// Makes the registers the program's if the vCPU was stopped in a stub. False: it has to run on to
// where a stub looks whether a signal waits, or RunUser does.
bool Settle(Thread* thread) {
  if (IsExceptionUnderWay(thread)) return false;
  const kvm_regs& registers = Registers(thread);
  const bool in_user = thread->state->in_user != 0;
  if (!IsInStubs(registers.rip) || (in_user && IsRing3(thread))) {
    if (in_user) StopUser(thread, DUNE_VECTOR_STOPPED);
    return !in_user;
  }
  const std::uint64_t iret = AliasOf(dune_ring0_iret);
  if (registers.rip < AliasOf(dune_ring0_restore) || registers.rip > iret) return false;
  LoadFrame(thread, *FrameAt(thread, registers.rip == iret ? registers.rsp - DUNE_FRAME_RIP
                                                           : registers.rsp));
  if (in_user) StopUser(thread, DUNE_VECTOR_STOPPED);
  return !in_user;
}

// What Linux makes of an exception. [linux] arch/x86/kernel/traps.c
struct VectorRow {
  int signal;
  int code;
  bool at_rip;  // si_addr
};
constexpr VectorRow kVectors[32] = {
    {SIGFPE, FPE_INTDIV, true},  {SIGTRAP, TRAP_TRACE, true}, {SIGSEGV, SI_KERNEL, false},
    {SIGTRAP, SI_KERNEL, false}, {SIGSEGV, SI_KERNEL, false}, {SIGSEGV, SI_KERNEL, false},
    {SIGILL, ILL_ILLOPN, true},  {SIGSEGV, SI_KERNEL, false}, {SIGSEGV, SI_KERNEL, false},
    {SIGFPE, SI_KERNEL, false},  {SIGSEGV, SI_KERNEL, false}, {SIGBUS, SI_KERNEL, false},
    {SIGBUS, SI_KERNEL, false},  {SIGSEGV, SI_KERNEL, false}, {SIGSEGV, SEGV_MAPERR, false},
    {SIGSEGV, SI_KERNEL, false}, {SIGFPE, FPE_FLTINV, true},  {SIGBUS, BUS_ADRALN, false},
    {SIGBUS, SI_KERNEL, false},  {SIGFPE, FPE_FLTINV, true},  {SIGSEGV, SI_KERNEL, false},
    {SIGSEGV, SI_KERNEL, false}};

void RaiseVector(Thread* thread, std::uint64_t vector, std::uint64_t error, bool restarts) {
  const VectorRow& row = kVectors[vector % 32];
  if (row.signal == 0) Fatal("an exception that no processor has", static_cast<long>(vector));
  RaiseFault(thread, {.signal = row.signal,
                      .code = row.code,
                      .address = row.at_rip ? Registers(thread).rip : 0,
                      .vector = vector,
                      .error = error,
                      .cr2 = 0,
                      .restarts = restarts});
}

void RaisePageFault(Thread* thread, Filled why, std::uint64_t cr2, std::uint64_t error) {
  int signal = SIGSEGV, code = SEGV_ACCERR;
  switch (why) {
    case Filled::kYes:
    case Filled::kLimited:
    case Filled::kForbidden:
      break;
    case Filled::kNotMapped:
      code = SEGV_MAPERR;
      break;
    case Filled::kNoBacking:
      signal = SIGBUS, code = BUS_ADRERR;
      break;
    case Filled::kNoRoom:
      Fatal("no room for the page tables of this process; see EnterOptions::frame_pool");
  }
  RaiseFault(thread, {.signal = signal,
                      .code = code,
                      .address = cr2,
                      .vector = DUNE_VECTOR_PAGE_FAULT,
                      .error = error | x86::page_fault::kUser,
                      .cr2 = cr2,
                      .restarts = true});
}

// The program's handler after all, from where the stub stands.
void DeliverToHandler(Thread* thread, std::uint64_t frame, std::uint64_t cr2) {
  kvm_regs& registers = Registers(thread);
  registers.rip = AliasOf(dune_ring0_deliver);
  registers.rsp = frame;
  registers.rax = cr2;
  registers.rbx = AliasOfBlock(thread->index);
  registers.rflags = x86::rflags::kReserved1;
  RegistersChanged(thread);
}

constexpr std::uint64_t kDebug = 1, kBreakpoint = 3, kOverflow = 4, kInvalid = 6, kProtection = 13;

// An instruction of the program's that came to the loop and not to a stub.
void RaiseUnexpected(Thread* thread, std::uint64_t vector) {
  // What ring 3 does never comes here: the processor refuses it, or KVM does. If one does not, it is an exception all the
  // same, and none of the loop's work is done for it.
  if (thread->state->in_user == 0) return RaiseVector(thread, vector, 0, false);
  if (!IsRing3(thread)) Fatal("a stub was stopped on the way to ring 3, at RIP", static_cast<long>(Registers(thread).rip));
  StopUser(thread, vector);
}

enum class Asked : std::uint8_t { kFirst, kPassed };

void OnTrap(Thread* thread, Asked asked) {
  const std::uint64_t at = Registers(thread).rsp;
  const std::uint64_t cr2 = Registers(thread).rax;
  const TrapFrame& frame = *FrameAt(thread, at);
  const std::uint64_t vector = frame.vector, error = frame.error;
  LoadFrame(thread, frame);
  if (vector != DUNE_VECTOR_PAGE_FAULT) {
    const bool is_trap = vector == kDebug || vector == kBreakpoint || vector == kOverflow;
    return RaiseVector(thread, vector, error, !is_trap);
  }
  Filled filled = Fill(cr2, error);
  if (filled == Filled::kYes) filled = ShowIn(thread->state->process_cr3, cr2, error);
  if (filled == Filled::kYes) return;
  const bool handled = (vm.shared->handled >> DUNE_VECTOR_PAGE_FAULT & 1) != 0;
  if (asked == Asked::kFirst && handled) return DeliverToHandler(thread, at, cr2);
  RaisePageFault(thread, filled, cr2, error);
}

void OnSystemCall(Thread* thread) {
  kvm_regs& registers = Registers(thread);
  const SystemCall call{
      registers.rax,
      {registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8, registers.r9}};
  registers.rip = registers.rcx;
  registers.rflags = registers.r11;
  RegistersChanged(thread);
  const std::int64_t result = Serve(thread, call);
  if (result == kRegistersSet) return;
  if (result == kMakeAgain) {
    constexpr std::uint64_t kSyscallBytes = 2;
    registers.rip -= kSyscallBytes;
    return;
  }
  registers.rax = static_cast<std::uint64_t>(result);
}

// Signals are blocked; `mask` is the program's.
[[noreturn]] void LeaveLoop(Thread* thread, std::uint64_t mask) {
  kvm_regs registers = Registers(thread);
  const auto mask_place = registers.rsi;
  kvm_fpu floating{};
  if (RawCall(SYS_ioctl, thread->vcpu, KVM_GET_FPU, &floating) >= 0) {
    asm volatile("fldcw %0; ldmxcsr %1" : : "m"(floating.fcw), "m"(floating.mxcsr));
  }
  RawCall(SYS_ioctl, thread->vcpu, KVM_GET_SREGS, &thread->system_registers);
  RawCall(SYS_arch_prctl, 0x1002 /* ARCH_SET_FS */, thread->system_registers.fs.base);
  WriteProgram(mask_place, &mask, sizeof(mask));
  RawCall(SYS_sigaltstack, &thread->alternate_stack, nullptr);
  vm.lock.Lock();
  if (vm.entered.fetch_sub(1) == 1) GiveActionsBack();
  vm.lock.Unlock();
  dune_leave(&registers, &thread->id);
}

// The program has just written to the page, so KVM has it among its translations; when its memory is given up KVM has
// every vCPU forget all it has translated, and waits until they have. If another loop was faster, and KVM has nothing left
// to take away, then that was after the write. Whoever writes there meanwhile gets other memory, at any time.
void FlushAll() { RawCall(SYS_madvise, vm.flush_page, kPage, MADV_DONTNEED); }

void OnHypercall(Thread* thread) {
  kvm_regs& registers = Registers(thread);
  registers.rip = Address(dune_hypercall_return);
  RegistersChanged(thread);
  switch (static_cast<Hypercall>(registers.rdi)) {
    case Hypercall::kLeave: {
      const std::uint64_t mask = BlockSignals();
      if (thread->signalled == 0) LeaveLoop(thread, mask);
      registers.rax = 1;
      return;
    }
    case Hypercall::kFlushAll:
      FlushAll();
      return;
    case Hypercall::kAddClone: {
      const LoopLock::Holder holder(vm.lock);
      registers.rax = static_cast<std::uint64_t>(AddClone(registers.rsi));
      return;
    }
    case Hypercall::kRemoveClone: {
      const LoopLock::Holder holder(vm.lock);
      return RemoveClone(registers.rsi);
    }
    case Hypercall::kSetTimer:
      registers.rax = static_cast<std::uint64_t>(SetTimer(thread, registers.rsi));
      return;
  }
  Fatal("a hypercall that there is not", static_cast<long>(registers.rdi));
}

void OnPort(Thread* thread) {
  const kvm_run& run = *thread->run;
  // No stub asks for anything while ring 3 runs.
  if (run.io.direction == KVM_EXIT_IO_OUT && thread->state->in_user == 0) {
    switch (run.io.port) {
      case DUNE_PORT_BACKEND_SYSCALL:
        return OnSystemCall(thread);
      case DUNE_PORT_BACKEND_TRAP:
        return OnTrap(thread, Asked::kFirst);
      case DUNE_PORT_BACKEND_PASSED:
        return OnTrap(thread, Asked::kPassed);
      case DUNE_PORT_BACKEND_RETURN:
        return LoadFrame(thread, *FrameAt(thread, Registers(thread).rsp));
      case DUNE_PORT_BACKEND_CALL:
        return OnHypercall(thread);
      default:
        break;
    }
  }
  // The program's own port instruction: there is no device.
  RaiseUnexpected(thread, kProtection);
}

// Some present entry has nothing behind it, or not the rights it says: a thread outside ring 0
// changed the mapping, or a file was cut. All is looked up again, and the access shows its address
// as a page fault.
void Repair(Thread* thread) {
  // Ring 3's tables are not learnt but made, so the memory of its own access is gone for good. Where it is KVM does not say.
  if (thread->state->in_user != 0 && !IsInStubs(Registers(thread).rip)) {
    thread->state->cr2 = 0;
    return StopUser(thread, DUNE_VECTOR_PAGE_FAULT, x86::page_fault::kUser);
  }
  if (++thread->fruitless_repairs > kMostFruitlessRepairs) {
    Fatal("KVM_RUN finds no memory, at RIP", static_cast<long>(Registers(thread).rip));
  }
  const LoopLock::Holder holder(vm.lock);
  Drop(0, kAddressesEnd);
  DropCopies(thread->state->process_cr3);
}

void OnExit(Thread* thread) {
  thread->state->pending = 0;
  thread->fruitless_repairs = 0;
  const kvm_run& run = *thread->run;
  switch (run.exit_reason) {
    case KVM_EXIT_IO:
      return OnPort(thread);
    case KVM_EXIT_INTR:
    case KVM_EXIT_SET_TPR:
      return;
    case KVM_EXIT_HLT:
      return RaiseUnexpected(thread, kProtection);  // nothing would ever end it
    case KVM_EXIT_INTERNAL_ERROR:
      if (run.internal.suberror == KVM_INTERNAL_ERROR_EMULATION) return RaiseUnexpected(thread, kInvalid);
      Fatal("KVM internal error", static_cast<long>(run.internal.suberror));
    case KVM_EXIT_SHUTDOWN:
      Fatal("triple fault, at RIP", static_cast<long>(Registers(thread).rip));
    default:
      Fatal("unexpected KVM exit", static_cast<long>(run.exit_reason));
  }
}

}  // namespace

void RunLoop(Thread* thread) {
  for (;;) {
    if (thread->signalled != 0) {
      if (Settle(thread)) {
        DeliverSignal(thread);
      } else {
        thread->state->pending = 1;
        thread->run->immediate_exit = 0;
      }
    } else if (thread->state->timed_out != 0) {
      // Ring 3 is stopped here, or where it would be entered.
      Settle(thread);
      thread->state->pending = 1;
      thread->run->immediate_exit = 0;
    }
    const long result = RawCall(SYS_ioctl, thread->vcpu, KVM_RUN, 0);
    if (result == -EINTR) {
      if (thread->signalled == 0) thread->run->immediate_exit = 0;
    } else if (result == -EFAULT) {
      Repair(thread);
    } else if (result < 0 && result != -EAGAIN) {
      Fatal("KVM_RUN", result);
    } else if (result >= 0) {
      OnExit(thread);
    }
  }
}

bool ReadProgram(std::uint64_t from, void* to, std::size_t size) {
  const iovec local{to, size}, remote{reinterpret_cast<void*>(from), size};
  return RawCall(SYS_process_vm_readv, RawCall(SYS_getpid), &local, 1, &remote, 1, 0) ==
         static_cast<long>(size);
}
bool WriteProgram(std::uint64_t to, const void* from, std::size_t size) {
  const iovec local{const_cast<void*>(from), size}, remote{reinterpret_cast<void*>(to), size};
  return RawCall(SYS_process_vm_writev, RawCall(SYS_getpid), &local, 1, &remote, 1, 0) ==
         static_cast<long>(size);
}

}  // namespace dune::ring0

void dune_begin_loop(dune::ring0::Thread* thread) {
  using namespace dune::ring0;
  kvm_regs& registers = Registers(thread);
  registers = thread->first_registers;
  registers.rcx = registers.rip;
  registers.rip = Address(dune_begin_ring0);
  RegistersChanged(thread);
  SetSignalMask(thread->first_mask);
  RunLoop(thread);
}
