#include "runtime/confinement/network_namespace.h"

#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "runtime/file_descriptor.h"

namespace dunebox::confinement {

absl::Status RaiseLoopback() {
  const runtime::FileDescriptor socket_fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  std::strcpy(request.ifr_name, "lo");
  request.ifr_flags = IFF_UP | IFF_RUNNING;
  if (socket_fd.valid() && ioctl(socket_fd.get(), SIOCSIFFLAGS, &request) == 0) {
    return absl::OkStatus();
  }
  return absl::ErrnoToStatus(errno, "cannot take the loopback interface up");
}

}  // namespace dunebox::confinement
