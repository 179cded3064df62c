#include "runtime/process/pool_use.h"

#include <sys/mman.h>
#include <sys/syscall.h>

#include <algorithm>

#include "runtime/process/guest_thread.h"
#include "runtime/process/process.h"

namespace dunebox::process {
namespace {

// A frame's parts besides the extended state, with the red zone and what alignment takes, generously.
constexpr std::uint64_t kFrameBytes = 4096;
constexpr std::uint64_t kLargeMapping = std::uint64_t{2} << 20;
// An opening that saved fewer exits than this was not worth it.
constexpr std::uint64_t kWorthwhile = 4;

bool MayLend(GuestThread& thread) {
  return thread.engine->uses_known_answers() && thread.owner.trace() == nullptr &&
         thread.owner.session().gdb.fd < 0 &&
         thread.owner.HasOneThread() && !thread.owner.is_vforked();
}

// Could ring 0 have answered it, nearly? Not the loader's: files, and the rights of their segments.
bool IsOfTheKind(GuestThread& thread, const hostcalls::Request& request) {
  const auto& arguments = request.arguments;
  switch (request.number) {
    case SYS_mmap:
      return arguments[0] == 0 && arguments[1] < kLargeMapping &&
             (arguments[3] & MAP_ANONYMOUS) != 0 && MayLend(thread);
    case SYS_munmap:
    case SYS_mprotect:
    case SYS_madvise:
      return MayLend(thread) && thread.owner.space().IsPoolsPlace(GuestVirt{arguments[0]});
    default:
      return false;
  }
}

}  // namespace

void PoolUse::CloseForFrame(GuestThread& thread) {
  const memory::AddressSpace& space = thread.owner.space();
  if (!space.HasOpenPool()) return;
  const std::uint64_t around = thread.engine->extended_state_size() + kFrameBytes;
  const std::uint64_t rsp = thread.registers.rsp;
  const GuestRange stack{GuestVirt{rsp - std::min(rsp, around)}, GuestVirt{rsp + around}};
  const signals::AlternateStack& alternate = thread.signal.alternate_stack;
  const GuestRange other{GuestVirt{alternate.base}, GuestVirt{alternate.base + alternate.size}};
  if (space.IsInOpenPool(stack) || space.IsInOpenPool(other)) Close(thread);
}

void PoolUse::BeforeCall(GuestThread& thread, std::uint64_t number) {
  if (!thread.owner.space().HasOpenPool()) return;
  if (number == SYS_rt_sigreturn) {
    CloseForFrame(thread);
  } else {
    Close(thread);
  }
}

void PoolUse::Close(GuestThread& thread) {
  const bool worthwhile = thread.owner.space().ClosePool() >= kWorthwhile;
  needed_ = worthwhile ? kLeastRow : std::min(2 * needed_, kLongestRow);
  row_ = 0;
}

void PoolUse::AfterCall(GuestThread& thread, const hostcalls::Request& request) {
  if (request.number == SYS_rt_sigreturn) return;
  if (IsOfTheKind(thread, request)) {
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
  if (++row_ >= needed_) thread.owner.space().OpenPool();
}

}  // namespace dunebox::process
