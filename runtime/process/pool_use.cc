#include "runtime/process/pool_use.h"

#include <sys/syscall.h>

#include <algorithm>

#include "runtime/process/guest_thread.h"
#include "runtime/process/process.h"

namespace dunebox::process {
namespace {

// A frame's parts besides the extended state, with the red zone and what alignment takes, generously.
constexpr std::uint64_t kFrameBytes = 4096;
// An opening that saved fewer exits than this was not worth it.
constexpr std::uint64_t kWorthwhile = 4;

bool IsMemoryCall(std::uint64_t number) {
  return number == SYS_mmap || number == SYS_munmap || number == SYS_mprotect ||
         number == SYS_madvise;
}

bool MayLend(GuestThread& thread) {
  return thread.engine->uses_known_answers() && thread.owner.trace() == nullptr &&
         thread.owner.HasOneThread() && !thread.owner.is_vforked();
}

}  // namespace

void CloseForFrame(GuestThread& thread) {
  memory::AddressSpace& space = thread.owner.space();
  if (!space.HasOpenPool()) return;
  const std::uint64_t around = thread.engine->extended_state_size() + kFrameBytes;
  const std::uint64_t rsp = thread.registers.rsp;
  const GuestRange stack{GuestVirt{rsp - std::min(rsp, around)}, GuestVirt{rsp + around}};
  const signals::AlternateStack& alternate = thread.signal.alternate_stack;
  const GuestRange other{GuestVirt{alternate.base}, GuestVirt{alternate.base + alternate.size}};
  if (space.IsInOpenPool(stack) || space.IsInOpenPool(other)) space.ClosePool();
}

void PoolUse::BeforeCall(GuestThread& thread, std::uint64_t number) {
  memory::AddressSpace& space = thread.owner.space();
  if (!space.HasOpenPool()) return;
  if (number == SYS_rt_sigreturn) {
    CloseForFrame(thread);
    return;
  }
  const bool worthwhile = space.ClosePool() >= kWorthwhile;
  needed_ = worthwhile ? kLeastRow : std::min(2 * needed_, kLongestRow);
  row_ = 0;
}

void PoolUse::AfterCall(GuestThread& thread, std::uint64_t number) {
  if (number == SYS_rt_sigreturn) return;
  if (IsMemoryCall(number)) {
    OpenAfterRow(thread);
  } else {
    row_ = 0;
  }
}

void PoolUse::AfterFault(GuestThread& thread, const runtime::Fault& fault) {
  if (fault.vector != dune::x86::Vector::kPageFault || fault.memory_error) return;
  if (MayLend(thread) && thread.owner.space().IsPoolsPlace(GuestVirt{fault.address})) {
    OpenAfterRow(thread);
  }
}

void PoolUse::OpenAfterRow(GuestThread& thread) {
  if (++row_ >= needed_ && MayLend(thread)) thread.owner.space().OpenPool();
}

}  // namespace dunebox::process
