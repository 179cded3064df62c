#include "runtime/confinement/network_namespace.h"

#include <linux/sockios.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace dunebox::confinement {
namespace {

using runtime::FileDescriptor;

FileDescriptor AnySocket() { return FileDescriptor(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)); }

// It begins down.
bool RaiseLoopback(const FileDescriptor& any_socket) {
  ifreq request{};
  std::strcpy(request.ifr_name, "lo");
  request.ifr_flags = IFF_UP | IFF_RUNNING;
  return any_socket.valid() && ioctl(any_socket.get(), SIOCSIFFLAGS, &request) == 0;
}

}  // namespace

OwnNetwork::OwnNetwork(bool may_have_thread)
    : had_thread_(may_have_thread && pthread_create(&thread_, nullptr, Make, this) == 0) {}

OwnNetwork::~OwnNetwork() { Join(); }

void OwnNetwork::Join() {
  if (std::exchange(has_thread_, false)) pthread_join(thread_, nullptr);
}

void* OwnNetwork::Make(void* raw) {
  OwnNetwork& self = *static_cast<OwnNetwork*>(raw);
  if (unshare(CLONE_NEWNET) != 0) return nullptr;
  const FileDescriptor any_socket = AnySocket();
  if (RaiseLoopback(any_socket)) self.made_ = FileDescriptor(ioctl(any_socket.get(), SIOCGSKNS));
  return nullptr;
}

// Where the thread has not come through, for whatever reason, it is tried here, so that the reason is told.
absl::StatusOr<bool> OwnNetwork::Enter() {
  Join();
  if (made_.valid() && setns(made_.get(), CLONE_NEWNET) == 0) return true;
  if (unshare(CLONE_NEWNET) != 0) return false;
  if (RaiseLoopback(AnySocket())) return true;
  return absl::ErrnoToStatus(errno, "cannot take the loopback interface up");
}

}  // namespace dunebox::confinement
