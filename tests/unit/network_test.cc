#include "hostcalls/policy/network.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>
#include <optional>
#include <vector>

namespace dunebox::hostcalls::policy {
namespace {

using enum AddressUse;
using Bytes = std::vector<std::byte>;

constexpr AddressUse kUses[] = {kConnect, kSend, kBind, kListen};

template <typename T>
Bytes BytesOf(const T& value, std::size_t size = sizeof(T)) {
  Bytes bytes(size);
  std::memcpy(bytes.data(), &value, std::min(size, sizeof(T)));
  return bytes;
}

Bytes Ipv4(const char* address, std::uint16_t port, sa_family_t family = AF_INET) {
  sockaddr_in value{};
  value.sin_family = family;
  value.sin_port = htons(port);
  EXPECT_EQ(inet_pton(AF_INET, address, &value.sin_addr), 1);
  return BytesOf(value);
}

Bytes Ipv6(const char* address, std::uint16_t port) {
  sockaddr_in6 value{};
  value.sin6_family = AF_INET6;
  value.sin6_port = htons(port);
  EXPECT_EQ(inet_pton(AF_INET6, address, &value.sin6_addr), 1);
  return BytesOf(value);
}

// Written as "192.0.2.1" or "2001:db8::1".
Bytes Internet(const std::string& address, std::uint16_t port) {
  return address.find(':') == std::string::npos ? Ipv4(address.c_str(), port)
                                                : Ipv6(address.c_str(), port);
}

Bytes Unix(std::string_view name) {
  sockaddr_un value{};
  value.sun_family = AF_UNIX;
  std::memcpy(value.sun_path, name.data(), name.size());
  return BytesOf(value, offsetof(sockaddr_un, sun_path) + name.size());
}

EndpointRule Rule(const std::string& address, int prefix, std::uint16_t first, std::uint16_t last,
                  Origin origin = 1) {
  const SocketAddress decoded = DecodeAddress(Internet(address, 0), kBind);
  const bool ipv4 = address.find(':') == std::string::npos;
  return {.address = decoded.address,
          .prefix = static_cast<std::uint8_t>(ipv4 ? prefix + 96 : prefix),
          .first_port = first,
          .last_port = last,
          .origin = origin};
}

bool Allows(const NetworkRules& rules, const Bytes& bytes, AddressUse use) {
  return MayUse(rules, DecodeAddress(bytes, use), use).allowed;
}

// ---- What the bytes mean ------------------------------------------------------------------------

TEST(NetworkAddress, BothFamiliesBecomeOneForm) {
  const SocketAddress ipv4 = DecodeAddress(Ipv4("192.0.2.7", 443), kConnect);
  EXPECT_EQ(ipv4.kind, AddressKind::kInternet);
  EXPECT_EQ(ipv4.port, 443);
  EXPECT_EQ(ipv4.address, DecodeAddress(Ipv6("::ffff:192.0.2.7", 443), kConnect).address);
  EXPECT_EQ(Describe(ipv4), "192.0.2.7:443");
  EXPECT_EQ(Describe(DecodeAddress(Ipv6("2001:db8::1", 80), kSend)), "[2001:db8::1]:80");
}

TEST(NetworkAddress, TheKernelsShortestFormsCountAndShorterOnesDoNot) {
  Bytes ipv4 = Ipv4("192.0.2.7", 443);
  EXPECT_EQ(ipv4.size(), 16u);
  ipv4.pop_back();
  for (const AddressUse use : kUses) {
    EXPECT_EQ(DecodeAddress(ipv4, use).kind, AddressKind::kMalformed);
  }
  Bytes ipv6 = Ipv6("2001:db8::1", 443);
  ipv6.resize(24);  // without the scope
  EXPECT_EQ(DecodeAddress(ipv6, kConnect).kind, AddressKind::kInternet);
  ipv6.resize(23);
  EXPECT_EQ(DecodeAddress(ipv6, kConnect).kind, AddressKind::kMalformed);
  for (const std::size_t size : {0, 1}) {
    EXPECT_EQ(DecodeAddress(Bytes(size), kConnect).kind, AddressKind::kMalformed);
  }
}

TEST(NetworkAddress, LongerOnesMeanTheSame) {
  Bytes ipv4 = Ipv4("192.0.2.7", 443);
  ipv4.resize(sizeof(sockaddr_storage), std::byte{0xff});
  EXPECT_EQ(Describe(DecodeAddress(ipv4, kConnect)), "192.0.2.7:443");
}

TEST(NetworkAddress, NoFamilyIsIpv4ButInConnect) {
  const Bytes bytes = Ipv4("192.0.2.7", 443, AF_UNSPEC);
  EXPECT_EQ(DecodeAddress(bytes, kConnect).kind, AddressKind::kDisconnect);
  EXPECT_EQ(Describe(DecodeAddress(bytes, kSend)), "192.0.2.7:443");
  EXPECT_EQ(Describe(DecodeAddress(bytes, kBind)), "192.0.2.7:443");
  const Bytes family_alone(2);
  EXPECT_EQ(DecodeAddress(family_alone, kConnect).kind, AddressKind::kDisconnect);
  EXPECT_EQ(DecodeAddress(family_alone, kSend).kind, AddressKind::kMalformed);
}

TEST(NetworkAddress, UnixNames) {
  const SocketAddress path = DecodeAddress(Unix("/run/x"), kConnect);
  EXPECT_EQ(path.kind, AddressKind::kUnixPath);
  EXPECT_EQ(path.name, "/run/x");
  const SocketAddress ended = DecodeAddress(Unix(std::string_view("/run/x\0yz", 9)), kConnect);
  EXPECT_EQ(ended.name, "/run/x");
  const SocketAddress full = DecodeAddress(Unix(std::string(108, 'x')), kConnect);
  EXPECT_EQ(full.name, std::string(108, 'x'));
  const SocketAddress abstract = DecodeAddress(Unix(std::string_view("\0a\0b", 4)), kConnect);
  EXPECT_EQ(abstract.kind, AddressKind::kUnixAbstract);
  EXPECT_EQ(abstract.name, std::string("a\0b", 3));
  EXPECT_EQ(DecodeAddress(Unix(std::string_view("\0", 1)), kConnect).kind,
            AddressKind::kUnixAbstract);
  EXPECT_EQ(DecodeAddress(Unix(""), kBind).kind, AddressKind::kUnixUnnamed);
  EXPECT_EQ(DecodeAddress(Unix(""), kConnect).kind, AddressKind::kMalformed);
  Bytes too_long = Unix(std::string(108, 'x'));
  too_long.push_back(std::byte{'x'});
  EXPECT_EQ(DecodeAddress(too_long, kConnect).kind, AddressKind::kMalformed);
}

TEST(NetworkAddress, OtherFamilies) {
  sockaddr_nl netlink{};
  netlink.nl_family = AF_NETLINK;
  netlink.nl_pid = 5;
  netlink.nl_groups = 6;
  const SocketAddress address = DecodeAddress(BytesOf(netlink), kSend);
  EXPECT_EQ(address.kind, AddressKind::kNetlink);
  EXPECT_EQ(address.netlink_port, 5u);
  EXPECT_EQ(address.netlink_groups, 6u);
  EXPECT_EQ(DecodeAddress(BytesOf(netlink, 11), kSend).kind, AddressKind::kMalformed);
  for (const int family : {AF_PACKET, AF_VSOCK, AF_ALG, AF_BLUETOOTH, AF_TIPC, 250}) {
    sockaddr_storage other{};
    other.ss_family = static_cast<sa_family_t>(family);
    EXPECT_EQ(DecodeAddress(BytesOf(other), kConnect).kind, AddressKind::kOther) << family;
  }
}

TEST(NetworkAddress, TheAddressOfThisMachineIsWrittenOut) {
  NetworkRules rules{.reach = Reach::kHost};
  const auto named = [&](Bytes bytes, AddressUse use) {
    NameLoopback(rules, bytes, use);
    return Describe(DecodeAddress(bytes, use));
  };
  for (const AddressUse use : {kConnect, kSend}) {
    EXPECT_EQ(named(Ipv4("0.0.0.0", 80), use), "127.0.0.1:80");
    EXPECT_EQ(named(Ipv6("::", 80), use), "[::1]:80");
    EXPECT_EQ(named(Ipv6("::ffff:0.0.0.0", 80), use), "127.0.0.1:80");
    EXPECT_EQ(named(Ipv4("192.0.2.7", 80), use), "192.0.2.7:80");
    EXPECT_EQ(named(Ipv6("::2", 80), use), "[::2]:80");
  }
  EXPECT_EQ(named(Ipv4("0.0.0.0", 80, AF_UNSPEC), kSend), "127.0.0.1:80");
  EXPECT_EQ(named(Ipv4("0.0.0.0", 80), kBind), "0.0.0.0:80");
  EXPECT_EQ(named(Ipv6("::", 80), kBind), "[::]:80");
  rules.reach = Reach::kLoopback;
  EXPECT_EQ(named(Ipv4("0.0.0.0", 80), kBind), "127.0.0.1:80");
  EXPECT_EQ(named(Ipv6("::", 80), kBind), "[::1]:80");
  EXPECT_EQ(named(Ipv4("0.0.0.0", 80, AF_UNSPEC), kBind), "127.0.0.1:80");
  EXPECT_EQ(named(Ipv4("192.0.2.7", 80), kBind), "192.0.2.7:80");
  rules.listen = {Rule("0.0.0.0", 0, 80, 80)};
  EXPECT_EQ(named(Ipv4("0.0.0.0", 80), kBind), "0.0.0.0:80");
  EXPECT_EQ(named(Ipv4("0.0.0.0", 81), kBind), "127.0.0.1:81");
  Bytes none(1);
  NameLoopback(rules, none, kConnect);
  EXPECT_EQ(none, Bytes(1));
}

// ---- What the rules say -------------------------------------------------------------------------

struct Expected {
  const char* address;
  bool none, loopback, host;
};

TEST(NetworkRulesOf, ReachDecidesWithoutRules) {
  const Expected cases[] = {
      {"127.0.0.1", false, true, true},      {"127.255.255.254", false, true, true},
      {"::1", false, true, true},            {"::ffff:127.0.0.1", false, true, true},
      {"126.255.255.255", false, false, true}, {"128.0.0.1", false, false, true},
      {"192.0.2.1", false, false, true},     {"::ffff:192.0.2.1", false, false, true},
      {"::", false, false, true},            {"0.0.0.0", false, false, true},
      {"::2", false, false, true},           {"2001:db8::1", false, false, true},
      {"::127.0.0.1", false, false, true},   {"fe80::1", false, false, true},
      {"224.0.0.1", false, false, true},     {"255.255.255.255", false, false, true},
  };
  for (const Expected& one : cases) {
    for (const AddressUse use : kUses) {
      const Bytes bytes = Internet(one.address, 80);
      EXPECT_EQ(Allows({.reach = Reach::kNone}, bytes, use), one.none) << one.address;
      EXPECT_EQ(Allows({.reach = Reach::kLoopback}, bytes, use), one.loopback) << one.address;
      EXPECT_EQ(Allows({.reach = Reach::kHost}, bytes, use), one.host) << one.address;
      EXPECT_FALSE(Allows({.reach = Reach::kListed}, bytes, use)) << one.address;
    }
  }
}

TEST(NetworkRulesOf, ListsAreOfAddressesAndPorts) {
  const NetworkRules rules{.reach = Reach::kListed,
                           .origin = 9,
                           .outbound = {Rule("192.0.2.0", 24, 443, 443, 1),
                                        Rule("198.51.100.5", 32, 1000, 2000, 2),
                                        Rule("2001:db8::", 33, 53, 53, 3)},
                           .listen = {Rule("127.0.0.1", 32, 8080, 8080, 4)}};
  struct Case {
    const char* address;
    std::uint16_t port;
    std::optional<Origin> rule;
  };
  const Case cases[] = {
      {"192.0.2.0", 443, 1},       {"192.0.2.255", 443, 1},     {"192.0.2.1", 444, {}},
      {"192.0.3.1", 443, {}},      {"192.0.1.255", 443, {}},    {"198.51.100.5", 999, {}},
      {"198.51.100.5", 1000, 2},   {"198.51.100.5", 2000, 2},   {"198.51.100.5", 2001, {}},
      {"198.51.100.4", 1500, {}},  {"2001:db8::1", 53, 3},      {"2001:db8:7fff::1", 53, 3},
      {"2001:db8:8000::", 53, {}}, {"2001:db9::1", 53, {}},     {"::ffff:192.0.2.9", 443, 1},
      {"127.0.0.1", 8080, {}},     {"::192.0.2.1", 443, {}},
  };
  for (const Case& one : cases) {
    for (const AddressUse use : {kConnect, kSend}) {
      const SocketAddress address = DecodeAddress(Internet(one.address, one.port), use);
      const NetworkAnswer answer = MayUse(rules, address, use);
      EXPECT_EQ(answer.allowed, one.rule.has_value()) << one.address << " " << one.port;
      EXPECT_EQ(answer.origin, one.rule.value_or(9)) << one.address << " " << one.port;
    }
  }
  for (const AddressUse use : {kBind, kListen}) {
    EXPECT_TRUE(Allows(rules, Ipv4("127.0.0.1", 8080), use));
    EXPECT_FALSE(Allows(rules, Ipv4("127.0.0.1", 0), use));
    EXPECT_FALSE(Allows(rules, Ipv4("127.0.0.2", 8080), use));
    EXPECT_FALSE(Allows(rules, Ipv4("0.0.0.0", 8080), use));
    EXPECT_FALSE(Allows(rules, Ipv4("192.0.2.1", 443), use));
  }
}

TEST(NetworkRulesOf, AWholeFamilyAndEverythingCanBeListed) {
  const NetworkRules ipv4{.reach = Reach::kListed, .outbound = {Rule("0.0.0.0", 0, 0, 65535)}};
  EXPECT_TRUE(Allows(ipv4, Ipv4("203.0.113.1", 1), kConnect));
  EXPECT_FALSE(Allows(ipv4, Ipv6("2001:db8::1", 1), kConnect));
  const NetworkRules all{.reach = Reach::kListed, .outbound = {Rule("::", 0, 0, 65535)}};
  EXPECT_TRUE(Allows(all, Ipv4("203.0.113.1", 1), kConnect));
  EXPECT_TRUE(Allows(all, Ipv6("2001:db8::1", 65535), kConnect));
  const NetworkRules one{.reach = Reach::kListed, .outbound = {Rule("2001:db8::1", 128, 5, 5)}};
  EXPECT_TRUE(Allows(one, Ipv6("2001:db8::1", 5), kConnect));
  EXPECT_FALSE(Allows(one, Ipv6("2001:db8::2", 5), kConnect));
}

TEST(NetworkRulesOf, ListenRulesAddToLoopback) {
  const NetworkRules rules{.reach = Reach::kLoopback, .listen = {Rule("0.0.0.0", 0, 80, 80)}};
  EXPECT_TRUE(Allows(rules, Ipv4("0.0.0.0", 80), kBind));
  EXPECT_TRUE(Allows(rules, Ipv4("127.0.0.1", 5), kBind));
  EXPECT_FALSE(Allows(rules, Ipv4("0.0.0.0", 81), kBind));
  EXPECT_FALSE(Allows(rules, Ipv4("192.0.2.1", 80), kConnect));
  const NetworkRules none{.reach = Reach::kNone, .listen = {Rule("0.0.0.0", 0, 80, 80)}};
  EXPECT_FALSE(Allows(none, Ipv4("0.0.0.0", 80), kBind));
}

TEST(NetworkRulesOf, UnixSockets) {
  const NetworkRules closed{.reach = Reach::kListed};
  const NetworkRules open{.reach = Reach::kNone, .unix_sockets = true};
  const NetworkRules host{.reach = Reach::kHost};
  const Bytes abstract = Unix(std::string_view("\0x", 2));
  for (const AddressUse use : {kConnect, kSend}) {
    EXPECT_FALSE(Allows(closed, Unix("/run/x"), use));
    EXPECT_TRUE(Allows(open, Unix("/run/x"), use));
    EXPECT_FALSE(Allows(open, abstract, use));
    EXPECT_TRUE(Allows(host, abstract, use));
  }
  EXPECT_TRUE(Allows(closed, Unix("/run/x"), kBind));
  EXPECT_FALSE(Allows(open, abstract, kBind));
  EXPECT_FALSE(Allows(open, Unix(""), kBind));
  EXPECT_TRUE(Allows(host, Unix(""), kBind));
}

TEST(NetworkRulesOf, NetlinkOnlyToTheKernelAndOtherFamiliesNever) {
  sockaddr_nl netlink{};
  netlink.nl_family = AF_NETLINK;
  const NetworkRules host{.reach = Reach::kHost};
  EXPECT_TRUE(Allows(host, BytesOf(netlink), kSend));
  netlink.nl_groups = 1;
  EXPECT_FALSE(Allows(host, BytesOf(netlink), kSend));
  EXPECT_TRUE(Allows(host, BytesOf(netlink), kBind));
  netlink.nl_groups = 0;
  netlink.nl_pid = 1;
  EXPECT_FALSE(Allows(host, BytesOf(netlink), kConnect));
  sockaddr_storage other{};
  other.ss_family = AF_VSOCK;
  for (const AddressUse use : kUses) EXPECT_FALSE(Allows(host, BytesOf(other), use));
}

TEST(NetworkRulesOf, WhatTheKernelRefusesAnywayAndTakingThePeerAwayPass) {
  EXPECT_TRUE(Allows({}, Bytes(1), kConnect));
  EXPECT_TRUE(Allows({}, Bytes(2), kConnect));
}

// ---- Sockets ------------------------------------------------------------------------------------

struct SocketCase {
  int domain, type, protocol;
  int none, listed, host;  // 0: allowed
};

TEST(NetworkSockets, ByFamilyTypeAndProtocol) {
  const SocketCase cases[] = {
      {AF_UNIX, SOCK_STREAM, 0, 0, 0, 0},
      {AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, 0, 0, 0},
      {AF_INET, SOCK_STREAM, 0, EACCES, 0, 0},
      {AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP, EACCES, 0, 0},
      {AF_INET6, SOCK_DGRAM, IPPROTO_UDP, EACCES, 0, 0},
      {AF_INET, SOCK_STREAM, IPPROTO_MPTCP, EACCES, EPROTONOSUPPORT, 0},
      {AF_INET, SOCK_STREAM, IPPROTO_SCTP, EACCES, EPROTONOSUPPORT, 0},
      {AF_INET, SOCK_SEQPACKET, IPPROTO_SCTP, EACCES, EPROTONOSUPPORT, 0},
      {AF_INET, SOCK_DGRAM, IPPROTO_ICMP, EACCES, EPROTONOSUPPORT, 0},
      {AF_INET6, SOCK_DGRAM, IPPROTO_UDPLITE, EACCES, EPROTONOSUPPORT, 0},
      {AF_INET, SOCK_RAW, IPPROTO_ICMP, EPERM, EPERM, EPERM},
      {AF_INET6, SOCK_RAW | SOCK_CLOEXEC, 255, EPERM, EPERM, EPERM},
      {AF_INET, SOCK_PACKET, 3, EPERM, EPERM, EPERM},
      {AF_PACKET, SOCK_RAW, 3, EPERM, EPERM, EPERM},
      {AF_PACKET, SOCK_DGRAM, 3, EPERM, EPERM, EPERM},
      {AF_NETLINK, SOCK_RAW, NETLINK_ROUTE, EACCES, 0, 0},
      {AF_NETLINK, SOCK_DGRAM, NETLINK_KOBJECT_UEVENT, EACCES, EPROTONOSUPPORT, EPROTONOSUPPORT},
      {AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER, EACCES, EPROTONOSUPPORT, EPROTONOSUPPORT},
      {AF_VSOCK, SOCK_STREAM, 0, EAFNOSUPPORT, EAFNOSUPPORT, EAFNOSUPPORT},
      {AF_ALG, SOCK_SEQPACKET, 0, EAFNOSUPPORT, EAFNOSUPPORT, EAFNOSUPPORT},
      {AF_BLUETOOTH, SOCK_RAW, 1, EAFNOSUPPORT, EAFNOSUPPORT, EAFNOSUPPORT},
      {AF_UNSPEC, SOCK_STREAM, 0, EAFNOSUPPORT, EAFNOSUPPORT, EAFNOSUPPORT},
      {-1, -1, -1, EAFNOSUPPORT, EAFNOSUPPORT, EAFNOSUPPORT},
  };
  for (const SocketCase& one : cases) {
    const auto error = [&](Reach reach) {
      const SocketAnswer answer =
          MayMakeSocket({.reach = reach}, one.domain, one.type, one.protocol);
      EXPECT_EQ(answer.allowed, answer.error == 0);
      return answer.error;
    };
    const std::string what = DescribeSocket(one.domain, one.type);
    EXPECT_EQ(error(Reach::kNone), one.none) << what << " " << one.protocol;
    EXPECT_EQ(error(Reach::kLoopback), one.listed) << what << " " << one.protocol;
    EXPECT_EQ(error(Reach::kListed), one.listed) << what << " " << one.protocol;
    EXPECT_EQ(error(Reach::kHost), one.host) << what << " " << one.protocol;
  }
}

TEST(NetworkSockets, OnlyUnixPairs) {
  EXPECT_TRUE(MayMakePair(AF_UNIX).allowed);
  for (const int domain : {AF_INET, AF_INET6, AF_TIPC, AF_NETLINK}) {
    EXPECT_EQ(MayMakePair(domain).error, EOPNOTSUPP);
  }
}

TEST(NetworkSockets, AreDescribed) {
  EXPECT_EQ(DescribeSocket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC), "inet stream");
  EXPECT_EQ(DescribeSocket(AF_PACKET, SOCK_RAW), "packet raw");
  EXPECT_EQ(DescribeSocket(38, 5), "38 seqpacket");
}

}  // namespace
}  // namespace dunebox::hostcalls::policy
