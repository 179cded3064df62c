#include "sandbox/oci/console.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace dunebox::oci {
namespace {

using runtime::FileDescriptor;

absl::Status SendDescriptor(int socket, int fd, std::string name) {
  iovec text{.iov_base = name.data(), .iov_len = name.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{.msg_iov = &text,
                 .msg_iovlen = 1,
                 .msg_control = control,
                 .msg_controllen = sizeof(control)};
  cmsghdr* const header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  std::memcpy(CMSG_DATA(header), &fd, sizeof(fd));
  if (sendmsg(socket, &message, MSG_NOSIGNAL) >= 0) return absl::OkStatus();
  return absl::ErrnoToStatus(errno, "--console-socket: cannot send the terminal");
}

}  // namespace

absl::StatusOr<FileDescriptor> ConnectTo(const std::string& path) {
  sockaddr_un address{.sun_family = AF_UNIX};
  if (path.size() >= sizeof(address.sun_path)) {
    return absl::InvalidArgumentError(fmt::format("{}: is too long for a socket", path));
  }
  path.copy(address.sun_path, path.size());
  FileDescriptor socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (socket.valid() &&
      connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) {
    return socket;
  }
  return absl::ErrnoToStatus(errno, fmt::format("cannot connect to {}", path));
}

absl::StatusOr<FileDescriptor> OpenConsole(View& view, const Process& process, int socket) {
  absl::StatusOr<FileDescriptor> place = view.Find("/dev/pts/ptmx");
  if (!place.ok()) {
    return absl::FailedPreconditionError("process.terminal: a devpts is needed at /dev/pts");
  }
  const FileDescriptor engines_end(open(fmt::format("/proc/self/fd/{}", place->get()).c_str(),
                                        O_RDWR | O_NOCTTY | O_CLOEXEC));
  const int unlock = 0;
  if (!engines_end.valid() || ioctl(engines_end.get(), TIOCSPTLCK, &unlock) != 0) {
    return absl::ErrnoToStatus(errno, "process.terminal: cannot make a terminal");
  }
  FileDescriptor ours(ioctl(engines_end.get(), TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC));
  if (!ours.valid()) return absl::ErrnoToStatus(errno, "process.terminal: cannot open its terminal");
  if (process.console_size) {
    const winsize size{.ws_row = process.console_size->height, .ws_col = process.console_size->width};
    ioctl(ours.get(), TIOCSWINSZ, &size);
  }
  if (fchown(ours.get(), process.user.uid, static_cast<gid_t>(-1)) != 0) {
    return absl::ErrnoToStatus(errno, "process.terminal: cannot give it to the user");
  }
  if (absl::Status status = view.Show(ours.get(), "/dev/console"); !status.ok()) return status;
  unsigned number = 0;
  ioctl(engines_end.get(), TIOCGPTN, &number);
  absl::Status status =
      SendDescriptor(socket, engines_end.get(), fmt::format("/dev/pts/{}", number));
  if (!status.ok()) return status;
  return ours;
}

absl::Status UseConsole(int terminal) {
  if (ioctl(terminal, TIOCSCTTY, 0) != 0) {
    return absl::ErrnoToStatus(errno, "process.terminal: cannot be the controlling terminal");
  }
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (dup2(terminal, fd) != fd) return absl::ErrnoToStatus(errno, "dup2");
  }
  return absl::OkStatus();
}

}  // namespace dunebox::oci
