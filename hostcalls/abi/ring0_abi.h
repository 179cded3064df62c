// What the ring-0 image and the host agree on: ports, the trap frame, the image's
// header and where everything lies in the supervisor's half. Read by C++ on both
// sides and by the assembler (which sees only the #defines).
//
// Supervisor half, 4 KiB pages, guest-virtual = kArenaVirt + arena offset:
//
//   0xffffff80_0000_0000  ring-0 image   (read + execute, supervisor)
//   + DUNE_GDT_OFFSET     GDT            (one for all vCPUs but for the TSS descriptor: per vCPU)
//   + DUNE_IDT_OFFSET     IDT
//   + DUNE_VCPU_OFFSET    per-vCPU blocks: descriptor page, TSS page, trap stack, IST stack
//   page tables           arena memory that is never mapped guest-virtually
#ifndef DUNEBOX_HOSTCALLS_ABI_RING0_ABI_H_
#define DUNEBOX_HOSTCALLS_ABI_RING0_ABI_H_

// One OUT a hypercall. The value written means nothing; the port says which stub it was, and it
// counts only from CPL 0 with RIP at that stub. [DESIGN D9]
#define DUNE_PORT_TRAP 0xd0     /* an exception, trap frame at RSP */
#define DUNE_PORT_SYSCALL 0xd1  /* SYSCALL entered ring 0; registers are the guest's */
#define DUNE_PORT_PROBE 0xd2    /* the probe guest reports; RAX, RDX carry its measurements */

#define DUNE_PORT_ANSWERED 0xd3 /* ring 0 has answered a call; the host had stopped it meanwhile */

#define DUNE_IMAGE_MAGIC 0x306e757264786f62 /* "boxdrun0" */

// Bytes of one vector stub; stub n is at vectors + n * DUNE_VECTOR_STRIDE.
#define DUNE_VECTOR_STRIDE 16
#define DUNE_VECTOR_COUNT 32

// Ring0State, as the assembler sees it.
#define DUNE_QUICK_NUMBERS 512 /* greater numbers are the host's */
#define DUNE_STATE_ANSWERS 512
#define DUNE_STATE_SAVED_RCX 640
#define DUNE_STATE_ANSWERED 648
#define DUNE_STATE_INTERRUPTED 656
#define DUNE_RFLAGS_TRAP_RESUME 0x10100

#define DUNE_ARENA_VIRT 0xffffff8000000000

#define DUNE_SELECTOR_KERNEL_CODE 0x08
#define DUNE_SELECTOR_KERNEL_DATA 0x10
#define DUNE_SELECTOR_USER_DATA 0x2b /* as Linux shows it to programs */
#define DUNE_SELECTOR_USER_CODE 0x33
#define DUNE_SELECTOR_TSS 0x40

#ifndef __ASSEMBLER__

#include <cstddef>
#include <cstdint>

namespace dunebox::abi {

// What a vector stub leaves at RSP when it executes its OUT: its vector, the error code (0 where
// the CPU pushes none), then what the CPU pushed. [intel/vol3 §6.14.2]
struct TrapFrame {
  std::uint64_t vector;
  std::uint64_t error_code;
  std::uint64_t rip;
  std::uint64_t cs;
  std::uint64_t rflags;
  std::uint64_t rsp;
  std::uint64_t ss;
};
static_assert(sizeof(TrapFrame) == 56);
static_assert(offsetof(TrapFrame, vector) == 0 && offsetof(TrapFrame, error_code) == 8);
static_assert(offsetof(TrapFrame, rip) == 16 && offsetof(TrapFrame, cs) == 24);
static_assert(offsetof(TrapFrame, rflags) == 32 && offsetof(TrapFrame, rsp) == 40);
static_assert(offsetof(TrapFrame, ss) == 48);

// The first bytes of the image: where its entry points are, as offsets from its start.
struct ImageHeader {
  std::uint64_t magic;
  std::uint64_t vectors;         // DUNE_VECTOR_COUNT stubs
  std::uint64_t trap_out;        // the OUT of the trap path
  std::uint64_t trap_return;     // pops vector and error code, IRETQ
  std::uint64_t trap_return_end; // first byte after the IRETQ
  std::uint64_t syscall_entry;   // LSTAR; its first instruction is the OUT
  std::uint64_t syscall_return;  // canonical guard, SYSRETQ
  std::uint64_t syscall_return_end;
  std::uint64_t probe_ring0;     // the probe guest's ring-0 part
  std::uint64_t probe_out;       // its OUT
  std::uint64_t probe_sysret;    // SYSRETQ to RCX
  std::uint64_t probe_user;      // the probe guest's ring-3 part, copied to a user page
  std::uint64_t probe_user_end;
  std::uint64_t quick_entry;     // LSTAR where ring 0 answers calls by itself
  std::uint64_t quick_test;      // the call is answered; looks at Ring0State::interrupted
  std::uint64_t quick_sysret;    // its SYSRETQ, the registers are ring 3's
  std::uint64_t quick_out;       // the OUT behind quick_test
};
static_assert(sizeof(ImageHeader) == 17 * 8);

// What ring 0 of one vCPU knows, in the vCPU's page (supervisor only). The host writes it while
// the vCPU is out, and believes nothing it reads there: `answered` is a statistic.
struct Ring0State {
  static constexpr std::size_t kAnswers = 16;
  // By number: which of the answers is the call's result; 0: ask the host.
  std::uint8_t answer_of[DUNE_QUICK_NUMBERS];
  std::uint64_t answers[kAnswers];
  std::uint64_t saved_rcx;
  std::uint64_t answered;     // calls so far
  std::uint64_t interrupted;  // leave by quick_out instead of to ring 3
};
static_assert(offsetof(Ring0State, answers) == DUNE_STATE_ANSWERS);
static_assert(offsetof(Ring0State, saved_rcx) == DUNE_STATE_SAVED_RCX);
static_assert(offsetof(Ring0State, answered) == DUNE_STATE_ANSWERED);
static_assert(offsetof(Ring0State, interrupted) == DUNE_STATE_INTERRUPTED);

}  // namespace dunebox::abi

#endif  // __ASSEMBLER__
#endif  // DUNEBOX_HOSTCALLS_ABI_RING0_ABI_H_
