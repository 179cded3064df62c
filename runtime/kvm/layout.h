// Guest-physical memory and memslot numbers of one VM, one sentence per constant.
#ifndef DUNEBOX_RUNTIME_KVM_LAYOUT_H_
#define DUNEBOX_RUNTIME_KVM_LAYOUT_H_

#include <cstdint>

#include "hostcalls/abi/memory_pool.h"
#include "hostcalls/abi/posted_writes.h"
#include "hostcalls/abi/ring0_abi.h"
#include "hostcalls/abi/signal_actions.h"
#include "hostcalls/memory/address.h"

namespace dunebox::kvm::layout {

// The arena (ring-0 image, vCPU blocks, page tables) is at guest-physical 0.
inline constexpr std::uint64_t kArenaBytes = std::uint64_t{1} << 30;
// It gets its memslots in chunks of this size, as it grows.
inline constexpr std::uint64_t kArenaChunk = std::uint64_t{64} << 20;
// Its first pages: ring-0 image, IDT with FutexWaits behind it, the memory pool, ring 0's scratch page,
// the doorbell, the signal handlers, posted writes, addresses (not pages) for the pool's leaf tables and for the clock's data,
// the code that reads it, then one page a vCPU; page tables follow.
inline constexpr std::uint64_t kImageOffset = 0;
inline constexpr std::uint64_t kImageBytes = 4 * kPageSize;
inline constexpr std::uint64_t kIdtOffset = kImageOffset + kImageBytes;
inline constexpr std::uint64_t kFutexWaitsOffset = kIdtOffset + 0x800;
inline constexpr std::uint64_t kPoolOffset = DUNE_POOL_OFFSET;
inline constexpr std::uint64_t kScratchOffset = DUNE_SCRATCH_OFFSET;
inline constexpr std::uint64_t kDoorbellOffset = DUNE_DOORBELL_OFFSET;
inline constexpr std::uint64_t kActionsOffset = DUNE_ACTIONS_OFFSET;
inline constexpr std::uint64_t kPostedOffset = DUNE_POSTED_OFFSET;
inline constexpr std::uint64_t kPoolTablesOffset = DUNE_POOL_TABLES_OFFSET;
// The code expects its data right below it, as in the kernel's vDSO.
inline constexpr std::uint64_t kMostClockData = 32 * kPageSize;
inline constexpr std::uint64_t kMostClockCode = 8 * kPageSize;
inline constexpr std::uint64_t kClockCodeOffset =
    kPoolTablesOffset + abi::MemoryPool::kTables * kPageSize + kMostClockData;
inline constexpr std::uint64_t kVcpuBlocksOffset = kClockCodeOffset + kMostClockCode;
static_assert(kPoolOffset == kIdtOffset + kPageSize);
static_assert(kDoorbellOffset == kScratchOffset + kPageSize);
static_assert(kActionsOffset == kDoorbellOffset + kPageSize);
static_assert(kPostedOffset == kActionsOffset + kPageSize);
static_assert(kPoolTablesOffset == kPostedOffset + kPageSize);
inline constexpr unsigned kMostVcpus = 1024;
inline constexpr std::uint64_t kTablesOffset = kVcpuBlocksOffset + kMostVcpus * kPageSize;

// Host pages shown to the guest read-only (vvar).
inline constexpr GuestPhys kAliasPhys{kArenaBytes};
inline constexpr std::uint64_t kAliasBytes = std::uint64_t{2} << 20;

// Three pages that Intel's KVM needs below 4 GiB, used by nobody else.
inline constexpr std::uint64_t kTssAddress = 0xfffb'd000;

// The window's granules, densely, from here on.
inline constexpr GuestPhys kWindowPhys{std::uint64_t{4} << 30};

// Slot numbers: arena chunks, alias, then the window's granules.
inline constexpr std::uint32_t kArenaSlot = 0;
inline constexpr std::uint32_t kAliasSlot = kArenaBytes / kArenaChunk;
inline constexpr std::uint32_t kWindowSlot = kAliasSlot + 1;

// Memslot granules of the window. [DESIGN D5]
inline constexpr unsigned kShadowGranuleShift = 26;          // 64 MiB
inline constexpr unsigned kTwoDimensionalGranuleShift = 30;  // 1 GiB

// Inside a vCPU's page: descriptors, TSS, Ring0State and two stacks; traps find the host's at its top, ring 0's
// routines use more of theirs.
inline constexpr std::uint64_t kBlockGdt = 0;
inline constexpr std::uint64_t kBlockTss = 0x100;
inline constexpr std::uint64_t kBlockState = DUNE_BLOCK_STATE;  // Ring0State
inline constexpr std::uint64_t kBlockTrapStackTop = DUNE_BLOCK_TRAP_STACK_TOP;
inline constexpr std::uint64_t kBlockIstStackTop = DUNE_BLOCK_IST_STACK_TOP;

static_assert(kBlockState + sizeof(abi::Ring0State) + 1024 <= kBlockTrapStackTop);

constexpr GuestVirt ArenaVirt(std::uint64_t offset) { return {DUNE_ARENA_VIRT + offset}; }

}  // namespace dunebox::kvm::layout

#endif  // DUNEBOX_RUNTIME_KVM_LAYOUT_H_
