// The paths that unix sockets were bound to, as the program said them.
//
// Under a policy the kernel gets another one: it leads through the descriptor of a directory that
// was checked (checked_address.h), and the kernel would give it back. So the process remembers what
// the program said, by the socket's inode. Other processes, and this one after execve, see the
// kernel's.
//
//   names.Remember(inode, "/tmp/x/socket");
//   if (const std::optional<std::string> said = names.Find(inode)) ...
#ifndef DUNEBOX_HOSTCALLS_SERVICES_UNIX_NAMES_H_
#define DUNEBOX_HOSTCALLS_SERVICES_UNIX_NAMES_H_

#include <sys/types.h>

#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <utility>

namespace dunebox::hostcalls {

// Not for several threads at once: VirtualLimits has the lock.
class UnixNames {
 public:
  void Remember(ino_t socket, std::string path) {
    // Sockets are closed and nobody says so. The numbers of new ones are higher.
    if (names_.size() >= kMost) names_.erase(names_.begin());
    names_[socket] = std::move(path);
  }
  std::optional<std::string> Find(ino_t socket) const {
    const auto found = names_.find(socket);
    if (found == names_.end()) return std::nullopt;
    return found->second;
  }

 private:
  static constexpr std::size_t kMost = 4096;
  std::map<ino_t, std::string> names_;
};

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_HOSTCALLS_SERVICES_UNIX_NAMES_H_
