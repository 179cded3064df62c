// Where things lie that the processor and ring 0's stubs use, for C++ and the assembler.
//
// Guest-virtual addresses of the lower half are the process's own. The upper half has one part, the
// same in every page table, supervisor only, never taken away:
//
//   DUNE_ALIAS_TEXT           ring0_entry.S, execute
//   DUNE_ALIAS_SHARED         IDT, SharedState: one page for all vCPUs
//   DUNE_ALIAS_BLOCKS + n * DUNE_ALIAS_BLOCK_BYTES   of vCPU n: state page, two IST stacks, the stack
//   on which ring 3 stops
//
// Guest-physical addresses are given to 1 GiB granules of the process's addresses, densely, from 4
// GiB on.
#ifndef DUNEBOX_LIBDUNE_RING0_BACKEND_LAYOUT_H_
#define DUNEBOX_LIBDUNE_RING0_BACKEND_LAYOUT_H_

// Hypercalls: the port says which.
#define DUNE_PORT_BACKEND_SYSCALL 0xe0 /* SYSCALL in ring 0; registers are the program's */
#define DUNE_PORT_BACKEND_TRAP 0xe1    /* TrapFrame at RSP, CR2 in RAX */
#define DUNE_PORT_BACKEND_RETURN \
  0xe2 /* a trap has been handled, TrapFrame at RSP says where it goes on */
#define DUNE_PORT_BACKEND_CALL 0xe3 /* dune_hypercall: operation in RDI, arguments in RSI, RDX */

#define DUNE_PORT_BACKEND_PASSED 0xe4 /* as TRAP; the program's handlers do not want it */

// Results of dune_dispatch_trap.
#define DUNE_DISPATCH_RESUME 0
#define DUNE_DISPATCH_ASK 1 /* the loop first, which may have memory for it */
#define DUNE_DISPATCH_PASS 2

#define DUNE_VECTOR_PAGE_FAULT 14

#define DUNE_ALIAS_BASE 0xffffff8000000000
#define DUNE_ALIAS_SHARED_OFFSET 0x8000
#define DUNE_ALIAS_BLOCKS_OFFSET 0x10000
#define DUNE_ALIAS_BLOCK_BYTES 0x4000

// In a vCPU's aliased pages.
#define DUNE_BLOCK_GDT 0
#define DUNE_BLOCK_TSS_AT 0x100
#define DUNE_BLOCK_STATE_AT 0x200
#define DUNE_BLOCK_IST1_TOP 0x2000
#define DUNE_BLOCK_IST2_TOP 0x3000
// IST2 while ring 3 runs. What stops it stays there, whatever page faults ring 0 has before it has read it.
#define DUNE_BLOCK_USER_TOP 0x4000
#define DUNE_BLOCK_TSS_IST2 0x12c

// VcpuState.
#define DUNE_STATE_IN_USER 0x200
#define DUNE_STATE_PENDING 0x204
#define DUNE_STATE_HANDLER_LOW 0x208
#define DUNE_STATE_HANDLER_TOP 0x210
#define DUNE_STATE_DISPATCH 0x218
#define DUNE_STATE_KERNEL_RSP 0x228
#define DUNE_STATE_RESUME 0x230
#define DUNE_STATE_CR2 0x238
#define DUNE_STATE_FRAME 0x240
#define DUNE_STATE_SELF 0x248
#define DUNE_STATE_SCRATCH 0x250
#define DUNE_STATE_FS 0x258
#define DUNE_STATE_GS 0x260
#define DUNE_STATE_USER_FS 0x268
#define DUNE_STATE_USER_GS 0x270
// The TrapFrame with which ring 3 is entered.
#define DUNE_BLOCK_USER_FRAME 0x400

// In a frame of ring 3: no exception.
#define DUNE_VECTOR_SYSCALL 32
#define DUNE_VECTOR_STOPPED 33

// SharedState, in its page behind the IDT.
#define DUNE_SHARED_HANDLED 0x200

// dune::TrapFrame.
#define DUNE_FRAME_RAX 112
#define DUNE_FRAME_VECTOR 120
#define DUNE_FRAME_RIP 136
#define DUNE_FRAME_CS 144
#define DUNE_FRAME_RSP 160
#define DUNE_FRAME_BYTES 176
#define DUNE_FRAME_WORDS 22

// A vCPU's selectors; ring 3's are Linux's.
#define DUNE_RING0_CODE 0x08
#define DUNE_RING0_DATA 0x10
#define DUNE_RING3_DATA 0x2b
#define DUNE_RING3_CODE 0x33
#define DUNE_TSS_SELECTOR 0x40

// Thread, as host_entry.S sees it.
#define DUNE_THREAD_SIGNALLED 0
#define DUNE_THREAD_ID 4
#define DUNE_THREAD_RUN 24
// From a loop's stack, where it begins, to its Thread.
#define DUNE_THREAD_FROM_STACK_TOP 0xc000
// The program's registers in kvm_run, when the vCPU is out.
#define DUNE_RUN_REGISTERS 304

#ifndef __ASSEMBLER__

#include <cstddef>
#include <cstdint>

#include "libdune/ring0_backend/table_tags.h"

