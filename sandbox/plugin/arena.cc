#include "sandbox/plugin/arena.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <iterator>

namespace dunebox::plugin {
namespace {

constexpr std::uint64_t kUnit = 64;
constexpr std::uint64_t kChunk = std::uint64_t{1} << 20;

std::uint64_t RoundUp(std::uint64_t bytes) {
  return std::max((bytes + kUnit - 1) / kUnit, std::uint64_t{1}) * kUnit;
}

}  // namespace

absl::StatusOr<GuestRange> MapShared(memory::AddressSpace& space, int fd, std::uint64_t bytes) {
  const hostcalls::SyscallResult mapped = space.Map({.length = bytes,
                                                     .prot = PROT_READ | PROT_WRITE,
                                                     .flags = MAP_SHARED | MAP_NORESERVE,
                                                     .fd = fd});
  if (!mapped.ok()) return absl::ResourceExhaustedError("no room in the sandbox's memory");
  const GuestVirt start{mapped.ToRegister()};
  const GuestRange range{start, start + bytes};
  space.AddSealed(range, {.read = true, .write = true}, "[shared with the host]",
                  memory::Sharing::kShared);
  return range;
}

absl::StatusOr<GuestRange> MapPrivate(memory::AddressSpace& space, std::uint64_t bytes) {
  const hostcalls::SyscallResult mapped = space.MapForHost(bytes, "[shared with the host]");
  if (!mapped.ok()) return absl::ResourceExhaustedError("no room in the sandbox's memory");
  const GuestVirt start{mapped.ToRegister()};
  return GuestRange{start, start + bytes};
}

void Arena::GiveBack(std::uint64_t address, std::uint64_t bytes) {
  auto next = free_.lower_bound(address);
  if (next != free_.end() && next->first == address + bytes) {
    bytes += next->second;
    next = free_.erase(next);
  }
  if (next != free_.begin()) {
    const auto before = std::prev(next);
    if (before->first + before->second == address) {
      before->second += bytes;
      return;
    }
  }
  free_.emplace(address, bytes);
}

absl::StatusOr<std::uint64_t> Arena::Allocate(std::size_t bytes, Extend extend) {
  constexpr std::uint64_t kMost = std::uint64_t{1} << 32;
  if (bytes > kMost) return absl::ResourceExhaustedError("larger than a sandbox's window");
  const std::uint64_t size = RoundUp(bytes);
  const std::lock_guard lock(mutex_);
  const auto fits = [&](const auto& entry) { return entry.second >= size; };
  auto found = std::find_if(free_.begin(), free_.end(), fits);
  if (found == free_.end()) {
    const absl::StatusOr<GuestRange> more = extend(PageUp(std::max(size, kChunk)));
    if (!more.ok()) return more.status();
    GiveBack(more->start.value, more->end.value - more->start.value);
    found = std::find_if(free_.begin(), free_.end(), fits);
  }
  const auto [address, room] = *found;
  free_.erase(found);
  if (room > size) free_.emplace(address + size, room - size);
  used_.emplace(address, size);
  std::memset(HostPointer(address), 0, size);
  return address;
}

void Arena::Free(std::uint64_t address, std::size_t bytes) {
  const std::lock_guard lock(mutex_);
  used_.erase(address);
  GiveBack(address, RoundUp(bytes));
}

bool Arena::Claim(std::uint64_t address, std::size_t bytes) {
  const std::lock_guard lock(mutex_);
  const auto found = unclaimed_.find(address);
  if (found == unclaimed_.end() || found->second != RoundUp(bytes)) return false;
  unclaimed_.erase(found);
  return true;
}

ArenaState Arena::Save() {
  const std::lock_guard lock(mutex_);
  return {.free = free_, .used = used_};
}

void Arena::Restore(const ArenaState& state) {
  const std::lock_guard lock(mutex_);
  free_ = state.free;
  used_ = unclaimed_ = state.used;
}

std::byte* Arena::HostPointer(std::uint64_t address) const {
  return reinterpret_cast<std::byte*>(host_offset_ + address);
}

}  // namespace dunebox::plugin
