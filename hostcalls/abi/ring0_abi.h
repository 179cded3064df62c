// What the ring-0 image and the host agree on: ports, the trap frame, the image's
// header and where everything lies in the supervisor's half. Read by C++ on both
// sides and by the assembler (which sees only the #defines).
//
// Supervisor half, 4 KiB pages, guest-virtual = kArenaVirt + arena offset:
//
//   0xffffff80_0000_0000  ring-0 image   (read + execute, supervisor; four pages)
//   + DUNE_GDT_OFFSET     GDT            (one for all vCPUs but for the TSS descriptor: per vCPU)
//   + DUNE_IDT_OFFSET     IDT
//   + DUNE_POOL_OFFSET    MemoryPool and its leaf page tables (memory_pool.h)
//   + DUNE_ACTIONS_OFFSET SignalActions (signal_actions.h)
//   + DUNE_POSTED_OFFSET  PostedWrites (posted_writes.h)
//   + a few pages more    the clock: its data, and the code that reads it (runtime/kvm/layout.h)
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
#define DUNE_PORT_FLUSH 0xd4    /* other vCPUs may remember translations that ring 0 has changed */

#define DUNE_IMAGE_MAGIC 0x306e757264786f62 /* "boxdrun0" */

// Where page_fault leaves CR2, from the trap frame down.
#define DUNE_FAULT_ADDRESS_BELOW 16

// Bytes of one vector stub; stub n is at vectors + n * DUNE_VECTOR_STRIDE.
#define DUNE_VECTOR_STRIDE 16
#define DUNE_VECTOR_COUNT 32
// In a TrapFrame: no exception; ring 0 was told to leave instead of going on in ring 3.
#define DUNE_VECTOR_NONE 32

// Ring0State, as the assembler sees it.
#define DUNE_QUICK_NUMBERS 512 /* greater numbers share the entry behind the last */
#define DUNE_STATE_ANSWERS 520
#define DUNE_STATE_SAVED_RCX 648
#define DUNE_STATE_ANSWERED 656
#define DUNE_STATE_INTERRUPTED 664
#define DUNE_STATE_SAVED_RAX 672
#define DUNE_STATE_SAVED_RSP 680
#define DUNE_STATE_SAVED_R8 688
#define DUNE_STATE_SAVED_R9 696
#define DUNE_STATE_STACK 704
#define DUNE_STATE_MASK 712
#define DUNE_STATE_MASK_LEAST 720
#define DUNE_STATE_MASK_MOST 728
#define DUNE_STATE_YIELDS 736
#define DUNE_STATE_CHILD_TID 744
#define DUNE_STATE_ROBUST_LIST 752
#define DUNE_STATE_THREAD_ID 760
#define DUNE_STATE_FUTEX_WAITS 768
#define DUNE_STATE_FAULTS 776
#define DUNE_STATE_TRAPS 800
#define DUNE_STATE_CLOCK 880
#define DUNE_STATE_ACTIONS 888
#define DUNE_STATE_CHANGED_ACTIONS 896
#define DUNE_STATE_STACK_BASE 904
#define DUNE_STATE_STACK_FLAGS 912
#define DUNE_STATE_STACK_SIZE 920
#define DUNE_STATE_SCRATCH 928
#define DUNE_STATE_STEPS 960
#define DUNE_RFLAGS_TRAP 0x100
#define DUNE_RFLAGS_TRAP_RESUME 0x10100
#define DUNE_RFLAGS_ACCESS 0x40000
#define DUNE_FAULT_USER 4 /* of a page fault's error code */

// Entries of Ring0State::answer_of from here on are routines (quick_routines.inc), below it answers.
#define DUNE_QUICK_ANSWERS 16
#define DUNE_QUICK_SIGNAL_MASK 16
#define DUNE_QUICK_YIELD 17
#define DUNE_QUICK_SEGMENT_BASE 18
#define DUNE_QUICK_CHILD_TID 19
#define DUNE_QUICK_ROBUST_LIST 20
#define DUNE_QUICK_FUTEX 21
#define DUNE_QUICK_MEMORY 22
#define DUNE_QUICK_SIGNAL_RETURN 23
#define DUNE_QUICK_CLOCK 24
#define DUNE_QUICK_TIME_OF_DAY 25
#define DUNE_QUICK_TIME 26
#define DUNE_QUICK_SIGNAL_ACTION 27
#define DUNE_QUICK_ALTERNATE_STACK 28
#define DUNE_QUICK_POST_WRITE 29

