// Memory in the window that the host owns and the plugin may read and write: what Sandbox::Allocate
// gives out. The plugin cannot unmap it or take rights from it, so that the host can use it by
// pointer; what is in it the plugin may change at any time.
//
// Thread-safe. Outlives its sandbox as long as somebody holds memory of it.
#ifndef DUNEBOX_SANDBOX_PLUGIN_ARENA_H_
#define DUNEBOX_SANDBOX_PLUGIN_ARENA_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "hostcalls/memory/address.h"
#include "runtime/memory/address_space.h"
#include "sandbox/plugin/snapshot.h"

namespace dunebox::plugin {

// Pages of the guest's that it can neither unmap nor protect, and that others have, too (IsSharedByHost): the file
// of `fd`. kResourceExhausted: no room.
absl::StatusOr<GuestRange> MapShared(memory::AddressSpace& space, int fd, std::uint64_t bytes);
// The same of this process's own: what an arena of this process extends by.
absl::StatusOr<GuestRange> MapPrivate(memory::AddressSpace& space, std::uint64_t bytes);

class Arena {
 public:
  // The host has at `host_offset` + a guest address what the guest has there, as long as `memory`
  // lives.
  Arena(std::shared_ptr<const void> memory, std::uint64_t host_offset)
      : memory_(std::move(memory)), host_offset_(host_offset) {}

  // Makes pages, of at least as many bytes, memory of both sides' for good.
  using Extend = absl::FunctionRef<absl::StatusOr<GuestRange>(std::uint64_t bytes)>;
  // Zeroed, 64-byte aligned. A guest address. kResourceExhausted: no room, and `extend` has none.
  absl::StatusOr<std::uint64_t> Allocate(std::size_t bytes, Extend extend);
  void Free(std::uint64_t address, std::size_t bytes);
  // The part of a sandbox's memory that was given out when it was made from another's snapshot, and that nobody
  // has claimed yet. False: there is no such part.
  bool Claim(std::uint64_t address, std::size_t bytes);

  ArenaState Save();
  // Of a sandbox that is made from a snapshot.
  void Restore(const ArenaState& state);

  std::uint64_t host_offset() const { return host_offset_; }
  // Of an address that Allocate has given out.
  std::byte* HostPointer(std::uint64_t address) const;

 private:
  void GiveBack(std::uint64_t address, std::uint64_t bytes);

  const std::shared_ptr<const void> memory_;
  const std::uint64_t host_offset_;
  std::mutex mutex_;
  // Address to size. Free neighbours are one.
  std::map<std::uint64_t, std::uint64_t> free_, used_, unclaimed_;
};

}  // namespace dunebox::plugin

#endif  // DUNEBOX_SANDBOX_PLUGIN_ARENA_H_
