// Ring 0's part of a program's own page faults: the handler's frame, and the way back from it. As the host's
// (runtime/signals/frame.cc), for the plain case; everything else is left to it with nothing changed. Only
// while the memory pool is open, and with its lock held: what changes mappings closes the pool first.
#include "hostcalls/abi/memory_pool.h"
#include "hostcalls/abi/ring0_abi.h"
#include "hostcalls/abi/signal_frame.h"
#include "libdune/ring0/pool_state.h"
#include "libdune/x86/control.h"

// In entry.S: whether a byte of the program's can be written, or read. From then on SMAP is out of the way
// until ring 3 goes on.
extern "C" bool ring0_probe_write(std::uint64_t address);
extern "C" bool ring0_probe_read(std::uint64_t address);

namespace {

using namespace dunebox::abi;
using dune::ring0::kPoolTries;
using dune::ring0::StateOf;
namespace rflags = dune::x86::rflags;
namespace page_fault = dune::x86::page_fault;

constexpr std::uint64_t kPageBytes = 4096;
constexpr std::uint64_t kUnblockable = 0x40100;  // SIGKILL, SIGSTOP
constexpr std::uint64_t kSegvBit = std::uint64_t{1} << (SIGSEGV - 1);

std::byte* Scratch() {
  return reinterpret_cast<std::byte*>(DUNE_ARENA_VIRT + DUNE_SCRATCH_OFFSET);
}

// Every page of it lies in the program's half and can be used so.
bool Probe(std::uint64_t start, std::uint64_t bytes, bool (*probe)(std::uint64_t)) {
  const std::uint64_t last = start + bytes - 1;
  if (last < start || (last >> DUNE_USER_ADDRESS_BITS) != 0) return false;
  for (std::uint64_t at = start;; at = (at | (kPageBytes - 1)) + 1) {
    if (!probe(at)) return false;
    if ((at | (kPageBytes - 1)) >= last) return true;
  }
}

void Save(void* area, std::uint64_t features) {
  asm volatile("xsave64 (%0)"
               :
               : "r"(area), "a"(static_cast<std::uint32_t>(features)),
                 "d"(static_cast<std::uint32_t>(features >> 32))
               : "memory");
}
void Restore(const void* area, std::uint64_t features) {
  asm volatile("xrstor64 (%0)"
               :
               : "r"(area), "a"(static_cast<std::uint32_t>(features)),
                 "d"(static_cast<std::uint32_t>(features >> 32))
               : "memory");
}

template <typename T>
T& At(std::byte* area, std::uint64_t offset) {
  return *reinterpret_cast<T*>(area + offset);
}

// A mask that the thread may have until the vCPU leaves.
bool MayBlock(const Ring0State& state, std::uint64_t mask) {
  return (state.mask_least & ~mask) == 0 && (mask & ~state.mask_most) == 0;
}

// kAllPages or more: none of the pool's.
std::uint64_t PageAt(const MemoryPool& pool, std::uint64_t address) {
  const std::uint64_t page = (address - pool.start) / kPageBytes;
  if (page < pool.pages) return page;
  const std::uint64_t heap_page = (address - pool.heap_start) / kPageBytes;
  return heap_page < pool.heap_pages ? MemoryPool::kPages + heap_page : MemoryPool::kAllPages;
}

// What PoolCalls says of a fault; it maps nothing here.
bool Permits(MemoryPool& pool, std::uint64_t page, std::uint64_t error_code) {
  struct None {
  } none;
  return PoolCalls<None>(pool, none).Allows(page, error_code);
}

void WriteExtendedState(std::byte* area, const TrapDelivery& traps) {
  auto& header = At<ExtendedHeader>(area, kHeaderOffset);
  header = {};
  Save(area, traps.features);
  header.present |= kLegacyFeatures;
  At<SoftwareReserved>(area, kSoftwareReservedOffset) = {
      .magic1 = kMagic1,
      .extended_size = static_cast<std::uint32_t>(traps.state_size + sizeof(kMagic2)),
      .features = traps.features,
      .state_size = static_cast<std::uint32_t>(traps.state_size),
      .padding = {}};
  At<std::uint32_t>(area, traps.state_size) = kMagic2;
}

void WriteContext(SignalContext& context, const GuestState& guest, std::uint64_t error_code) {
  context.r8 = guest.r8, context.r9 = guest.r9, context.r10 = guest.r10;
  context.r11 = guest.r11, context.r12 = guest.r12, context.r13 = guest.r13;
  context.r14 = guest.r14, context.r15 = guest.r15, context.rdi = guest.rdi;
  context.rsi = guest.rsi, context.rbp = guest.rbp, context.rbx = guest.rbx;
  context.rdx = guest.rdx, context.rax = guest.rax, context.rcx = guest.rcx;
  context.rsp = guest.trap.rsp, context.rip = guest.trap.rip;
  context.rflags = guest.trap.rflags;
  context.cs = DUNE_SELECTOR_USER_CODE;
  context.gs = context.fs = 0;
  context.ss = DUNE_SELECTOR_USER_DATA;
  context.error_code = error_code;
  context.trap_number = static_cast<std::uint64_t>(dune::x86::Vector::kPageFault);
  context.cr2 = guest.cr2;
  for (std::uint64_t& word : context.reserved) word = 0;
}

void ReadContext(GuestState& guest, const SignalContext& context) {
  guest.r8 = context.r8, guest.r9 = context.r9, guest.r10 = context.r10;
  guest.r11 = context.r11, guest.r12 = context.r12, guest.r13 = context.r13;
  guest.r14 = context.r14, guest.r15 = context.r15, guest.rdi = context.rdi;
  guest.rsi = context.rsi, guest.rbp = context.rbp, guest.rbx = context.rbx;
  guest.rdx = context.rdx, guest.rax = context.rax, guest.rcx = context.rcx;
  guest.trap.rsp = context.rsp, guest.trap.rip = context.rip;
  guest.trap.rflags = rflags::ForUser((guest.trap.rflags & ~rflags::kUserSettable) |
                                      (context.rflags & rflags::kUserSettable));
}

// In our copy of what came with a frame.
bool IsExtendedState(std::byte* area, const TrapDelivery& traps) {
  const auto& software = At<SoftwareReserved>(area, kSoftwareReservedOffset);
  const auto& header = At<ExtendedHeader>(area, kHeaderOffset);
  std::uint64_t reserved = header.compact | (header.present & ~traps.features);
  for (const std::uint64_t word : header.reserved) reserved |= word;
  return software.magic1 == kMagic1 && software.state_size == traps.state_size &&
         software.extended_size == traps.state_size + sizeof(kMagic2) && reserved == 0 &&
         At<std::uint32_t>(area, traps.state_size) == kMagic2 &&
         (At<std::uint32_t>(area, kMxcsrOffset) & ~kMxcsrMask) == 0;
}

}  // namespace

