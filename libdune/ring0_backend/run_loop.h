// The loop that runs a thread's vCPU, on the thread's private stack, and what its parts share. A
// part is called when the vCPU is out and `registers` are the program's; it changes them, or ends
// the thread or the process.
//
//   Registers(thread).rax = ...;
#ifndef DUNEBOX_LIBDUNE_RING0_BACKEND_RUN_LOOP_H_
#define DUNEBOX_LIBDUNE_RING0_BACKEND_RUN_LOOP_H_

#include <cstdint>

#include "dune/trap.h"
#include "libdune/ring0_backend/vm.h"

namespace dune::ring0 {

inline kvm_regs& Registers(Thread* thread) { return thread->run->s.regs.regs; }
inline void RegistersChanged(Thread* thread) { thread->run->kvm_dirty_regs = KVM_SYNC_X86_REGS; }

// ---- system_calls.cc ----
struct SystemCall {
  std::uint64_t number;
  std::uint64_t arguments[6];
};
// Results that are no call's.
inline constexpr std::int64_t kMakeAgain = -512;      // after a signal's handler
inline constexpr std::int64_t kRegistersSet = -4096;  // RAX too
// The kernel's, in which a signal can be waited for.
std::int64_t HostCall(Thread* thread, const SystemCall& call);
std::int64_t Serve(Thread* thread, const SystemCall& call);

// ---- signals.cc ----
// By which the kernel's timer stops a vCPU: one of the two that the C library keeps for itself, and tells apart by who
// has sent it, as we do. Whoever else sends it is heard as ever.
inline constexpr int kTimeSignal = 33;
// What our handler has taken from the kernel is made a frame on the program's stack.
void DeliverSignal(Thread* thread);
struct FaultSignal {
  int signal;
  int code;
  std::uint64_t address;
  std::uint64_t vector, error, cr2;
  bool restarts;  // RIP is at the instruction, which will do it again
};
void RaiseFault(Thread* thread, const FaultSignal& fault);
std::int64_t SignalReturn(Thread* thread);
std::int64_t SetAction(Thread* thread, const SystemCall& call);
std::int64_t SetAlternateStack(Thread* thread, const SystemCall& call);
// The program's handlers become ours, or are put back.
void TakeActions();
void GiveActionsBack();
// Of RunOptions::time. 0 nanoseconds: none any more. -EBUSY: the program has blocked kTimeSignal.
std::int64_t SetTimer(Thread* thread, std::uint64_t nanoseconds);
// Of the calling host thread.
void UseSignalStack(Thread* thread);
// A loop has no faults, and another's SIGSEGV is a signal like others. Code of the program's may have them.
inline constexpr std::uint64_t kAllSignals = ~std::uint64_t{0};
inline constexpr std::uint64_t kAllButFaults =
    ~(std::uint64_t{1} << (SIGSEGV - 1) | std::uint64_t{1} << (SIGBUS - 1) | std::uint64_t{1} << (SIGILL - 1) |
      std::uint64_t{1} << (SIGFPE - 1) | std::uint64_t{1} << (SIGTRAP - 1));
// What was blocked before. If a signal has been noted (Thread::signalled) that is all, and the program's mask is in mask_before.
std::uint64_t BlockSignals(std::uint64_t which = kAllSignals);
void SetSignalMask(std::uint64_t mask);

// ---- memory_calls.cc ----
std::int64_t MapMemory(Thread* thread, const SystemCall& call);      // mmap
std::int64_t UnmapMemory(Thread* thread, const SystemCall& call);    // munmap
std::int64_t ProtectMemory(Thread* thread, const SystemCall& call);  // mprotect, pkey_mprotect
std::int64_t MoveMemory(Thread* thread, const SystemCall& call);     // mremap
std::int64_t MoveBreak(Thread* thread, const SystemCall& call);      // brk
std::int64_t AdviseMemory(Thread* thread, const SystemCall& call);   // madvise
std::int64_t AttachMemory(Thread* thread, const SystemCall& call);   // shmat
std::int64_t DetachMemory(Thread* thread, const SystemCall& call);   // shmdt

// ---- new_threads.cc ----
std::int64_t Clone(Thread* thread, const SystemCall& call);
// Comes back only with kMakeAgain.
std::int64_t ExitThread(Thread* thread, int status);

// ---- run_loop.cc ----
[[noreturn]] void RunLoop(Thread* thread);

// The program's memory, by the kernel's leave.
bool ReadProgram(std::uint64_t from, void* to, std::size_t size);
bool WriteProgram(std::uint64_t to, const void* from, std::size_t size);

}  // namespace dune::ring0

#endif  // DUNEBOX_LIBDUNE_RING0_BACKEND_RUN_LOOP_H_
