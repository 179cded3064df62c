#include "hostcalls/memory/guest_memory.h"

#include <algorithm>
#include <bit>
#include <utility>

namespace dunebox::hostcalls {
namespace {

struct Fixup {
  std::uint64_t fault_rip;
  std::uint64_t continue_rip;
};

extern "C" {
std::uint64_t dunebox_copy_bytes(void* to, const void* from, std::uint64_t bytes);
int dunebox_move_1(void* to, const void* from);
int dunebox_move_2(void* to, const void* from);
int dunebox_move_4(void* to, const void* from);
int dunebox_move_8(void* to, const void* from);
std::int64_t dunebox_copy_string(char* to, const void* from, std::uint64_t limit);
int dunebox_probe_byte(const void* address);
int dunebox_compare_exchange(void* address, std::uint32_t expected, std::uint32_t desired);
extern const Fixup dunebox_copy_fixups[];
}

bool MoveAtOnce(void* to, const void* from, std::size_t size) {
  if (size == sizeof(std::uint64_t)) return dunebox_move_8(to, from) == 0;  // each call's return address
  constexpr int (*kMoves[])(void*, const void*) = {dunebox_move_1, dunebox_move_2, dunebox_move_4,
                                                   dunebox_move_8};
  return kMoves[std::countr_zero(size)](to, from) == 0;
}

}  // namespace

bool GuestMemory::IsInside(std::uint64_t address, std::uint64_t size) const {
  // Linux accepts any address below the limit with size 0, NULL included.
  if (size == 0) return address <= window_.limit;
  return address >= window_.lowest && address < window_.limit && size <= window_.limit - address;
}

bool GuestMemory::Contains(std::uint64_t address, std::uint64_t size) const {
  if (!IsInside(address, size)) return false;
  if (size == 0) return true;
  if (watcher_ != nullptr && watcher_->is_watching()) watcher_->BeforeAccess(address, size);
  return true;
}

bool GuestMemory::Contains(const GuestRange& range) const {
  return range.start <= range.end && Contains(range.start.value, range.size());
}

void* GuestMemory::HostAddress(std::uint64_t address, std::uint64_t size) const {
  if (!Contains(address, size)) return nullptr;
  return reinterpret_cast<void*>(window_.base + address);
}

GuestVirt GuestMemory::GuestAddress(const void* host) const {
  return {reinterpret_cast<std::uint64_t>(host) - window_.base};
}

bool GuestMemory::Read(std::uint64_t from, std::span<std::byte> to) const {
  if (to.empty()) return true;
  if (!IsInside(from, to.size())) return false;
  const auto* source = reinterpret_cast<const void*>(window_.base + from);
  return dunebox_copy_bytes(to.data(), source, to.size()) == 0;
}

bool GuestMemory::Write(std::uint64_t to, std::span<const std::byte> from) const {
  if (from.empty()) return true;
  void* target = HostAddress(to, from.size());
  return target != nullptr && dunebox_copy_bytes(target, from.data(), from.size()) == 0;
}

bool GuestMemory::ReadAtOnce(std::uint64_t from, std::span<std::byte> to) const {
  if (!IsInside(from, to.size())) return false;
  return MoveAtOnce(to.data(), reinterpret_cast<const void*>(window_.base + from), to.size());
}

bool GuestMemory::WriteAtOnce(std::uint64_t to, std::span<const std::byte> from) const {
  void* target = HostAddress(to, from.size());
  return target != nullptr && MoveAtOnce(target, from.data(), from.size());
}

CopyResult<std::string> GuestMemory::CopyInString(std::uint64_t from, std::size_t limit,
                                                  Errno too_long) const {
  if (!IsInside(from, 1)) return Errno{EFAULT};
  // A string that runs out of the window faults there; the NUL has to come before.
  const std::uint64_t room = std::min<std::uint64_t>(limit + 1, window_.limit - from);
  // Most paths are short: do not pay for clearing the limit's worth of bytes.
  std::string text;
  std::uint64_t capacity = std::min<std::uint64_t>(room, 256);
  for (;;) {
    text.resize(capacity);
    const std::uint64_t start = window_.base + from;
    const std::int64_t copied =
        dunebox_copy_string(text.data(), reinterpret_cast<const void*>(start), capacity);
    if (copied < 0) return Errno{EFAULT};
    const auto length = static_cast<std::uint64_t>(copied);
    if (length < capacity) {
      text.resize(length);
      return text;
    }
    if (capacity == room) break;
    capacity = room;  // second and last pass; the copy that ends is the one used
  }
  return room == limit + 1 ? too_long : Errno{EFAULT};
}

GuestMemory::Exchange GuestMemory::CompareExchange(std::uint64_t address, std::uint32_t expected,
                                                   std::uint32_t desired) const {
  void* host = HostAddress(address, sizeof(expected));
  if (host == nullptr || address % sizeof(expected) != 0) return Exchange::kFault;
  switch (dunebox_compare_exchange(host, expected, desired)) {
    case 0:
      return Exchange::kDone;
    case 1:
      return Exchange::kOtherValue;
    default:
      return Exchange::kFault;
  }
}

bool GuestMemory::Probe(std::uint64_t address) const {
  const void* host = HostAddress(address, 1);
  return host != nullptr && dunebox_probe_byte(host) == 0;
}

std::uint64_t CopyFixupFor(std::uint64_t rip) {
  for (const Fixup* row = dunebox_copy_fixups; row->fault_rip != 0; ++row) {
    if (row->fault_rip == rip) return row->continue_rip;
  }
  return 0;
}

}  // namespace dunebox::hostcalls
