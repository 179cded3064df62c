// May a program have this socket, and may it use this address? Wall 1's answer for the network.
//
// Pure: works on a socket address that has been copied from the program, and on the rules. What an
// address means is what the kernel makes of it, also where a family is left out (AF_UNSPEC stands
// for IPv4 in bind and sendto, and dissolves a connection in connect). Where 0.0.0.0 and :: stand
// for "this machine" the loopback address is written over them, so that the kernel goes where the
// rules were asked about. Not known here: whose the socket is, what it is
// connected to, and whether a path may be written to; the services ask for that.
//
//   const SocketAddress address = DecodeAddress(copied_bytes, AddressUse::kConnect);
//   const NetworkAnswer answer = MayUse(rules.network, address, AddressUse::kConnect);
//   if (!answer.allowed) ...  // Describe(address): "192.0.2.1:443"
#ifndef DUNEBOX_HOSTCALLS_POLICY_NETWORK_H_
#define DUNEBOX_HOSTCALLS_POLICY_NETWORK_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "hostcalls/policy/rules.h"

namespace dunebox::hostcalls::policy {

// What becomes of an address. Listening is asked about the address that the socket has.
enum class AddressUse : std::uint8_t { kConnect, kSend, kBind, kListen };

enum class AddressKind : std::uint8_t {
  kDisconnect,    // AF_UNSPEC in connect: takes the peer away
  kInternet,      // IPv4 or IPv6
  kUnixUnnamed,   // no name: an autobind, which makes an abstract one
  kUnixPath,
  kUnixAbstract,
  kNetlink,
  kOther,         // any other family
  kMalformed,     // too short for its family: the kernel refuses it and looks at nothing
};

struct SocketAddress {
  AddressKind kind = AddressKind::kMalformed;
  std::array<std::uint8_t, 16> address{};  // kInternet: IPv6, IPv4 as a mapped one
  std::uint16_t port = 0;                  // kInternet
  std::string name;                        // kUnixPath; kUnixAbstract: without the leading zero
  std::uint32_t netlink_port = 0;          // kNetlink
  std::uint32_t netlink_groups = 0;        // kNetlink
  std::uint16_t family = 0;
};

struct NetworkAnswer {
  bool allowed = false;
  Origin origin = 0;  // of the rule that decided
};

SocketAddress DecodeAddress(std::span<const std::byte> bytes, AddressUse use);

// Writes the loopback address over 0.0.0.0 and :: in connect and sendto, where they mean it; and in
// bind where nothing but loopback can be reached, so that servers which bind to all there is work.
void NameLoopback(const NetworkRules& rules, std::span<std::byte> bytes, AddressUse use);

NetworkAnswer MayUse(const NetworkRules& rules, const SocketAddress& address, AddressUse use);

// socket() and socketpair(). `error` is what the program gets when it may not.
struct SocketAnswer {
  bool allowed = false;
  int error = 0;
  Origin origin = 0;
};
SocketAnswer MayMakeSocket(const NetworkRules& rules, int domain, int type, int protocol);
SocketAnswer MayMakePair(int domain);

// The lists in socket_options.inc: options that may be set, control data that may be sent.
bool MaySetOption(const NetworkRules& rules, int level, int option);
bool MaySendControl(int level, int type);

// "192.0.2.1:443", "[2001:db8::1]:443", "unix:/run/x", "unix:@x", "netlink".
std::string Describe(const SocketAddress& address);
// "inet stream", "packet raw": a socket of that kind.
std::string DescribeSocket(int domain, int type);

}  // namespace dunebox::hostcalls::policy

#endif  // DUNEBOX_HOSTCALLS_POLICY_NETWORK_H_
