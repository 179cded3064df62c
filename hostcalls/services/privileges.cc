#include "hostcalls/services/privileges.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/strings/str_cat.h"

namespace dunebox::hostcalls {
namespace {

enum class When : std::uint8_t { kAlways, kUsers, kGroups, kOwner };

struct PrivilegedCall {
  std::string_view call;
  std::string_view capability;
  When when;
  std::size_t first;
};
constexpr PrivilegedCall kCalls[] = {
#define PRIVILEGED(call, capability, when, first) {#call, capability, When::when, first},
#include "hostcalls/services/privileged_calls.inc"
#undef PRIVILEGED
};

using Id = std::uint32_t;
constexpr Id kUnchanged = ~Id{0};

// Real, effective and saved.
using Ids = std::array<Id, 3>;
Ids OwnUsers() {
  Ids ids{};
  return getresuid(&ids[0], &ids[1], &ids[2]) == 0 ? ids : Ids{};
}
Ids OwnGroups() {
  Ids ids{};
  return getresgid(&ids[0], &ids[1], &ids[2]) == 0 ? ids : Ids{};
}

bool IsIn(Id id, std::span<const Id> ids) { return std::ranges::find(ids, id) != ids.end(); }

bool IsInOwnGroup(Id id) {
  std::vector<gid_t> groups(static_cast<std::size_t>(std::max(getgroups(0, nullptr), 0)));
  const int count = getgroups(static_cast<int>(groups.size()), groups.data());
  return IsIn(id, OwnGroups()) || (count > 0 && IsIn(id, std::span(groups).first(static_cast<std::size_t>(count))));
}

// Who the thread would be: the first id that is none of its own.
Id Stranger(const Row& row, const ArgumentValues& arguments, const Ids& own) {
  for (int i = 0; i < row.argument_count(); ++i) {
    const auto id = static_cast<Id>(arguments[static_cast<std::size_t>(i)]);
    if (id != kUnchanged && !IsIn(id, own)) return id;
  }
  return kUnchanged;
}

PrivilegeUse ToBecome(const PrivilegedCall& call, Id id, std::string_view flag) {
  if (id == kUnchanged) return {};
  return {call.capability, absl::StrCat(absl::string_view(flag.data(), flag.size()), " ", id)};
}

PrivilegeUse UseOf(const PrivilegedCall& call, const Row& row, const ArgumentValues& arguments) {
  switch (call.when) {
    case When::kAlways:
      return {call.capability, ""};
    case When::kUsers:
      return ToBecome(call, Stranger(row, arguments, OwnUsers()), "--uid");
    case When::kGroups:
      return ToBecome(call, Stranger(row, arguments, OwnGroups()), "--gid");
    case When::kOwner:
      break;
  }
  const auto owner = static_cast<Id>(arguments[call.first]), group = static_cast<Id>(arguments[call.first + 1]);
  const bool is_own = (owner == kUnchanged || owner == geteuid()) && (group == kUnchanged || IsInOwnGroup(group));
  return is_own ? PrivilegeUse{} : PrivilegeUse{call.capability, ""};
}

}  // namespace

PrivilegeUse PrivilegeOf(const Row& row, const ArgumentValues& arguments) {
  const auto* const call = std::ranges::find(kCalls, std::string_view(row.name), &PrivilegedCall::call);
  return call == std::end(kCalls) ? PrivilegeUse{} : UseOf(*call, row, arguments);
}

void TellPrivilege(Caller& caller, const PrivilegeUse& use) {
  // An audit, so nothing is refused.
  (void)caller.guard->Refuse(caller, {.action = "use",
                                      .object = std::string(use.capability),
                                      .origin = 0,
                                      .cure = use.cure,
                                      .error = EPERM});
}

}  // namespace dunebox::hostcalls
