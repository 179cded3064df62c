// Exceptions of the program's own code, as values for its own handlers, in the thread that caused them.
//
//   absl::Status set = dune::SetPageFaultHandler([](dune::PageFault& fault) {
//     Unprotect(fault.address);
//     return dune::Resolution::kResume;
//   });
//
// A handler runs with the direction flag clear and without alignment checks. It may use the whole C++ library: it runs on a
// stack of its own (64 KiB a thread; in software, for threads that called Enter themselves), with the vector registers saved.
// A light one (HandlerKind::kLight) has neither: only general registers, no library calls, no locks, built
// with -mgeneral-regs-only; it is what a short trap costs least with. A brief one (HandlerKind::kBrief) is a full one of which the
// program promises that it waits for no other thread and returns, and is not left by siglongjmp: signals may be held back until
// then, which in software spares each change of a page's rights two system calls. A handler may fault itself; four deep, then the
// program ends as for an unhandled signal. Setting a handler is thread-safe and holds for all threads that are in. What ring 3
// causes comes to RunUser's caller, never here.
//
// In software an exception is a signal: the disposition that the program had before gets what no handler takes, and one
// that it installs later takes the exceptions away from here. A fault that the kernel meets in a system call is none; the
// call fails with EFAULT.
#ifndef DUNE_TRAP_H_
#define DUNE_TRAP_H_

#include <cstdint>

#include "absl/status/status.h"

namespace dune {

// Registers at the exception, in the order of the trap frame; the handler may change them.
struct TrapFrame {
  std::uint64_t r15, r14, r13, r12, r11, r10, r9, r8;
  std::uint64_t rdi, rsi, rbp, rbx, rdx, rcx, rax;
  std::uint64_t vector;  // [intel/vol3 §6.3]; 0 to 31
  std::uint64_t error;   // 0 where the vector has none
  std::uint64_t rip, cs, rflags, rsp, ss;
};
static_assert(sizeof(TrapFrame) == 22 * 8);

enum class Resolution : std::uint8_t {
  kResume,  // with the registers of the frame, at its RIP
  kPass,    // not mine: a signal, as if there were no handler
};

enum class Access : std::uint8_t { kRead, kWrite, kExecute };

struct PageFault {
  std::uintptr_t address;  // that was accessed
  Access access;
  bool present;            // the page is mapped, its rights were not enough
  TrapFrame& frame;
};

using TrapHandler = Resolution (*)(TrapFrame& frame);
using PageFaultHandler = Resolution (*)(PageFault& fault);

enum class HandlerKind : std::uint8_t { kFull, kLight, kBrief };

// For one vector, 0 to 31 but #PF, #NMI, #DF, #MC: kInvalidArgument for those. Null gives it back. kUnimplemented
// where Capabilities::trap_vectors has not its bit.
absl::Status SetTrapHandler(unsigned vector, TrapHandler handler, HandlerKind kind = HandlerKind::kFull);

// For page faults that the process's own mappings do not resolve, protections by PageTable::Protect included. Null
// gives it back. kUnimplemented without page_fault_handler.
absl::Status SetPageFaultHandler(PageFaultHandler handler, HandlerKind kind = HandlerKind::kFull);

}  // namespace dune

#endif  // DUNE_TRAP_H_
