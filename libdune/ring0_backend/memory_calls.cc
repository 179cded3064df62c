// Changes of the address space: the mirror's entries first, then the kernel's call on the same
// range, which makes every processor forget what it has translated. With the lock, so that no page
// fault brings back what is going.
#include <linux/mman.h>
#include <sys/mman.h>

#include "libdune/ring0_backend/clones.h"
#include "libdune/ring0_backend/mirror.h"
#include "libdune/ring0_backend/raw_call.h"
#include "libdune/ring0_backend/run_loop.h"

namespace dune::ring0 {

std::int64_t MapMemory(Thread* thread, const SystemCall& call) {
  if ((call.arguments[3] & MAP_FIXED) == 0) return HostCall(thread, call);
  const LoopLock::Holder holder(vm.lock);
  Forget(call.arguments[0], call.arguments[1]);
  return HostCall(thread, call);
}

std::int64_t UnmapMemory(Thread* thread, const SystemCall& call) {
  const LoopLock::Holder holder(vm.lock);
  Forget(call.arguments[0], call.arguments[1]);
  return HostCall(thread, call);
}

std::int64_t ProtectMemory(Thread* thread, const SystemCall& call) {
  const LoopLock::Holder holder(vm.lock);
  if ((call.arguments[2] & PROT_READ) == 0) KeepRange(call.arguments[0], call.arguments[1]);
  Drop(call.arguments[0], call.arguments[1]);
  return HostCall(thread, call);
}

std::int64_t MoveMemory(Thread* thread, const SystemCall& call) {
  const LoopLock::Holder holder(vm.lock);
  Forget(call.arguments[0], call.arguments[1]);
  if ((call.arguments[3] & MREMAP_FIXED) != 0) Forget(call.arguments[4], call.arguments[2]);
  return HostCall(thread, call);
}

std::int64_t MoveBreak(Thread* thread, const SystemCall& call) {
  const LoopLock::Holder holder(vm.lock);
  const auto now = static_cast<std::uint64_t>(RawCall(SYS_brk, 0));
  const std::uint64_t wanted = call.arguments[0];
  if (wanted != 0 && wanted < now) {
    const std::uint64_t begin = (wanted + kPage - 1) & ~(kPage - 1);
    if (begin < now) Forget(begin, now - begin);
  }
  return HostCall(thread, call);
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

}  // namespace dune::ring0
