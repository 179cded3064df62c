// Where gdb connects: a TCP port of this machine's loopback, or a unix socket. One connection is
// taken, then nobody listens any more. Who can reach the socket can do what the user can.
//
//   ListenAddress::Parse("1234"), Parse("unix:/run/user/1000/gdb")
//   absl::StatusOr<Listener> listener = Listen(*address);   // before there are walls
//   absl::StatusOr<FileDescriptor> connection = Accept(*address, *listener);
#ifndef DUNEBOX_RUNTIME_DEBUGGER_LISTENER_H_
#define DUNEBOX_RUNTIME_DEBUGGER_LISTENER_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "runtime/file_descriptor.h"

namespace dunebox::debugger {

struct ListenAddress {
  std::uint16_t port = 0;  // 0: any free one
  std::string path;        // of a unix socket, which is made; empty: the port

  static std::optional<ListenAddress> Parse(std::string_view text);
};

struct Listener {
  runtime::FileDescriptor socket;
  // Of a unix socket: where its name is, whatever view of the files the program has. The name goes when somebody has connected.
  runtime::FileDescriptor directory;
  std::string name;
};

absl::StatusOr<Listener> Listen(const ListenAddress& address);
// Says on standard error where it listens, and waits until somebody connects.
absl::StatusOr<runtime::FileDescriptor> Accept(const ListenAddress& address,
                                               const Listener& listener);

}  // namespace dunebox::debugger

#endif  // DUNEBOX_RUNTIME_DEBUGGER_LISTENER_H_
