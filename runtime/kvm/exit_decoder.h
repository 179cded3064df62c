// From a kvm_run to what it means. Pure: every exit reason is tested with no guest.
//
// A hypercall is authenticated here: it counts only from CPL 0 with RIP at the stub that
// belongs to its port. [DESIGN D9]
//
//   VmExit exit = DecodeKvmExit(*run, stubs);
#ifndef DUNEBOX_RUNTIME_KVM_EXIT_DECODER_H_
#define DUNEBOX_RUNTIME_KVM_EXIT_DECODER_H_

#include <cstdint>
#include <string>
#include <variant>

#include "hostcalls/memory/address.h"
#include "runtime/kvm/kvm_structs.h"

namespace dunebox::kvm {

// Guest-virtual addresses of the image's entry points.
struct Stubs {
  GuestVirt vectors, trap_out, trap_return, trap_return_end;
  GuestVirt syscall_entry, syscall_return, syscall_return_end;
  GuestVirt quick_entry, quick_test, quick_sysret, quick_out;
  GuestVirt quick_routines, quick_routines_end, quick_retreat;
  GuestVirt page_fault, fault_test, fault_return;
  GuestVirt flush_out;
  GuestVirt step, step_test, step_return;
  // Resolved from the image's header for the image at `base`.
  static Stubs At(GuestVirt base);
  // The same for the image of programs in ring 0, which has no other way back than trap_return.
  static Stubs OfProgramImage(GuestVirt base);
};

// A trap frame is at RSP, an exception wants to be handled.
struct TrapExit {};
// SYSCALL entered ring 0; the registers are the guest's.
struct SyscallExit {};
// Ring 0 has answered a call by itself and was told to leave; the registers are ring 3's.
struct AnsweredExit {};
// Ring 0 wants all vCPUs to forget their translations, and goes on then.
struct FlushExit {};
// The program executed a port instruction and KVM let it. The guest sees #GP.
struct UserPortExit {
  std::uint16_t port;
  bool out;
};
// The program executed something KVM could not emulate, or HLT.
struct UserInvalidExit {
  bool privileged;  // #GP rather than #UD
};
// KVM_RUN came back without the guest's doing.
struct InterruptedExit {};
struct FailedExit {
  std::string reason;
};

using VmExit = std::variant<TrapExit, SyscallExit, AnsweredExit, FlushExit, UserPortExit,
                            UserInvalidExit, InterruptedExit, FailedExit>;

// Needs synchronised general and system registers in `run`.
VmExit DecodeKvmExit(const kvm_run& run, const Stubs& stubs);
// The same where the run area lacks the system registers but the privilege level is known.
VmExit DecodeKvmExit(const kvm_run& run, const Stubs& stubs, int privilege);

// The same for a program in ring 0. Nothing is authentic there: a hypercall only says what the program
// wants, an OUT elsewhere is a port instruction of the program's, and whatever KVM cannot go on with
// is FailedExit, and the program's doing.
VmExit DecodeRing0Exit(const kvm_run& run, const Stubs& stubs);

// The privilege level a kvm_run's synchronised registers show.
int PrivilegeOf(const kvm_run& run);

}  // namespace dunebox::kvm

#endif  // DUNEBOX_RUNTIME_KVM_EXIT_DECODER_H_
