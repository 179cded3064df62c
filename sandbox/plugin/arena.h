// Memory in the window that the host owns and the plugin may read and write: what Sandbox::Allocate gives
// out. The plugin cannot unmap it or take rights from it, so that the host can use it by pointer; what is
// in it the plugin may change at any time.
//
// Thread-safe. Outlives its sandbox as long as somebody holds memory of it.
#ifndef DUNEBOX_SANDBOX_PLUGIN_ARENA_H_
#define DUNEBOX_SANDBOX_PLUGIN_ARENA_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>

#include "absl/status/statusor.h"
#include "runtime/memory/address_space.h"
#include "sandbox/plugin/snapshot.h"
#include "sandbox/plugin/window.h"

namespace dunebox::plugin {

class Arena {
 public:
  explicit Arena(std::shared_ptr<const ReservedWindow> window) : window_(std::move(window)) {}

  // Zeroed, 64-byte aligned; `space` is the window's. A guest address. kResourceExhausted: no room.
  absl::StatusOr<std::uint64_t> Allocate(std::size_t bytes, memory::AddressSpace& space);
  void Free(std::uint64_t address, std::size_t bytes);
  // The part of a sandbox's memory that was given out when it was made from another's snapshot, and that nobody
  // has claimed yet. False: there is no such part.
  bool Claim(std::uint64_t address, std::size_t bytes);

  ArenaState Save();
  // Of a sandbox that is made from a snapshot.
  void Restore(const ArenaState& state);

  // Of an address that Allocate has given out.
  std::byte* HostPointer(std::uint64_t address) const;

 private:
  absl::Status Extend(std::uint64_t bytes, memory::AddressSpace& space);
  void GiveBack(std::uint64_t address, std::uint64_t bytes);

  const std::shared_ptr<const ReservedWindow> window_;
  std::mutex mutex_;
  // Address to size. Free neighbours are one.
  std::map<std::uint64_t, std::uint64_t> free_, used_, unclaimed_;
};

}  // namespace dunebox::plugin

#endif  // DUNEBOX_SANDBOX_PLUGIN_ARENA_H_
