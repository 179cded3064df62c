#include "sandbox/compartment/call_groups.h"

#include <array>

#include "hostcalls/check.h"
#include "hostcalls/table/table.h"

namespace dunebox::compartment {
namespace {

struct NamedNeed {
  const char* call;
  CallNeed need;
};
constexpr NamedNeed kNamedNeeds[] = {
#define CALL_ALWAYS(call) {#call, {.kind = CallNeed::Kind::kAlways}},
#define CALL_OF_GROUP(call, member) \
  {#call, {.kind = CallNeed::Kind::kGroup, .group = CallGroup::member}},
#include "sandbox/compartment/call_groups.inc"
#undef CALL_OF_GROUP
#undef CALL_ALWAYS
};

using Needs = std::array<CallNeed, hostcalls::kSyscallTableSize>;

const Needs& AllNeeds() {
  static const Needs needs = [] {
    Needs result{};
    for (const NamedNeed& row : kNamedNeeds) {
      const hostcalls::Row* const known = hostcalls::FindRow(row.call);
      DUNEBOX_CHECK(known != nullptr, "a compartment's call that the table does not have");
      result[known->number] = row.need;
    }
    return result;
  }();
  return needs;
}

}  // namespace

CallNeed NeedOf(std::uint64_t number) {
  const Needs& needs = AllNeeds();
  return number < needs.size() ? needs[number] : CallNeed{};
}

}  // namespace dunebox::compartment
