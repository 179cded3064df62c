// Feeds arbitrary bytes to the reader of a policy's rules: what it accepts is exactly what
// Serialize writes, and asking such rules is harmless.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "hostcalls/policy/rules.h"

namespace dunebox::hostcalls::policy {
namespace {

void Require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "accepted rules violate: %s\n", what);
  std::abort();
}

// Does another rule say the same of another path?
bool IsSaidElsewhere(const Rules& rules, const PathRule& rule) {
  if (rule.rights == kNoRights && rule.origin == 0) return true;  // as no rule at all
  for (const PathRule& other : rules.paths) {
    if (other.path != rule.path && other.rights == rule.rights && other.origin == rule.origin) {
      return true;
    }
  }
  return false;
}

void CheckRules(const Rules& rules, std::string_view bytes) {
  Require(Serialize(rules) == bytes, "written again they are the same bytes");
  for (const PathRule& rule : rules.paths) {
    const RightsAndOrigin found = rules.RightsOn(rule.path);
    Require(found.rights == rule.rights && found.origin == rule.origin, "a path finds its rule");
    const std::string below = rule.path == "/" ? "/below" : rule.path + "/below";
    Require(!rule.itself_alone || rules.HasRuleBelow(rule.path) ||
                rules.RightsOn(below).origin != rule.origin ||
                rules.RightsOn(below).rights != rule.rights || IsSaidElsewhere(rules, rule),
            "a rule for one object says nothing of what is below");
    Require(rule.rights == kNoRights || rule.path == "/" || rules.LeadsToRights("/"),
            "the root leads to every tree");
    (void)rules.OriginText(rule.origin);
  }
}

}  // namespace
}  // namespace dunebox::hostcalls::policy

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto rules = dunebox::hostcalls::policy::ParseRules(bytes);
  if (rules.ok()) dunebox::hostcalls::policy::CheckRules(*rules, bytes);
  return 0;
}
