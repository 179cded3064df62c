#include "hostcalls/services/sockets.h"

#include <linux/capability.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <string>
#include <utility>

#include "hostcalls/policy/network.h"
#include "hostcalls/services/checked_address.h"
#include "hostcalls/services/counted_output.h"
#include "hostcalls/services/limits.h"
#include "hostcalls/services/support.h"

namespace dunebox::hostcalls {
namespace {

using policy::AddressUse;
using policy::SocketAddress;

// Can the process, or a program it executes, change the network by netlink? What is written to such
// a socket is not looked at, so it may only exist where the kernel answers questions and no more.
bool MayChangeNetwork() {
  constexpr unsigned kBit = 1U << CAP_NET_ADMIN;
  static_assert(CAP_NET_ADMIN < 32);
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  std::array<__user_cap_data_struct, 2> sets{};
  if (syscall(SYS_capget, &header, sets.data()) != 0) return true;
  if (((sets[0].permitted | sets[0].inheritable) & kBit) != 0) return true;
  if (prctl(PR_CAPBSET_READ, CAP_NET_ADMIN, 0, 0, 0) == 0) return false;
  uid_t real = 0, effective = 0, saved = 0;
  return getresuid(&real, &effective, &saved) != 0 || real == 0 || effective == 0 || saved == 0;
}

SyscallResult RefuseSocket(Caller& caller, int domain, int type, int error, policy::Origin origin) {
  const bool reachable = domain == AF_INET || domain == AF_INET6;
  const bool refused =
      caller.guard->Refuse(caller, {.action = "make socket",
                                    .object = policy::DescribeSocket(domain, type),
                                    .origin = origin,
                                    .cure = reachable && error != EPERM ? "--net=host" : "",
                                    .error = error});
  return refused ? SyscallResult(Errno{error}) : kSuccess;
}

// The name that a socket has. What is no socket has no answer.
CopyResult<SocketAddress> NameOf(int fd, AddressUse use) {
  std::array<std::byte, CheckedAddress::kMostBytes> bytes{};
  auto size = static_cast<socklen_t>(bytes.size());
  if (getsockname(fd, reinterpret_cast<sockaddr*>(bytes.data()), &size) != 0) return LastErrno();
  const std::size_t length = std::min<std::size_t>(size, bytes.size());
  return policy::DecodeAddress(std::span(bytes).first(length), use);
}

// May the socket listen where it is bound? A unix socket's name was judged when it got it.
SyscallResult MayListen(Caller& caller, int fd) {
  CopyResult<SocketAddress> name = NameOf(fd, AddressUse::kListen);
  if (!name.ok()) return name.error();
  if (name->kind != policy::AddressKind::kInternet) return kSuccess;
  const policy::NetworkAnswer answer =
      policy::MayUse(caller.guard->rules().network, *name, AddressUse::kListen);
  return answer.allowed ? kSuccess
                        : RefuseAddress(caller, *name, AddressUse::kListen, answer.origin);
}

// A connected socket cannot listen, and its name is not one that it was given.
bool IsConnected(int fd) {
  tcp_info info{};
  socklen_t size = sizeof(info);
  if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return false;
  return info.tcpi_state != TCP_CLOSE && info.tcpi_state != TCP_LISTEN;
}

SyscallResult CallWithAddress(Caller& caller, std::uint64_t number, int fd,
                              CheckedAddress& address) {
  StagingScope staged(caller.staging);
  const std::span<std::byte> bytes = staged.PlaceAll(address.bytes());
  return HostCall(caller, number, Arguments(fd, bytes.data(), bytes.size()));
}

// The path that the guest bound the socket to, when the kernel has another.
std::optional<std::string> SaidPath(const Caller& caller, int fd) {
  struct stat status {};
  if (fstat(fd, &status) != 0) return std::nullopt;
  return caller.limits.FindUnixName(status.st_ino);
}

}  // namespace

SyscallResult HandleSocket(Caller& caller, const ArgumentValues& arguments) {
  const int domain = AsInt(arguments[0]);
  const int type = AsInt(arguments[1]);
  const int protocol = AsInt(arguments[2]);
  if (HasNetworkRules(caller)) {
    policy::SocketAnswer answer =
        policy::MayMakeSocket(caller.guard->rules().network, domain, type, protocol);
    if (answer.allowed && domain == AF_NETLINK && MayChangeNetwork()) {
      answer = {.allowed = false, .error = EACCES, .origin = answer.origin};
    }
    if (!answer.allowed) {
      const SyscallResult refused =
          RefuseSocket(caller, domain, type, answer.error, answer.origin);
      if (!refused.ok()) return refused;
    }
  }
  return HostCall(caller, SYS_socket, Arguments(domain, type, protocol));
}

SyscallResult HandleSocketpair(Caller& caller, const ArgumentValues& arguments) {
  if (HasNetworkRules(caller)) {
    const int domain = AsInt(arguments[0]);
    const policy::SocketAnswer answer = policy::MayMakePair(domain);
    if (!answer.allowed) {
      const SyscallResult refused =
          RefuseSocket(caller, domain, AsInt(arguments[1]), answer.error, answer.origin);
      if (!refused.ok()) return refused;
    }
  }
  return HostCall(caller, SYS_socketpair, arguments);
}

SyscallResult HandleConnect(Caller& caller, const ArgumentValues& arguments) {
  CheckedAddress address;
  const SyscallResult read =
      address.Read(caller, arguments[1], AsInt(arguments[2]), AddressUse::kConnect);
  if (!read.ok()) return read;
  return CallWithAddress(caller, SYS_connect, AsInt(arguments[0]), address);
}

SyscallResult HandleBind(Caller& caller, const ArgumentValues& arguments) {
  CheckedAddress address;
  const SyscallResult read =
      address.Read(caller, arguments[1], AsInt(arguments[2]), AddressUse::kBind);
  if (!read.ok()) return read;
  const int fd = AsInt(arguments[0]);
  const SyscallResult result = CallWithAddress(caller, SYS_bind, fd, address);
  struct stat status {};
  if (result.ok() && !address.path().empty() && fstat(fd, &status) == 0) {
    caller.limits.RememberUnixName(status.st_ino, address.path());
  }
  return result;
}

SyscallResult HandleGetsockname(Caller& caller, const ArgumentValues& arguments) {
  const int fd = AsInt(arguments[0]);
  const std::optional<std::string> path =
      HasNetworkRules(caller) ? SaidPath(caller, fd) : std::nullopt;
  if (!path) return HostCall(caller, SYS_getsockname, arguments);
  CopyResult<int> room = caller.memory.CopyIn(GuestPtr<int>{arguments[2]});
  if (!room.ok()) return room.error();
  if (*room < 0) return Errno{EINVAL};
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  std::memcpy(name.sun_path, path->data(), std::min(path->size(), sizeof(name.sun_path)));
  const auto bytes = std::as_bytes(std::span(&name, 1));
  // As the kernel has it: with a NUL behind the path, which is one more than the longest has room.
  const std::size_t size = offsetof(sockaddr_un, sun_path) + path->size() + 1;
  const std::size_t written =
      std::min({size, bytes.size(), static_cast<std::size_t>(*room)});
  if (!caller.memory.Write(arguments[1], bytes.first(written))) return Errno{EFAULT};
  return caller.memory.CopyOut(GuestPtr<int>{arguments[2]}, static_cast<int>(size));
}

SyscallResult HandleListen(Caller& caller, const ArgumentValues& arguments) {
  if (!HasNetworkRules(caller)) return HostCall(caller, SYS_listen, arguments);
  struct stat status {};
  if (fstat(AsInt(arguments[0]), &status) != 0) return Errno{EBADF};
  if (!S_ISSOCK(status.st_mode)) return Errno{ENOTSOCK};
  // Held, so that the number cannot become another socket's.
  CopyResult<ReservedFd> socket = caller.limits.Reserve(AsInt(arguments[0]));
  if (!socket.ok()) return socket.error();
  if (IsConnected(socket->get())) return Errno{EINVAL};
  if (const SyscallResult allowed = MayListen(caller, socket->get()); !allowed.ok()) return allowed;
  const SyscallResult result =
      HostCall(caller, SYS_listen, Arguments(socket->get(), AsInt(arguments[1])));
  if (!result.ok()) return result;
  // A sibling may have connected and disconnected it meanwhile: then the kernel chose another name.
  const SyscallResult still_allowed = MayListen(caller, socket->get());
  if (!still_allowed.ok()) shutdown(socket->get(), SHUT_RDWR);
  return still_allowed.ok() ? result : still_allowed;
}

SyscallResult HandleSendto(Caller& caller, const ArgumentValues& arguments) {
  const auto send = [&](std::uint64_t address, std::size_t size) {
    const int fd = AsInt(arguments[0]);
    const auto call = [&](std::uint64_t) {
      return HostCall(caller, SYS_sendto,
                      Arguments(fd, arguments[1], arguments[2], AsInt(arguments[3]), address, size));
    };
    if (caller.limits.output == nullptr) return call(0);
    return CallWithinOutput(caller, fd, arguments[2], Partly::kNever, call);
  };
  if (arguments[4] == 0 || !HasNetworkRules(caller)) {
    return send(arguments[4], static_cast<std::size_t>(AsInt(arguments[5])));
  }
  CheckedAddress address;
  const SyscallResult read =
      address.Read(caller, arguments[4], AsInt(arguments[5]), AddressUse::kSend);
  if (!read.ok()) return read;
  StagingScope staged(caller.staging);
  const std::span<std::byte> bytes = staged.PlaceAll(address.bytes());
  return send(AsArgument(bytes.data()), bytes.size());
}

void RegisterSocketHandlers(HandlerTable& handlers) {
  handlers.Bind("socket", HandleSocket);
  handlers.Bind("socketpair", HandleSocketpair);
  handlers.Bind("connect", HandleConnect);
  handlers.Bind("bind", HandleBind);
  handlers.Bind("getsockname", HandleGetsockname);
  handlers.Bind("listen", HandleListen);
  handlers.Bind("sendto", HandleSendto);
}

}  // namespace dunebox::hostcalls