namespace dune::ring0 {

inline constexpr std::uint64_t kPage = 4096;
inline constexpr unsigned kGranuleShift = 30;
inline constexpr std::uint64_t kGranuleBytes = std::uint64_t{1} << kGranuleShift;
inline constexpr std::uint64_t kFirstGranule = 4;  // guest-physical, in granules
inline constexpr unsigned kMostGranules = 480;
inline constexpr unsigned kMostThreads = 1024;
// Three pages that Intel's KVM wants below 4 GiB, used by nobody else.
inline constexpr std::uint64_t kTssAddress = 0xfffb'd000;
inline constexpr std::uint64_t kAddressesEnd = (std::uint64_t{1} << 47) - kPage;  // TASK_SIZE

// A thread's block of host memory; its first part is what the upper half shows.
inline constexpr std::uint64_t kLoopStackTop = 0x14000;
inline constexpr std::uint64_t kSignalStackAt = 0x14000;
inline constexpr std::uint64_t kSignalStackBytes = 0xc000;
inline constexpr std::uint64_t kThreadAt = 0x20000;
inline constexpr std::uint64_t kHandlerStackAt = 0x30000;
inline constexpr std::uint64_t kHandlerStackBytes = 0x10000;  // four quarters, ring0_entry.S
inline constexpr std::uint64_t kBlockBytes = 0x40000;
static_assert(kThreadAt - kLoopStackTop == DUNE_THREAD_FROM_STACK_TOP);

constexpr std::uint64_t AliasOfBlock(unsigned index) {
  return DUNE_ALIAS_BASE + DUNE_ALIAS_BLOCKS_OFFSET + index * std::uint64_t{DUNE_ALIAS_BLOCK_BYTES};
}

// Of one vCPU, in its first page. Both sides write it; the vCPU's thread alone, but for `pending`.
struct VcpuState {
  std::uint32_t in_user;      // ring 3 runs: SYSCALL comes from there
  std::uint32_t pending;      // leave by an OUT at the end of a trap: a signal waits
  std::uint64_t handler_low;  // the stack of the program's trap handlers
  std::uint64_t handler_top;
  std::uint64_t dispatch;     // dune_dispatch_trap
  std::uint64_t process_cr3;  // the table that the program uses in ring 0
  std::uint64_t kernel_rsp;   // where RunUser goes on
  std::uint64_t resume;
  std::uint64_t cr2;    // of the exception that stopped ring 3
  std::uint64_t frame;  // its TrapFrame, in the upper half
  std::uint64_t self;   // this block, in the upper half
  std::uint64_t scratch;
  std::uint64_t fs_base, gs_base;            // ring 0's, while ring 3 runs
  std::uint64_t user_fs_base, user_gs_base;  // ring 3's, while it does not
  std::uint64_t timed_out;                   // the time set by kSetTimer is over; until it is set anew
};
static_assert(DUNE_BLOCK_STATE_AT + offsetof(VcpuState, in_user) == DUNE_STATE_IN_USER);
static_assert(DUNE_BLOCK_STATE_AT + offsetof(VcpuState, pending) == DUNE_STATE_PENDING);
static_assert(DUNE_BLOCK_STATE_AT + offsetof(VcpuState, handler_low) == DUNE_STATE_HANDLER_LOW);
static_assert(DUNE_BLOCK_STATE_AT + offsetof(VcpuState, handler_top) == DUNE_STATE_HANDLER_TOP);
static_assert(DUNE_BLOCK_STATE_AT + offsetof(VcpuState, dispatch) == DUNE_STATE_DISPATCH);
static_assert(DUNE_BLOCK_STATE_AT + offsetof(VcpuState, kernel_rsp) == DUNE_STATE_KERNEL_RSP);
static_assert(DUNE_BLOCK_STATE_AT + offsetof(VcpuState, resume) == DUNE_STATE_RESUME);
static_assert(DUNE_BLOCK_STATE_AT + offsetof(VcpuState, cr2) == DUNE_STATE_CR2);
static_assert(DUNE_BLOCK_STATE_AT + offsetof(VcpuState, frame) == DUNE_STATE_FRAME);
static_assert(DUNE_BLOCK_STATE_AT + offsetof(VcpuState, self) == DUNE_STATE_SELF);
static_assert(DUNE_BLOCK_STATE_AT + offsetof(VcpuState, scratch) == DUNE_STATE_SCRATCH);
static_assert(DUNE_BLOCK_STATE_AT + offsetof(VcpuState, fs_base) == DUNE_STATE_FS);
static_assert(DUNE_BLOCK_STATE_AT + offsetof(VcpuState, gs_base) == DUNE_STATE_GS);
static_assert(DUNE_BLOCK_STATE_AT + offsetof(VcpuState, user_fs_base) == DUNE_STATE_USER_FS);
static_assert(DUNE_BLOCK_STATE_AT + offsetof(VcpuState, user_gs_base) == DUNE_STATE_USER_GS);
static_assert(DUNE_BLOCK_STATE_AT + sizeof(VcpuState) <= DUNE_BLOCK_TAGS_AT);
static_assert(DUNE_BLOCK_TAGS_AT + sizeof(TableTags) <= DUNE_BLOCK_USER_FRAME);

struct SharedState {
  std::uint64_t handled;  // bit n: vector n is looked at by the program before the host is asked
};

// What the program asks its loop for, in RDI.
enum class Hypercall : std::uint64_t {
  kLeave,     // RSI: where the signal mask to be restored is written. RAX: 0, or 1 if a signal is delivered first
  kFlushAll,  // every vCPU forgets its translations
  kAddClone,  // RSI: an empty table's root, which becomes a clone of Current(). RAX: 0, or -errno
  kRemoveClone,  // RSI: its root
  kSetTimer,  // RSI: ring 3 is stopped in so many nanoseconds; 0: it is not. RAX: 0, or -errno
};

}  // namespace dune::ring0

#endif  // __ASSEMBLER__
#endif  // DUNEBOX_LIBDUNE_RING0_BACKEND_LAYOUT_H_
