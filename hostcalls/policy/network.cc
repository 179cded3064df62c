#include "hostcalls/policy/network.h"

#include <arpa/inet.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"

namespace dunebox::hostcalls::policy {
namespace {

using InternetAddress = std::array<std::uint8_t, 16>;

constexpr std::size_t kLeastIpv6 = 24;  // without the scope; SIN6_LEN_RFC2133 [linux]
constexpr InternetAddress kAnyIpv6{};
constexpr InternetAddress kLoopbackIpv6{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
constexpr std::array<std::uint8_t, 12> kMapped{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
constexpr std::array<std::uint8_t, 4> kAnyIpv4{};
constexpr std::array<std::uint8_t, 4> kLoopbackIpv4{127, 0, 0, 1};

bool IsMapped(const InternetAddress& address) {
  return std::equal(kMapped.begin(), kMapped.end(), address.begin());
}
bool IsLoopback(const InternetAddress& address) {
  return address == kLoopbackIpv6 || (IsMapped(address) && address[12] == 127);
}

// Of a structure whose family and length have been looked at.
template <typename T>
T Read(std::span<const std::byte> bytes) {
  T value{};
  std::memcpy(&value, bytes.data(), std::min(sizeof(value), bytes.size()));
  return value;
}

// How the kernel understands an address of so many bytes.
enum class Form : unsigned char { kIpv4, kIpv6, kElse };

Form FormOf(std::span<const std::byte> bytes, std::uint16_t family, AddressUse use) {
  const bool stands_for_ipv4 = family == AF_UNSPEC && use != AddressUse::kConnect;
  if ((family == AF_INET || stands_for_ipv4) && bytes.size() >= sizeof(sockaddr_in)) {
    return Form::kIpv4;
  }
  return family == AF_INET6 && bytes.size() >= kLeastIpv6 ? Form::kIpv6 : Form::kElse;
}

void DecodeUnix(std::span<const std::byte> bytes, AddressUse use, SocketAddress& address) {
  constexpr std::size_t kNameAt = offsetof(sockaddr_un, sun_path);
  if (bytes.size() > sizeof(sockaddr_un)) return;
  const std::string_view name(reinterpret_cast<const char*>(bytes.data()) + kNameAt,
                              bytes.size() - kNameAt);
  if (name.empty()) {
    if (use == AddressUse::kBind) address.kind = AddressKind::kUnixUnnamed;
  } else if (name.front() == '\0') {
    address.kind = AddressKind::kUnixAbstract;
    address.name = name.substr(1);
  } else {
    address.kind = AddressKind::kUnixPath;
    address.name = name.substr(0, name.find('\0'));
  }
}

void DecodeNetlink(std::span<const std::byte> bytes, SocketAddress& address) {
  if (bytes.size() < sizeof(sockaddr_nl)) return;
  const auto netlink = Read<sockaddr_nl>(bytes);
  address.kind = AddressKind::kNetlink;
  address.netlink_port = netlink.nl_pid;
  address.netlink_groups = netlink.nl_groups;
}

bool Covers(const EndpointRule& rule, const InternetAddress& address, std::uint16_t port) {
  if (port < rule.first_port || port > rule.last_port) return false;
  const std::size_t whole = rule.prefix / 8;
  if (!std::equal(address.begin(), address.begin() + static_cast<std::ptrdiff_t>(whole),
                  rule.address.begin())) {
    return false;
  }
  const unsigned rest = rule.prefix % 8;
  if (rest == 0) return true;
  return ((address[whole] ^ rule.address[whole]) >> (8 - rest)) == 0;
}

std::optional<Origin> FindRule(const std::vector<EndpointRule>& rules,
                               const SocketAddress& address) {
  const auto found = std::ranges::find_if(
      rules, [&](const EndpointRule& rule) { return Covers(rule, address.address, address.port); });
  if (found == rules.end()) return std::nullopt;
  return found->origin;
}

NetworkAnswer MayUseInternet(const NetworkRules& rules, const SocketAddress& address,
                             AddressUse use) {
  if (rules.reach == Reach::kNone) return {false, rules.origin};
  if (rules.reach == Reach::kHost) return {true, rules.origin};
  if (rules.reach == Reach::kLoopback && IsLoopback(address.address)) return {true, rules.origin};
  const bool outbound = use == AddressUse::kConnect || use == AddressUse::kSend;
  if (outbound && rules.reach == Reach::kLoopback) return {false, rules.origin};
  const std::optional<Origin> rule = FindRule(outbound ? rules.outbound : rules.listen, address);
  return {rule.has_value(), rule.value_or(rules.origin)};
}

SocketAnswer Refused(int error, const NetworkRules& rules) {
  return {.allowed = false, .error = error, .origin = rules.origin};
}

// What an option or control message may be used with.
enum class Needs : unsigned char { kAny, kHost };
struct OptionRow {
  int level;
  int option;
  Needs needs;
};
constexpr OptionRow kOptions[] = {
#define OPTION(level, option, name, needs) {level, option, Needs::needs},
#define CONTROL(level, type, name)
#include "hostcalls/policy/socket_options.inc"
#undef CONTROL
#undef OPTION
};
constexpr std::pair<int, int> kControls[] = {
#define OPTION(level, option, name, needs)
#define CONTROL(level, type, name) {level, type},
#include "hostcalls/policy/socket_options.inc"
#undef CONTROL
#undef OPTION
};

constexpr int kTypeBits = 0xf;  // SOCK_TYPE_MASK [linux]

// Streams and datagrams, of the two protocols whose addresses mean what they say: multipath TCP and
// SCTP go on to addresses that the peer tells.
bool IsPlainInternet(int type, int protocol) {
  if (type == SOCK_STREAM) return protocol == 0 || protocol == IPPROTO_TCP;
  return type == SOCK_DGRAM && (protocol == 0 || protocol == IPPROTO_UDP);
}

}  // namespace

SocketAddress DecodeAddress(std::span<const std::byte> bytes, AddressUse use) {
  SocketAddress address;
  if (bytes.size() < sizeof(sa_family_t)) return address;
  address.family = Read<sa_family_t>(bytes);
  switch (FormOf(bytes, address.family, use)) {
    case Form::kIpv4: {
      const auto ipv4 = Read<sockaddr_in>(bytes);
      address.kind = AddressKind::kInternet;
      address.port = ntohs(ipv4.sin_port);
      std::ranges::copy(kMapped, address.address.begin());
      std::memcpy(&address.address[kMapped.size()], &ipv4.sin_addr, sizeof(ipv4.sin_addr));
      return address;
    }
    case Form::kIpv6: {
      const auto ipv6 = Read<sockaddr_in6>(bytes);
      address.kind = AddressKind::kInternet;
      address.port = ntohs(ipv6.sin6_port);
      std::memcpy(address.address.data(), &ipv6.sin6_addr, sizeof(ipv6.sin6_addr));
      return address;
    }
    case Form::kElse:
      break;
  }
  switch (address.family) {
    case AF_UNSPEC:
      if (use == AddressUse::kConnect) address.kind = AddressKind::kDisconnect;
      break;
    case AF_INET:
    case AF_INET6:
      break;
    case AF_UNIX:
      DecodeUnix(bytes, use, address);
      break;
    case AF_NETLINK:
      DecodeNetlink(bytes, address);
      break;
    default:
      address.kind = AddressKind::kOther;
  }
  return address;
}

void NameLoopback(const NetworkRules& rules, std::span<std::byte> bytes, AddressUse use) {
  if (bytes.size() < sizeof(sa_family_t)) return;
  if (use == AddressUse::kBind &&
      (rules.reach != Reach::kLoopback || MayUse(rules, DecodeAddress(bytes, use), use).allowed)) {
    return;
  }
  const auto write = [&](std::size_t at, const auto& value) {
    std::memcpy(&bytes[at], value.data(), value.size());
  };
  switch (FormOf(bytes, Read<sa_family_t>(bytes), use)) {
    case Form::kIpv4: {
      constexpr std::size_t kAt = offsetof(sockaddr_in, sin_addr);
      if (std::memcmp(&bytes[kAt], kAnyIpv4.data(), kAnyIpv4.size()) == 0) {
        write(kAt, kLoopbackIpv4);
      }
      return;
    }
    case Form::kIpv6: {
      constexpr std::size_t kAt = offsetof(sockaddr_in6, sin6_addr);
      InternetAddress address;
      std::memcpy(address.data(), &bytes[kAt], address.size());
      if (address == kAnyIpv6) write(kAt, kLoopbackIpv6);
      constexpr std::size_t kIpv4At = kMapped.size();
      if (IsMapped(address) &&
          std::equal(kAnyIpv4.begin(), kAnyIpv4.end(), address.begin() + kIpv4At)) {
        write(kAt + kIpv4At, kLoopbackIpv4);
      }
      return;
    }
    case Form::kElse:
      return;
  }
}

NetworkAnswer MayUse(const NetworkRules& rules, const SocketAddress& address, AddressUse use) {
  const bool outbound = use == AddressUse::kConnect || use == AddressUse::kSend;
  switch (address.kind) {
    case AddressKind::kMalformed:
    case AddressKind::kDisconnect:
      return {true, rules.origin};
    case AddressKind::kInternet:
      return MayUseInternet(rules, address, use);
    case AddressKind::kUnixPath:
      // Outwards it needs the word of the policy; a name of its own a program may make where files
      // may be created.
      return {!outbound || rules.unix_sockets, rules.origin};
    case AddressKind::kUnixUnnamed:
    case AddressKind::kUnixAbstract:
      // Abstract names belong to the network, where every process of the machine can be.
      return {rules.reach == Reach::kHost, rules.origin};
    case AddressKind::kNetlink:
      // To the kernel alone, which answers questions.
      return {!outbound || (address.netlink_port == 0 && address.netlink_groups == 0),
              rules.origin};
    case AddressKind::kOther:
      return {false, rules.origin};
  }
  return {false, rules.origin};
}

SocketAnswer MayMakeSocket(const NetworkRules& rules, int domain, int type, int protocol) {
  const SocketAnswer allowed{.allowed = true, .error = 0, .origin = rules.origin};
  const int kind = type & kTypeBits;
  switch (domain) {
    case AF_UNIX:
      return allowed;
    case AF_INET:
    case AF_INET6: {
      if (kind == SOCK_RAW || kind == SOCK_PACKET) return Refused(EPERM, rules);
      if (rules.reach == Reach::kNone) return Refused(EACCES, rules);
      if (rules.reach == Reach::kHost || IsPlainInternet(kind, protocol)) return allowed;
      return Refused(EPROTONOSUPPORT, rules);
    }
    case AF_NETLINK:
      if (rules.reach == Reach::kNone) return Refused(EACCES, rules);
      return protocol == NETLINK_ROUTE ? allowed : Refused(EPROTONOSUPPORT, rules);
    case AF_PACKET:
      return Refused(EPERM, rules);
    default:
      return Refused(EAFNOSUPPORT, rules);
  }
}

SocketAnswer MayMakePair(int domain) {
  if (domain == AF_UNIX) return {.allowed = true};
  return {.allowed = false, .error = EOPNOTSUPP};  // what Linux has for most families
}

bool MaySetOption(const NetworkRules& rules, int level, int option) {
  return std::ranges::any_of(kOptions, [&](const OptionRow& row) {
    return row.level == level && row.option == option &&
           (row.needs == Needs::kAny || rules.reach == Reach::kHost);
  });
}

bool MaySendControl(int level, int type) {
  return std::ranges::find(kControls, std::pair(level, type)) != std::end(kControls);
}

std::string Describe(const SocketAddress& address) {
  switch (address.kind) {
    case AddressKind::kInternet: {
      char text[INET6_ADDRSTRLEN] = {};
      if (IsMapped(address.address)) {
        inet_ntop(AF_INET, &address.address[kMapped.size()], text, sizeof(text));
        return absl::StrCat(text, ":", address.port);
      }
      inet_ntop(AF_INET6, address.address.data(), text, sizeof(text));
      return absl::StrCat("[", text, "]:", address.port);
    }
    case AddressKind::kUnixPath:
      return absl::StrCat("unix:", address.name);
    case AddressKind::kUnixAbstract:
      return absl::StrCat("unix:@", address.name);
    case AddressKind::kUnixUnnamed:
      return "unix:@ (a name the kernel chooses)";
    case AddressKind::kNetlink:
      return "netlink";
    case AddressKind::kOther:
      return absl::StrCat("an address of family ", address.family);
    case AddressKind::kDisconnect:
    case AddressKind::kMalformed:
      return "no address";
  }
  return {};
}

std::string DescribeSocket(int domain, int type) {
  constexpr std::pair<int, std::string_view> kDomains[] = {
      {AF_UNIX, "unix"},     {AF_INET, "inet"},     {AF_INET6, "inet6"},
      {AF_NETLINK, "netlink"}, {AF_PACKET, "packet"}, {AF_VSOCK, "vsock"}};
  constexpr std::pair<int, std::string_view> kTypes[] = {{SOCK_STREAM, "stream"},
                                                         {SOCK_DGRAM, "datagram"},
                                                         {SOCK_RAW, "raw"},
                                                         {SOCK_SEQPACKET, "seqpacket"}};
  const auto name = [](const auto& names, int value) {
    const auto* const found =
        std::ranges::find(names, value, &std::pair<int, std::string_view>::first);
    return found == std::end(names) ? absl::StrCat(value) : std::string(found->second);
  };
  return absl::StrCat(name(kDomains, domain), " ", name(kTypes, type & kTypeBits));
}

}  // namespace dunebox::hostcalls::policy
