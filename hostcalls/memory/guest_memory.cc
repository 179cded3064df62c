#include "hostcalls/memory/guest_memory.h"

#include <algorithm>
#include <bit>
#include <cstring>
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
  constexpr int (*kMoves[])(void*, const void*) = {dunebox_move_1, dunebox_move_2, dunebox_move_4,
                                                   dunebox_move_8};
  return kMoves[std::countr_zero(size)](to, from) == 0;
}

}  // namespace

bool GuestMemory::Contains(std::uint64_t address, std::uint64_t size) const {
  if (!IsInside(address, size)) return false;
  if (size == 0) return true;
  if (watcher_ != nullptr && watcher_->is_watching()) watcher_->BeforeAccess(address, size);
  return true;
}

bool GuestMemory::Contains(const GuestRange& range) const {
  return range.start <= range.end && Contains(range.start.value, range.size());
}

bool GuestMemory::ForEachPage(
    std::uint64_t address, std::size_t size, PagedMemory::Use use,
    absl::FunctionRef<void(std::byte* bytes, std::size_t before, std::size_t size)> visit) const {
  if (!Contains(address, size)) return false;
  for (std::size_t done = 0; done < size;) {
    const std::size_t part = std::min<std::uint64_t>(size - done, kPageSize - (address + done) % kPageSize);
    if (!pages_->With(address + done, part, use, [&](std::byte* bytes) { visit(bytes, done, part); })) {
      return false;
    }
    done += part;
  }
  return true;
}

void* GuestMemory::HostAddress(std::uint64_t address, std::uint64_t size) const {
  if (pages_ != nullptr || !Contains(address, size)) return nullptr;
  return reinterpret_cast<void*>(window_.base + address);
}

GuestVirt GuestMemory::GuestAddress(const void* host) const {
  return {reinterpret_cast<std::uint64_t>(host) - window_.base};
}

bool GuestMemory::Read(std::uint64_t from, std::span<std::byte> to) const {
  if (to.empty()) return true;
  if (pages_ != nullptr) {
    return ForEachPage(from, to.size(), PagedMemory::Use::kRead,
                       [&](const std::byte* bytes, std::size_t before, std::size_t size) {
                         std::memcpy(to.data() + before, bytes, size);
                       });
  }
  if (!IsInside(from, to.size())) return false;
  const auto* source = reinterpret_cast<const void*>(window_.base + from);
  return dunebox_copy_bytes(to.data(), source, to.size()) == 0;
}

bool GuestMemory::Write(std::uint64_t to, std::span<const std::byte> from) const {
  if (from.empty()) return true;
  if (pages_ != nullptr) {
    return ForEachPage(to, from.size(), PagedMemory::Use::kWrite,
                       [&](std::byte* bytes, std::size_t before, std::size_t size) {
                         std::memcpy(bytes, from.data() + before, size);
                       });
  }
  void* target = HostAddress(to, from.size());
  return target != nullptr && dunebox_copy_bytes(target, from.data(), from.size()) == 0;
}

bool GuestMemory::ReadAtOnce(std::uint64_t from, std::span<std::byte> to) const {
  if (pages_ != nullptr) {
    return ForEachPage(from, to.size(), PagedMemory::Use::kRead,
                       [&](const std::byte* bytes, std::size_t before, std::size_t size) {
                         size == to.size() ? void(MoveAtOnce(to.data(), bytes, size))
                                           : void(std::memcpy(to.data() + before, bytes, size));
                       });
  }
  if (!IsInside(from, to.size())) return false;
  return MoveAtOnce(to.data(), reinterpret_cast<const void*>(window_.base + from), to.size());
}

bool GuestMemory::WriteAtOnce(std::uint64_t to, std::span<const std::byte> from) const {
  if (pages_ != nullptr) {
    return ForEachPage(to, from.size(), PagedMemory::Use::kWrite,
                       [&](std::byte* bytes, std::size_t before, std::size_t size) {
                         size == from.size() ? void(MoveAtOnce(bytes, from.data(), size))
                                             : void(std::memcpy(bytes, from.data() + before, size));
                       });
  }
  void* target = HostAddress(to, from.size());
  return target != nullptr && MoveAtOnce(target, from.data(), from.size());
}

CopyResult<std::string> GuestMemory::CopyInString(std::uint64_t from, std::size_t limit,
                                                  Errno too_long) const {
  if (pages_ != nullptr) return CopyInStringByPages(from, limit, too_long);
  if (!IsInside(from, 1)) return Errno{EFAULT};
  // A string that runs out of the window faults there; the NUL has to come before.
  const std::uint64_t room = std::min<std::uint64_t>(limit + 1, window_.limit - from);
  // Most paths are short: do not pay for clearing the limit's worth of bytes.
  std::string text;
  constexpr std::uint64_t kFirst = 256;
  std::uint64_t capacity = std::min(room, kFirst);
  for (;;) {
    text.resize(capacity);
    const std::uint64_t start = window_.base + from;
    const std::int64_t copied =
        dunebox_copy_string(text.data(), reinterpret_cast<const void*>(start), capacity);
    if (copied < 0) return Errno{EFAULT};
    const auto length = static_cast<std::uint64_t>(copied);
    if (length < capacity) {
      text.resize(length);
      if (capacity > kFirst) text.shrink_to_fit();  // arguments and environments are kept for a while
      return text;
    }
    if (capacity == room) break;
    capacity = std::min(room, 16 * capacity);  // the copy that ends is the one used
  }
  return room == limit + 1 ? too_long : Errno{EFAULT};
}

CopyResult<std::string> GuestMemory::CopyInStringByPages(std::uint64_t from, std::size_t limit,
                                                         Errno too_long) const {
  std::string text;
  while (text.size() <= limit) {
    const std::uint64_t at = from + text.size();
    const std::size_t part =
        std::min<std::uint64_t>(limit + 1 - text.size(), kPageSize - at % kPageSize);
    bool has_ended = false;
    if (!ForEachPage(at, part, PagedMemory::Use::kRead,
                     [&](const std::byte* bytes, std::size_t, std::size_t size) {
                       const std::size_t length = strnlen(reinterpret_cast<const char*>(bytes), size);
                       has_ended = length < size;
                       text.append(reinterpret_cast<const char*>(bytes), length);
                     })) {
      return Errno{EFAULT};
    }
    if (has_ended) return text;
  }
  return too_long;
}

GuestMemory::Exchange GuestMemory::CompareExchange(std::uint64_t address, std::uint32_t expected,
                                                   std::uint32_t desired) const {
  if (pages_ != nullptr) {
    Exchange result = Exchange::kFault;
    if (address % sizeof(expected) != 0) return result;
    (void)ForEachPage(address, sizeof(expected), PagedMemory::Use::kWrite,
                      [&](std::byte* bytes, std::size_t, std::size_t) {
                        const int moved = dunebox_compare_exchange(bytes, expected, desired);
                        result = moved == 0 ? Exchange::kDone : Exchange::kOtherValue;
                      });
    return result;
  }
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
  if (pages_ != nullptr) {
    return ForEachPage(address, 1, PagedMemory::Use::kRead, [](std::byte*, std::size_t, std::size_t) {});
  }
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
