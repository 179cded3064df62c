// A socket address of the guest's, copied once, judged by the session's network rules, and in the
// form that the kernel gets.
//
// A path becomes the object it leads to: that is pinned, may be written to, and is named to the
// kernel by its descriptor, so that no link can lead elsewhere meanwhile. In bind it is the
// directory that is pinned. Without a guard the copy is all there is.
//
//   CheckedAddress address;
//   if (SyscallResult read = address.Read(caller, pointer, length, AddressUse::kConnect); !read.ok())
//     return read;
//   HostCall(caller, SYS_connect, Arguments(fd, staged.PlaceAll(address.bytes()).data(), ...));
#ifndef DUNEBOX_HOSTCALLS_SERVICES_CHECKED_ADDRESS_H_
#define DUNEBOX_HOSTCALLS_SERVICES_CHECKED_ADDRESS_H_

#include <sys/socket.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "hostcalls/dispatch/caller.h"
#include "hostcalls/policy/network.h"
#include "hostcalls/result.h"
#include "hostcalls/services/reserved_fd.h"

namespace dunebox::hostcalls {

// Is there a policy about the network to ask?
inline bool HasNetworkRules(const Caller& caller) {
  return caller.guard != nullptr && !caller.guard->allows_all();
}

class CheckedAddress {
 public:
  static constexpr std::size_t kMostBytes = sizeof(sockaddr_storage);

  // Copies `length` bytes at `address`: EFAULT, EINVAL, or what the rules say.
  SyscallResult Read(Caller& caller, std::uint64_t address, int length, policy::AddressUse use);
  std::span<std::byte> bytes() { return std::span(bytes_).first(size_); }
  // The path that the guest said, where the kernel gets another; empty otherwise.
  const std::string& path() const { return path_; }

 private:
  SyscallResult Judge(Caller& caller, policy::AddressUse use);
  SyscallResult PinName(Caller& caller, const std::string& path, policy::AddressUse use);

  // Aligned as the structures that the kernel sees in it.
  alignas(sockaddr_storage) std::array<std::byte, kMostBytes> bytes_{};
  std::size_t size_ = 0;
  std::string path_;
  ReservedFd pinned_;  // what the name in bytes_ goes through
};

// Tells that the rules do not permit the use. Success: only noted.
SyscallResult RefuseAddress(Caller& caller, const policy::SocketAddress& address,
                            policy::AddressUse use, policy::Origin origin);

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_HOSTCALLS_SERVICES_CHECKED_ADDRESS_H_
