#include "runtime/debugger/listener.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/text_file.h"

namespace dunebox::debugger {
namespace {

using runtime::FileDescriptor;

constexpr std::string_view kUnix = "unix:";

absl::Status Failed(const std::string& what) {
  return absl::ErrnoToStatus(errno, absl::StrCat("--gdb: ", what));
}

absl::StatusOr<Listener> ListenOnPath(const std::string& path) {
  Listener listener{.directory = FileDescriptor(open(runtime::DirectoryFor(path).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)),
                    .name = path.substr(path.rfind('/') + 1)};
  if (!listener.directory.valid()) return Failed(absl::StrCat("cannot listen on ", path));
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  std::memcpy(name.sun_path, path.data(), path.size());
  FileDescriptor listening(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!listening.valid()) return Failed("cannot make a socket");
  // For the user alone, whatever the directory allows.
  const mode_t before = umask(0077);
  const int bound = bind(listening.get(), reinterpret_cast<const sockaddr*>(&name), sizeof(name));
  umask(before);
  if (bound != 0 || listen(listening.get(), 1) != 0) {
    return Failed(absl::StrCat("cannot listen on ", path));
  }
  listener.socket = std::move(listening);
  return listener;
}

absl::StatusOr<Listener> ListenOnPort(std::uint16_t port) {
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_port = htons(port);
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  FileDescriptor listening(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!listening.valid()) return Failed("cannot make a socket");
  const int one = 1;
  setsockopt(listening.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
  if (bind(listening.get(), reinterpret_cast<const sockaddr*>(&name), sizeof(name)) != 0 ||
      listen(listening.get(), 1) != 0) {
    return Failed(absl::StrCat("cannot listen on port ", port, " of 127.0.0.1"));
  }
  return Listener{.socket = std::move(listening)};
}

}  // namespace

std::optional<ListenAddress> ListenAddress::Parse(std::string_view text) {
  if (text.starts_with(kUnix)) {
    const std::string_view path = text.substr(kUnix.size());
    if (path.empty() || path.size() >= sizeof(sockaddr_un::sun_path)) return std::nullopt;
    return ListenAddress{.path = std::string(path)};
  }
  ListenAddress address;
  const char* const end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, address.port);
  if (parsed.ec != std::errc() || parsed.ptr != end) return std::nullopt;
  return address;
}

absl::StatusOr<Listener> Listen(const ListenAddress& address) {
  return address.path.empty() ? ListenOnPort(address.port) : ListenOnPath(address.path);
}

absl::StatusOr<FileDescriptor> Accept(const ListenAddress& address,
                                      const Listener& listener) {
  std::string place = address.path;
  if (place.empty()) {
    sockaddr_in name{};
    socklen_t size = sizeof(name);
    if (getsockname(listener.socket.get(), reinterpret_cast<sockaddr*>(&name), &size) != 0) {
      return Failed("cannot name the port");
    }
    place = absl::StrCat("127.0.0.1:", ntohs(name.sin_port));
  }
  fprintf(stderr, "dunebox: waiting for gdb: target remote %s\n", place.c_str());
  FileDescriptor connection;
  do {
    connection = FileDescriptor(accept4(listener.socket.get(), nullptr, nullptr, SOCK_CLOEXEC));
  } while (!connection.valid() && errno == EINTR);
  if (!connection.valid()) return Failed("nobody could connect");
  if (!address.path.empty()) {
    unlinkat(listener.directory.get(), listener.name.c_str(), 0);
    return connection;
  }
  // A packet is an answer that somebody waits for.
  const int one = 1;
  setsockopt(connection.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
  return connection;
}

}  // namespace dunebox::debugger
