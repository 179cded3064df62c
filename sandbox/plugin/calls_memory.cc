// A plugin's memory: its window's address space, with files by their virtual numbers.
#include <sys/mman.h>

#include "sandbox/plugin/calls.h"

namespace dunebox::plugin::calls {
namespace {

using hostcalls::Errno;
using hostcalls::SyscallResult;

// No locked and no huge pages: those are the host's to spend.
constexpr int kFlags = MAP_TYPE | MAP_FIXED | MAP_FIXED_NOREPLACE | MAP_ANONYMOUS | MAP_NORESERVE |
                       MAP_STACK | MAP_32BIT | MAP_DENYWRITE;

// The host's process has some 65,000 mappings for all that is in it. A call makes three more at the most. What
// makes more of them than the map says is bounded where it is done: in jit's CodePages.
constexpr std::size_t kMostMappings = 4096;

bool HasRoomForMappings(const Calling& call) {
  bool has_room = false;
  call.kernel.space().LookAtMap([&](const memory::VmaMap& map) { has_room = map.size() < kMostMappings; });
  return has_room;
}

// Would unmapping the range make two mappings of one?
bool IsInMiddle(const Calling& call) {
  bool is_in_middle = false;
  call.kernel.space().LookAtMap([&](const memory::VmaMap& map) {
    const memory::Vma* const vma = map.Find(GuestVirt{call[0]});
    is_in_middle = vma != nullptr && vma->range.start.value < call[0] &&
                   vma->range.end.value - call[0] > PageUp(call[1]);
  });
  return is_in_middle;
}

}  // namespace

SyscallResult Map(const Calling& call) {
  memory::MapRequest request{.address = call[0],
                             .length = call[1],
                             .prot = call.Int(2),
                             .flags = call.Int(3) & kFlags,
                             .offset = call[5]};
  if (!IsPageAligned(call[5])) return Errno{EINVAL};
  if (!HasRoomForMappings(call)) return Errno{ENOMEM};
  if ((request.flags & MAP_ANONYMOUS) != 0) {
    // There is no other process that could have it in common; and memory that is private is counted.
    request.flags = (request.flags & ~MAP_TYPE) | MAP_PRIVATE;
    return call.kernel.space().Map(request);
  }
  const auto file = call.kernel.descriptors().Find(call.Int(4));
  if (file == nullptr) return Errno{EBADF};
  if (file->kind != OpenFile::Kind::kFile) return Errno{ENODEV};
  if ((request.prot & PROT_EXEC) != 0 && !file->is_executable) return Errno{EPERM};
  request.fd = file->host.get();
  return call.kernel.space().Map(request);
}

SyscallResult Unmap(const Calling& call) {
  if (!HasRoomForMappings(call) && IsInMiddle(call)) return Errno{ENOMEM};
  return call.kernel.space().Unmap(call[0], call[1]);
}

SyscallResult Protect(const Calling& call) {
  if (!HasRoomForMappings(call)) return Errno{ENOMEM};
  return call.kernel.space().Protect(call[0], call[1], call.Int(2));
}

SyscallResult Remap(const Calling& call) {
  if (!HasRoomForMappings(call)) return Errno{ENOMEM};
  return call.kernel.space().Remap({.old_address = call[0],
                                    .old_length = call[1],
                                    .new_length = call[2],
                                    .flags = call.Int(3),
                                    .new_address = call[4]});
}

// What gives memory back, or says how it will be used; the kernel makes mappings of their own of what is to be
// used in other ways, so of that it is not told. Some of the others change what a fork or a sibling of the host's sees.
SyscallResult Advise(const Calling& call) {
  switch (call.Int(2)) {
    case MADV_NORMAL:
    case MADV_RANDOM:
    case MADV_SEQUENTIAL:
    case MADV_HUGEPAGE:
    case MADV_NOHUGEPAGE:
      return IsPageAligned(call[0]) ? hostcalls::kSuccess : SyscallResult(Errno{EINVAL});
    case MADV_DONTNEED:
    case MADV_FREE:
      // In a view of an image it makes mappings, too.
      if (!HasRoomForMappings(call)) return Errno{ENOMEM};
      [[fallthrough]];
    case MADV_WILLNEED:
      return call.kernel.space().Advise(call[0], call[1], call.Int(2));
    default:
      return Errno{EINVAL};
  }
}

SyscallResult Break(const Calling& call) { return call.kernel.space().Break(call[0]); }

}  // namespace dunebox::plugin::calls
