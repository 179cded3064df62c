#include "runtime/process/pool_use.h"

#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <algorithm>
#include <utility>

#include "hostcalls/dispatch/arguments.h"
#include "runtime/process/guest_thread.h"
#include "runtime/process/process.h"

namespace dunebox::process {
namespace {

using hostcalls::Request;

// A frame's parts besides the extended state, with the red zone and what alignment takes, generously.
constexpr std::uint64_t kFrameBytes = 4096;
constexpr std::uint64_t kLargeMapping = std::uint64_t{2} << 20;
// An opening that saved fewer exits than this was not worth it.
constexpr std::uint64_t kWorthwhile = 4;

// Whether there can be a pool at all. What a vforked child does, its parent waits for in a call of its own.
bool MayHavePool(const GuestThread& thread) {
  return thread.engine->uses_known_answers() && thread.owner.trace() == nullptr &&
         thread.owner.session().gdb.fd < 0 && !thread.owner.is_vforked();
}

bool IsPoolsPlace(const GuestThread& thread, std::uint64_t address) {
  return thread.owner.space().IsPoolsPlace(GuestVirt{address});
}

// Whether the kernel, or we, could find something else in the range than the program has there.
bool Matters(const GuestThread& thread, const GuestRange& place, const GuestRange& range) {
  const memory::AddressSpace& space = thread.owner.space();
  if (!place.Overlaps(range) && !space.OpenHeap().Overlaps(range)) return false;
  // Another thread could change the pool meanwhile.
  return !thread.owner.HasOneThread() || !space.PoolHolds(range);
}

// Could ring 0 have answered it, nearly? Not the loader's: files, and the rights of their segments.
bool IsOfTheKind(GuestThread& thread, const Request& request) {
  const auto& arguments = request.arguments;
  switch (request.number) {
    case SYS_mmap:
      return arguments[0] == 0 && arguments[1] < kLargeMapping &&
             (arguments[3] & MAP_ANONYMOUS) != 0 && MayHavePool(thread);
    case SYS_brk:
      return arguments[0] != 0 && thread.owner.HasOneThread() && MayHavePool(thread);
    case SYS_munmap:
    case SYS_mprotect:
    case SYS_madvise:
      return IsPoolsPlace(thread, arguments[0]) && MayHavePool(thread);
    default:
      return false;
  }
}

bool MayBeginThread(std::uint64_t number) {
  return number == SYS_clone || number == SYS_clone3 || number == SYS_fork || number == SYS_vfork;
}

// To wait for a word, or to wake who does: all that the kernel looks at is the word, and the time, both before it
// waits.
bool IsPlainFutex(const Request& request) {
  if (request.number != SYS_futex) return false;
  const int operation = static_cast<int>(request.arguments[1]) & FUTEX_CMD_MASK;
  return operation == FUTEX_WAIT || operation == FUTEX_WAKE || operation == FUTEX_WAIT_BITSET ||
         operation == FUTEX_WAKE_BITSET;
}

// Handled ones whose rows say what memory they look at, and which change nothing that ring 0 goes by.
constexpr std::uint64_t kHandledAsTold[] = {SYS_poll, SYS_rt_sigprocmask, SYS_rt_sigpending, SYS_kill, SYS_tkill, SYS_tgkill};

// Where the heap ends, which ring 0 answers if it decides that.
bool IsHeapQuestion(const Request& request) {
  return request.number == SYS_brk && request.arguments[0] == 0;
}

bool MayTouch(const GuestThread& thread, const Request& request, const GuestRange& place) {
  const auto matters = [&](const GuestRange& range) { return Matters(thread, place, range); };
  if (IsPlainFutex(request)) {
    constexpr std::uint64_t kWord = 4;
    const GuestVirt word{request.arguments[0]}, time{request.arguments[3]};
    return matters({word, word + kWord}) || matters({time, time + sizeof(timespec)});
  }
  const hostcalls::Row* row = hostcalls::FindRow(request.number);
  const bool tells = row != nullptr && (row->route == hostcalls::Route::kForwarded ||
                                        std::ranges::count(kHandledAsTold, request.number) != 0);
  return !tells || hostcalls::MayTouch(*row, request.arguments, matters);
}

}  // namespace

void PoolWorth::OnClose(std::uint64_t answered) {
  const unsigned needed = answered >= kWorthwhile ? kLeastRow : std::min(2 * this->needed(), kLongestRow);
  needed_.store(needed, std::memory_order_relaxed);
}

PoolPause::PoolPause(GuestThread& thread) : space_(&thread.owner.space()) {
  const std::uint64_t opening = space_->pool_opening();
  const bool was_open = space_->HasOpenPool();
  const std::uint64_t answered = space_->BeginUse();
  if (was_open && opening == space_->pool_opening()) thread.owner.pool_worth().OnClose(answered);
}

std::optional<PoolPause> PoolUse::PauseForFrame(GuestThread& thread) const {
  std::optional<PoolPause> pause;
  if (!MayHavePool(thread)) return pause;
  const auto place = thread.owner.space().PoolsPlace();
  const std::uint64_t around = thread.engine->extended_state_size() + kFrameBytes;
  const std::uint64_t rsp = thread.registers.rsp;
  const GuestRange stack{GuestVirt{rsp - std::min(rsp, around)}, GuestVirt{rsp + around}};
  const signals::AlternateStack& alternate = thread.signal.alternate_stack;
  const GuestRange other{GuestVirt{alternate.base}, GuestVirt{alternate.base + alternate.size}};
  if (!place || Matters(thread, *place, stack) || Matters(thread, *place, other)) {
    pause.emplace(thread);
  }
  return pause;
}

// Nobody else is there who could open it, and no row would end: nothing of what follows is needed.
bool PoolUse::StaysClosed(const GuestThread& thread, std::uint64_t number) const {
  return row_ == 0 && !thread.owner.space().HasOpenPool() && thread.owner.HasOneThread() &&
         !MayBeginThread(number);
}

void PoolUse::BeforeCall(GuestThread& thread, const Request& request) {
  if (StaysClosed(thread, request.number)) return;
  if (!MayHavePool(thread) || IsHeapQuestion(request)) return;
  if (request.number == SYS_rt_sigreturn) {
    if (auto pause = PauseForFrame(thread)) call_.emplace(*std::move(pause));
    return;
  }
  const auto place = thread.owner.space().PoolsPlace();
  if (place && !MayTouch(thread, request, *place)) return;
  call_.emplace(thread);
  // Whoever sleeps does not keep the others from it.
  if (IsPlainFutex(request)) call_.reset();
}

void PoolUse::AfterCall(GuestThread& thread, const Request& request) {
  const bool was_closed = call_.has_value();
  call_.reset();
  if (request.number == SYS_rt_sigreturn) return;
  if (IsOfTheKind(thread, request)) {
    OpenAfterRow(thread);
  } else if (was_closed) {
    row_ = 0;
  }
}

void PoolUse::AfterFault(GuestThread& thread, const runtime::Fault& fault) {
  if (fault.vector != dune::x86::Vector::kPageFault || fault.memory_error) return;
  if (MayHavePool(thread) && IsPoolsPlace(thread, fault.address)) OpenAfterRow(thread);
}

void PoolUse::OpenAfterRow(GuestThread& thread) {
  PoolWorth& worth = thread.owner.pool_worth();
  worth.OnMiss();
  if (!worth.IsWanted(++row_)) {
    thread.owner.space().PlacePool();
    return;
  }
  using Heap = memory::AddressSpace::PoolsHeap;
  const Heap heap = thread.owner.HasOneThread() ? Heap::kYes : Heap::kNo;
  if (thread.owner.space().OpenPool(heap)) {
    row_ = 0;
    worth.OnOpen();
  }
}

}  // namespace dunebox::process
