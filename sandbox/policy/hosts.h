// Addresses as a policy writes them, and names of hosts.
//
// A name stands for the addresses it has when the session starts; what a name server says later
// changes nothing. The look-up is done by `getent`, a program of the C library: this binary is
// static and has no name service of its own.
//
//   std::optional<AddressRange> range = ParseAddress("192.0.2.0/24");
//   absl::StatusOr<std::vector<std::string>> addresses = LookUpHost("example.org");
#ifndef DUNEBOX_SANDBOX_POLICY_HOSTS_H_
#define DUNEBOX_SANDBOX_POLICY_HOSTS_H_

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace dunebox::policy {

// IPv4 addresses in their IPv6 form, ::ffff:a.b.c.d.
struct AddressRange {
  std::array<std::uint8_t, 16> address{};
  std::uint8_t prefix = 0;  // bits that count
};

// "192.0.2.1", "192.0.2.0/24", "::1", "2001:db8::/32", "*".
std::optional<AddressRange> ParseAddress(const std::string& text);

using HostLookup = std::function<absl::StatusOr<std::vector<std::string>>(const std::string&)>;
// Addresses as text, at least one.
absl::StatusOr<std::vector<std::string>> LookUpHost(const std::string& name);

}  // namespace dunebox::policy

#endif  // DUNEBOX_SANDBOX_POLICY_HOSTS_H_