// A page fault in the pool that PoolCalls::Fault has not answered. True: `guest` is to go on, in the handler or,
// if another thread has changed what was forbidden, with its access.
extern "C" bool ring0_deliver_fault(GuestState* guest, MemoryPool* pool) {
  Ring0State& state = StateOf(guest);
  const TrapDelivery& traps = state.traps;
  constexpr std::uint64_t kPlain = page_fault::kPresent | page_fault::kWrite | page_fault::kUser;
  if (traps.handler == 0 || (guest->trap.error_code & ~kPlain) != 0) return false;
  const PoolLock lock(*pool, kPoolTries);
  if (!lock.held() || pool->pages == 0 || traps.opening != pool->opening) return false;
  const std::uint64_t number = PageAt(*pool, guest->cr2);
  if (number >= MemoryPool::kAllPages) return false;
  if (Permits(*pool, number, guest->trap.error_code)) {
    guest->trap.vector = DUNE_VECTOR_NONE;
    return true;
  }
  const std::uint8_t page = pool->state[number];
  const std::uint64_t mask = state.mask | traps.blocks;
  if ((page & MemoryPool::kHost) != 0 || (state.mask & kSegvBit) != 0 || !MayBlock(state, mask)) {
    return false;
  }
  const bool on_stack = traps.stack.Contains(guest->trap.rsp);
  const bool switches = traps.switches != 0 && !on_stack;
  const std::uint64_t top =
      switches ? traps.stack.base + traps.stack.size : guest->trap.rsp - kRedZone;
  const std::uint64_t extended_state = ExtendedStatePlace(top, traps.state_size);
  const std::uint64_t address = FramePlace(extended_state);
  // Too small, or at its end.
  if ((switches || on_stack) && address - traps.stack.base >= traps.stack.size) return false;
  if (!Probe(address, top - address, ring0_probe_write)) return false;

  WriteExtendedState(reinterpret_cast<std::byte*>(extended_state), traps);
  const bool used = (page & MemoryPool::kUsed) != 0;
  const std::uint64_t error_code = (guest->trap.error_code & ~page_fault::kPresent) |
                                   (used ? page_fault::kPresent : 0);
  auto& frame = *reinterpret_cast<SignalFrame*>(address);
  frame.return_address = traps.restorer;
  frame.user.flags = kContextFlags;
  frame.user.link = 0;
  frame.user.stack = traps.stack;
  WriteContext(frame.user.context, *guest, error_code);
  frame.user.context.extended_state = extended_state;
  frame.user.context.old_mask = state.mask;
  frame.user.mask = state.mask;
  frame.info = {};
  frame.info.si_signo = SIGSEGV;
  frame.info.si_code = used ? SEGV_ACCERR : SEGV_MAPERR;
  frame.info.si_addr = reinterpret_cast<void*>(guest->cr2);

  Restore(Scratch() + DUNE_SCRATCH_INITIAL, traps.features);
  state.mask = mask;
  guest->rdi = SIGSEGV;
  guest->rsi = address + offsetof(SignalFrame, info);
  guest->rdx = address + offsetof(SignalFrame, user);
  guest->rax = 0;
  guest->trap.vector = DUNE_VECTOR_NONE;
  guest->trap.rsp = address;
  guest->trap.rip = traps.handler;
  guest->trap.rflags = rflags::ForUser(guest->trap.rflags) &
                       ~(rflags::kDirection | rflags::kResume | rflags::kTrap);
  ++state.traps_delivered;
  ++pool->answered;
  return true;
}

