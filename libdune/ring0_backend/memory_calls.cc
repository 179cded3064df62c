// Changes of the address space: the mirror's entries are dropped first, and the kernel's call on the same range then makes every
// processor forget what it has translated. What is known of the pages (limits, tracking) is forgotten when they are known to have
// gone: a call may fail. With the lock, so that no page fault brings back what is going.
#include <linux/mman.h>
#include <sys/mman.h>
#include <sys/shm.h>

#include "libdune/ring0_backend/clones.h"
#include "libdune/ring0_backend/mirror.h"
#include "libdune/ring0_backend/raw_call.h"
#include "libdune/ring0_backend/run_loop.h"

namespace dune::ring0 {

namespace {

bool HasFailed(std::int64_t result) { return result < 0 && result > -4096; }

void BeginChange(std::uint64_t begin, std::uint64_t size) {
  KeepRange(begin, size);
  Drop(begin, size);
}

// Where the call has failed it may still have taken something away.
void EndChange(std::int64_t result, std::uint64_t begin, std::uint64_t size) {
  if (result == kMakeAgain) return;
  if (HasFailed(result)) {
    ForgetUnmapped(begin, size);
  } else {
    Forget(begin, size);
  }
}

}  // namespace

std::int64_t MapMemory(Thread* thread, const SystemCall& call) {
  if ((call.arguments[3] & MAP_FIXED) == 0) {
    const std::int64_t result = HostCall(thread, call);
    // The addresses may be another thread's of just now, whose munmap has still to forget them.
    const LoopLock::Holder holder(vm.lock);
    return result;
  }
  const LoopLock::Holder holder(vm.lock);
  BeginChange(call.arguments[0], call.arguments[1]);
  const std::int64_t result = HostCall(thread, call);
  EndChange(result, call.arguments[0], call.arguments[1]);
  return result;
}

std::int64_t UnmapMemory(Thread* thread, const SystemCall& call) {
  const LoopLock::Holder holder(vm.lock);
  BeginChange(call.arguments[0], call.arguments[1]);
  const std::int64_t result = HostCall(thread, call);
  EndChange(result, call.arguments[0], call.arguments[1]);
  return result;
}

std::int64_t ProtectMemory(Thread* thread, const SystemCall& call) {
  const LoopLock::Holder holder(vm.lock);
  if ((call.arguments[2] & PROT_READ) == 0) KeepRange(call.arguments[0], call.arguments[1]);
  Drop(call.arguments[0], call.arguments[1]);
  return HostCall(thread, call);
}

std::int64_t MoveMemory(Thread* thread, const SystemCall& call) {
  const std::uint64_t begin = call.arguments[0], size = call.arguments[1], new_size = call.arguments[2];
  const bool has_target = (call.arguments[3] & MREMAP_FIXED) != 0;
  const LoopLock::Holder holder(vm.lock);
  BeginChange(begin, size);
  if (has_target) BeginChange(call.arguments[4], new_size);
  const std::int64_t result = HostCall(thread, call);
  if (static_cast<std::uint64_t>(result) != begin) {
    EndChange(result, begin, size);
  } else if (new_size < size) {
    // What stays where it is stays known.
    const std::uint64_t kept = (new_size + kPage - 1) & ~(kPage - 1);
    if (kept < size) EndChange(result, begin + kept, size - kept);
  }
  if (has_target) EndChange(result, call.arguments[4], new_size);
  return result;
}

std::int64_t MoveBreak(Thread* thread, const SystemCall& call) {
  const LoopLock::Holder holder(vm.lock);
  const auto now = static_cast<std::uint64_t>(RawCall(SYS_brk, 0));
  const std::uint64_t begin = (call.arguments[0] + kPage - 1) & ~(kPage - 1);
  const bool shrinks = call.arguments[0] != 0 && begin < now;
  if (shrinks) BeginChange(begin, now - begin);
  const std::int64_t result = HostCall(thread, call);
  // It answers where the end is, moved or not.
  if (shrinks && static_cast<std::uint64_t>(result) == call.arguments[0]) Forget(begin, now - begin);
  return result;
}

std::int64_t AdviseMemory(Thread* thread, const SystemCall& call) {
  switch (call.arguments[2]) {
    case MADV_DONTNEED:
    case MADV_FREE:
    case MADV_REMOVE: {
      const LoopLock::Holder holder(vm.lock);
      KeepRange(call.arguments[0], call.arguments[1]);
      break;
    }
    default:
      break;
  }
  return HostCall(thread, call);
}

// SHM_REMAP replaces as MAP_FIXED does, as much as the segment has.
std::int64_t AttachMemory(Thread* thread, const SystemCall& call) {
  const LoopLock::Holder holder(vm.lock);
  shmid_ds segment{};
  const bool replaces = (call.arguments[2] & SHM_REMAP) != 0 &&
                        RawCall(SYS_shmctl, call.arguments[0], IPC_STAT, &segment) == 0;
  const std::uint64_t begin = call.arguments[1] & ~(kPage - 1);
  if (replaces) BeginChange(begin, segment.shm_segsz);
  const std::int64_t result = HostCall(thread, call);
  if (replaces) EndChange(result, begin, segment.shm_segsz);
  return result;
}

// How much goes only the kernel knows: at most what is there without a hole. What stays is found again.
std::int64_t DetachMemory(Thread* thread, const SystemCall& call) {
  const LoopLock::Holder holder(vm.lock);
  const std::uint64_t begin = call.arguments[0];
  std::uint64_t end = begin;
  for (Area area; end < kAddressesEnd && vm.maps.Find(end, &area); end = area.end) {
  }
  BeginChange(begin, end - begin);
  const std::int64_t result = HostCall(thread, call);
  if (result != kMakeAgain) ForgetUnmapped(begin, end - begin);
  return result;
}

}  // namespace dune::ring0