// Of signals, as the assembler sees them. [linux]
#define DUNE_SIGSEGV 11
#define DUNE_SS_ONSTACK 1
#define DUNE_SS_DISABLE 2
#define DUNE_MINIMUM_SIGNAL_STACK 2048 /* MINSIGSTKSZ */

// In a vCPU's page: where Ring0State is, and the tops of the stacks on which it takes traps, and those with a stack of their own.
#define DUNE_BLOCK_STATE 0x200
#define DUNE_BLOCK_TRAP_STACK_TOP 0xc00
#define DUNE_BLOCK_IST_STACK_TOP 0x1000

// FutexWaits: of a futex word at address a, the count at (a >> DUNE_FUTEX_SHIFT) % DUNE_FUTEX_BUCKETS.
#define DUNE_FUTEX_SHIFT 4
#define DUNE_FUTEX_BUCKETS 256
#define DUNE_FUTEX_IRREGULAR 1024

// Addresses of the program's have no bit from here up.
#define DUNE_USER_ADDRESS_BITS 46

#define DUNE_ARENA_VIRT 0xffffff8000000000

#define DUNE_SELECTOR_KERNEL_CODE 0x08
#define DUNE_SELECTOR_KERNEL_DATA 0x10
#define DUNE_SELECTOR_USER_DATA 0x2b /* as Linux shows it to programs */
#define DUNE_SELECTOR_USER_CODE 0x33
#define DUNE_SELECTOR_TSS 0x40

#ifndef __ASSEMBLER__

#include <cstddef>
#include <cstdint>

#include "hostcalls/abi/signal_frame.h"

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

// The program as it stands in ring 0, on the trap stack: what entry.S pushes below a TrapFrame.
struct GuestState {
  std::uint64_t r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rdi, rsi, rdx, rcx, rax;
  std::uint64_t cr2;
  std::uint64_t unused;
  TrapFrame trap;
};
static_assert(offsetof(GuestState, trap) == offsetof(GuestState, cr2) + DUNE_FAULT_ADDRESS_BELOW);

// The program's handler of SIGSEGV, for page faults in the memory pool; the host's to write.
struct TrapDelivery {
  std::uint64_t handler;     // 0: such a signal is the host's to deliver, and to come back from
  std::uint64_t opening;     // of the pool, after which the others were true
  std::uint64_t restorer;
  std::uint64_t blocks;      // what the handler adds to the mask
  AlternateStack stack;      // as frames show it
  std::uint64_t switches;    // whether the handler is to run there
  std::uint64_t state_size;  // of the XSAVE area
  std::uint64_t features;    // XCR0
};

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
  std::uint64_t quick_routines;  // from here to its end a page fault in ring 0 is the program's
  std::uint64_t quick_routines_end;
  std::uint64_t quick_retreat;   // leaves the call to the host as if ring 0 had not begun
  std::uint64_t page_fault;      // the stub of vector 14 that also leaves CR2, for IDTs that want it
  std::uint64_t fault_test;      // a fault is answered; looks at Ring0State::interrupted
  std::uint64_t fault_return;    // its IRETQ
  std::uint64_t flush_out;       // the OUT that asks the host to flush
  std::uint64_t step;            // the stub of vector 1 that counts Ring0State::steps
  std::uint64_t step_test;       // a step is counted; looks at Ring0State::interrupted
  std::uint64_t step_return;     // its IRETQ
};
static_assert(sizeof(ImageHeader) == 27 * 8);

