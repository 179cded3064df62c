#include <algorithm>

#include "absl/strings/str_cat.h"
#include "hostcalls/errors/message.h"
#include "sandbox/policy/compile_parts.h"

namespace dunebox::policy {
namespace {

using hostcalls::policy::EndpointRule;
using hostcalls::policy::Reach;
using hostcalls::policy::Rules;

// More ports than these, and the kernel's second check of them is left to the first wall.
constexpr std::size_t kMostPorts = 256;

const NetworkRule* Find(const Policy& policy, NetworkKind kind) {
  const auto rule = std::ranges::find(policy.network, kind, &NetworkRule::kind);
  return rule == policy.network.end() ? nullptr : &*rule;
}

absl::Status AddEndpoints(const NetworkRule& rule, const HostLookup& lookup, Rules& rules) {
  std::vector<EndpointRule>& endpoints =
      rule.kind == NetworkKind::kConnect ? rules.network.outbound : rules.network.listen;
  EndpointRule endpoint{.first_port = rule.first_port,
                        .last_port = rule.last_port,
                        .origin = OriginOf(rules, rule.origin)};
  std::vector<std::string> texts = {rule.host};
  if (!ParseAddress(rule.host)) {
    absl::StatusOr<std::vector<std::string>> found = lookup(rule.host);
    if (!found.ok()) return At(rule.origin, found.status());
    texts = *std::move(found);
  }
  for (const std::string& text : texts) {
    const AddressRange range = ParseAddress(text).value_or(AddressRange{.prefix = 128});
    endpoint.address = range.address;
    endpoint.prefix = range.prefix;
    endpoints.push_back(endpoint);
  }
  return absl::OkStatus();
}

// False: there are too many.
bool ListPorts(const std::vector<EndpointRule>& endpoints, std::vector<std::uint16_t>& ports) {
  for (const EndpointRule& endpoint : endpoints) {
    if (std::size_t{endpoint.last_port} - endpoint.first_port >= kMostPorts) return false;
    for (unsigned port = endpoint.first_port; port <= endpoint.last_port; ++port) {
      ports.push_back(static_cast<std::uint16_t>(port));
    }
  }
  std::ranges::sort(ports);
  ports.erase(std::unique(ports.begin(), ports.end()), ports.end());
  return ports.size() <= kMostPorts;
}

// `any` instead of `ports` when there are too many.
void PlanPorts(const std::vector<EndpointRule>& endpoints, std::vector<std::uint16_t>& ports,
               bool& any) {
  any = !ListPorts(endpoints, ports);
  if (any) ports.clear();
}

}  // namespace

absl::Status CompileNetwork(const Policy& policy, const HostLookup& lookup, Rules& rules,
                            confinement::Plan& plan) {
  const NetworkRule* const host = Find(policy, NetworkKind::kHost);
  const NetworkRule* const loopback = Find(policy, NetworkKind::kLoopback);
  const NetworkRule* const connect = Find(policy, NetworkKind::kConnect);
  const NetworkRule* const listed =
      connect != nullptr ? connect : Find(policy, NetworkKind::kListen);
  if (loopback != nullptr && (listed != nullptr || host != nullptr)) {
    return At(
        loopback->origin,
        errors::Named(
            errors::Id::kRulesDoNotFit,
            absl::InvalidArgumentError(absl::StrCat(
                "a loopback of the session's own cannot be had together with the host's network (",
                (host != nullptr ? host : listed)->origin,
                "); name what is meant: --net=tcp:127.0.0.1:PORT"))));
  }
  const NetworkRule* const deciding = host != nullptr          ? host
                                      : loopback != nullptr    ? loopback
                                      : listed != nullptr      ? listed
                                      : policy.network.empty() ? nullptr
                                                               : &policy.network.back();
  rules.network.origin = deciding == nullptr ? 0 : OriginOf(rules, deciding->origin);
  rules.network.unix_sockets = host != nullptr || Find(policy, NetworkKind::kUnix) != nullptr;
  plan.own_network = host == nullptr && listed == nullptr;
  if (host != nullptr || loopback != nullptr) {
    rules.network.reach = host != nullptr ? Reach::kHost : Reach::kLoopback;
    plan.any_connect_port = plan.any_bind_port = true;
    // Without a network of its own this would be the host's loopback, which is more than was said.
    if (loopback != nullptr) plan.required.push_back(confinement::Mechanism::kNetworkNamespace);
    return absl::OkStatus();
  }
  rules.network.reach = listed != nullptr ? Reach::kListed : Reach::kNone;
  for (const NetworkRule& rule : policy.network) {
    if (rule.kind != NetworkKind::kConnect && rule.kind != NetworkKind::kListen) continue;
    if (absl::Status status = AddEndpoints(rule, lookup, rules); !status.ok()) return status;
  }
  PlanPorts(rules.network.outbound, plan.connect_ports, plan.any_connect_port);
  PlanPorts(rules.network.listen, plan.bind_ports, plan.any_bind_port);
  return absl::OkStatus();
}

}  // namespace dunebox::policy