// rt_sigreturn: `guest` as SYSCALL left it. True: it is to go on as the frame says.
extern "C" bool ring0_signal_return(GuestState* guest, MemoryPool* pool) {
  Ring0State& state = StateOf(guest);
  const TrapDelivery& traps = state.traps;
  const std::uint64_t address = guest->trap.rsp - sizeof(std::uint64_t);
  const PoolLock lock(*pool, kPoolTries);
  if (!lock.held() || pool->pages == 0) return false;
  if (!Probe(address, offsetof(SignalFrame, info), ring0_probe_read)) return false;
  UserContext user;
  __builtin_memcpy(&user, reinterpret_cast<const void*>(address + offsetof(SignalFrame, user)), sizeof(user));
  const std::uint64_t mask = user.mask & ~kUnblockable;
  const bool same_stack = user.stack.base == traps.stack.base &&
                          user.stack.flags == traps.stack.flags &&
                          user.stack.size == traps.stack.size;
  if (!same_stack || !MayBlock(state, mask) ||
      (user.context.rip >> DUNE_USER_ADDRESS_BITS) != 0) {
    return false;
  }
  const std::uint64_t bytes = traps.state_size + sizeof(kMagic2);
  if (!Probe(user.context.extended_state, bytes, ring0_probe_read)) return false;
  __builtin_memcpy(Scratch(), reinterpret_cast<const void*>(user.context.extended_state), bytes);
  if (!IsExtendedState(Scratch(), traps)) return false;

  Restore(Scratch(), traps.features);
  state.mask = mask;
  ReadContext(*guest, user.context);
  ++pool->answered;
  return true;
}