// What ring 0 of one vCPU knows, in the vCPU's page (supervisor only). It is ring 0's while the vCPU
// runs and the host's while it is out. Of what ring 0 writes the host believes nothing: `answered` is
// a statistic, `mask` is kept between the bounds that the host remembers itself, and the addresses
// are the program's to choose and checked when they are used.
struct Ring0State {
  static constexpr std::size_t kAnswers = DUNE_QUICK_ANSWERS;
  // By number: which of the answers is the call's result, or DUNE_QUICK_...; 0: ask the host.
  std::uint8_t answer_of[DUNE_QUICK_NUMBERS + 1];
  std::uint64_t answers[kAnswers];
  std::uint64_t saved_rcx;
  std::uint64_t answered;     // calls so far
  std::uint64_t interrupted;  // leave by quick_out or trap_out instead of to ring 3
  std::uint64_t saved_rax, saved_rsp, saved_r8, saved_r9;
  std::uint64_t stack;        // where routines that touch the program's memory take traps
  std::uint64_t mask;         // the thread's signal mask, and the least and most it may become here
  std::uint64_t mask_least, mask_most;
  std::uint64_t yields;       // sched_yield calls that need not reach the host yet
  std::uint64_t child_tid;    // set_tid_address
  std::uint64_t robust_list;  // set_robust_list
  std::uint64_t thread_id;
  std::uint64_t futex_waits;  // where FutexWaits is
  std::uint64_t faults;       // page faults answered so far
  std::uint64_t traps_delivered;  // to the program's handler
  std::uint64_t reductions;   // this vCPU's part of MemoryPool's
  TrapDelivery traps;
  std::uint64_t clock;        // where the code is that tells the time; 0: nowhere
  std::uint64_t actions;      // where SignalActions is, if it is ring 0's; 0: not so
  std::uint64_t changed_actions;  // those that ring 0 has replaced, as a mask
  AlternateStack alternate_stack;
  std::uint64_t scratch[4];   // a routine's
  std::int64_t steps;         // so many instructions may ring 3 still execute with TF set; 0: TF is the program's own
};
static_assert(offsetof(Ring0State, answer_of) == 0);
static_assert(offsetof(Ring0State, answers) == DUNE_STATE_ANSWERS);
static_assert(offsetof(Ring0State, saved_rcx) == DUNE_STATE_SAVED_RCX);
static_assert(offsetof(Ring0State, answered) == DUNE_STATE_ANSWERED);
static_assert(offsetof(Ring0State, interrupted) == DUNE_STATE_INTERRUPTED);
static_assert(offsetof(Ring0State, saved_rax) == DUNE_STATE_SAVED_RAX);
static_assert(offsetof(Ring0State, saved_rsp) == DUNE_STATE_SAVED_RSP);
static_assert(offsetof(Ring0State, saved_r8) == DUNE_STATE_SAVED_R8);
static_assert(offsetof(Ring0State, saved_r9) == DUNE_STATE_SAVED_R9);
static_assert(offsetof(Ring0State, stack) == DUNE_STATE_STACK);
static_assert(offsetof(Ring0State, mask) == DUNE_STATE_MASK);
static_assert(offsetof(Ring0State, mask_least) == DUNE_STATE_MASK_LEAST);
static_assert(offsetof(Ring0State, mask_most) == DUNE_STATE_MASK_MOST);
static_assert(offsetof(Ring0State, yields) == DUNE_STATE_YIELDS);
static_assert(offsetof(Ring0State, child_tid) == DUNE_STATE_CHILD_TID);
static_assert(offsetof(Ring0State, robust_list) == DUNE_STATE_ROBUST_LIST);
static_assert(offsetof(Ring0State, thread_id) == DUNE_STATE_THREAD_ID);
static_assert(offsetof(Ring0State, futex_waits) == DUNE_STATE_FUTEX_WAITS);
static_assert(offsetof(Ring0State, faults) == DUNE_STATE_FAULTS);
static_assert(offsetof(Ring0State, traps) == DUNE_STATE_TRAPS);
static_assert(offsetof(Ring0State, clock) == DUNE_STATE_CLOCK);
static_assert(offsetof(Ring0State, actions) == DUNE_STATE_ACTIONS);
static_assert(offsetof(Ring0State, changed_actions) == DUNE_STATE_CHANGED_ACTIONS);
static_assert(offsetof(Ring0State, alternate_stack) == DUNE_STATE_STACK_BASE);
static_assert(DUNE_STATE_STACK_FLAGS == DUNE_STATE_STACK_BASE + offsetof(AlternateStack, flags));
static_assert(DUNE_STATE_STACK_SIZE == DUNE_STATE_STACK_BASE + offsetof(AlternateStack, size));
static_assert(offsetof(Ring0State, scratch) == DUNE_STATE_SCRATCH);
static_assert(offsetof(Ring0State, steps) == DUNE_STATE_STEPS);
static_assert(DUNE_SIGSEGV == SIGSEGV && DUNE_SS_ONSTACK == SS_ONSTACK && DUNE_SS_DISABLE == SS_DISABLE);

// How many threads of this memory may be waiting in the host's kernel for futex words of each bucket.
// One for all vCPUs; ring 0 only reads it. Who waits is counted before the kernel compares the word, and
// who wakes has changed the word before it looks here: with a full barrier between on both sides, one of
// the two sees the other.
struct FutexWaits {
  std::uint32_t counts[DUNE_FUTEX_BUCKETS];
  std::uint32_t irregular;  // once there was a call that moves waiters or waits in another way
};
static_assert(offsetof(FutexWaits, counts) == 0);
static_assert(offsetof(FutexWaits, irregular) == DUNE_FUTEX_IRREGULAR);

}  // namespace dunebox::abi

#endif  // __ASSEMBLER__
#endif  // DUNEBOX_HOSTCALLS_ABI_RING0_ABI_H_
