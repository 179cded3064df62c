#include <fmt/format.h>

#include <algorithm>

#include "sandbox/policy/lint_parts.h"

namespace dunebox::policy {
namespace {

using hostcalls::policy::kWriteFile;

constexpr std::uint16_t kGreatestPort = 65535;

// "*", and ranges that are as wide.
bool IsEveryHost(std::string_view host) {
  return host == "*" || host == "0.0.0.0/0" || host == "::/0";
}

std::string Words(const NetworkRule& rule) {
  switch (rule.kind) {
    case NetworkKind::kNone:
      return "none";
    case NetworkKind::kLoopback:
      return "loopback";
    case NetworkKind::kHost:
      return "host";
    case NetworkKind::kUnix:
      return "unix";
    case NetworkKind::kConnect:
      return fmt::format("tcp:{}", rule.host);
    case NetworkKind::kListen:
      return fmt::format("listen:{}", rule.host);
  }
  return "?";
}

// Does `wide` permit all that `rule` permits?
bool Contains(const NetworkRule& wide, const NetworkRule& rule) {
  if (rule.kind == NetworkKind::kUnix || rule.kind == NetworkKind::kNone) {
    return wide.kind == rule.kind;
  }
  if (wide.kind == NetworkKind::kHost) return true;
  if (wide.kind != rule.kind) return false;
  if (rule.kind == NetworkKind::kLoopback || rule.kind == NetworkKind::kHost) return true;
  return (IsEveryHost(wide.host) || wide.host == rule.host) && wide.first_port <= rule.first_port &&
         wide.last_port >= rule.last_port;
}

void LintRule(const Policy& policy, const NetworkRule& rule, const LintSurroundings& surroundings,
              std::vector<Finding>& findings) {
  const auto add = [&](FindingKind kind, std::string reason, std::string suggestion) {
    findings.push_back({kind, rule.origin, std::move(reason), std::move(suggestion)});
  };
  for (const NetworkRule& other : policy.network) {
    // Of two that are alike the later is the one too many.
    if (&other == &rule || !Contains(other, rule)) continue;
    if (Contains(rule, other) && &other > &rule) continue;
    return add(
        FindingKind::kUnreachable,
        fmt::format("network {} has no effect: {} allows all of it", Words(rule), other.origin),
        "remove it, or the wider one");
  }
  const auto is_missing = [&](confinement::Mechanism mechanism) {
    return std::ranges::find(surroundings.missing, mechanism) != surroundings.missing.end();
  };
  switch (rule.kind) {
    case NetworkKind::kHost:
      return add(FindingKind::kTooWide,
                 "the host's network: every service on this machine and around it can be reached",
                 "name what is needed: --net=tcp:HOST:PORT");
    case NetworkKind::kConnect:
      if (IsEveryHost(rule.host) && rule.first_port <= 1 && rule.last_port == kGreatestPort) {
        add(FindingKind::kTooWide, "may connect to every port of every host",
            "name hosts, or at least ports: --net=tcp:*:443");
      }
      return;
    case NetworkKind::kUnix: {
      const bool has_place = std::ranges::any_of(policy.files, [](const FileRule& file) {
        return !IsBuiltIn(file.origin) && (file.rights & kWriteFile) != 0;
      });
      if (has_place) return;
      return add(FindingKind::kContradiction,
                 "unix sockets are allowed, but there is none it may write to",
                 "add --rw PATH for the socket");
    }
    case NetworkKind::kLoopback:
      if (!is_missing(confinement::Mechanism::kNetworkNamespace)) return;
      return add(
          FindingKind::kNotHere,
          "a loopback of its own needs a network namespace, which this machine does not give",
          "name the ports of the host's loopback: --net=tcp:127.0.0.1:PORT");
    case NetworkKind::kNone:
      if (policy.network.size() == 1) return;
      return add(FindingKind::kContradiction, "no network is asked for, and other rules allow some",
                 "remove one of the two");
    case NetworkKind::kListen:
      return;
  }
}

}  // namespace

void LintNetwork(const Policy& policy, const LintSurroundings& surroundings,
                 std::vector<Finding>& findings) {
  for (const NetworkRule& rule : policy.network) {
    if (!IsBuiltIn(rule.origin)) LintRule(policy, rule, surroundings, findings);
  }
}

}  // namespace dunebox::policy
