// System calls by name or by group, as call rules write them: "ptrace", "@network".
//
//   std::optional<std::vector<std::uint16_t>> numbers = CallsNamed("@debug");
//   if (!numbers) ...   // no such call or group
#ifndef DUNEBOX_SANDBOX_POLICY_CALL_GROUPS_H_
#define DUNEBOX_SANDBOX_POLICY_CALL_GROUPS_H_

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace dunebox::policy {

struct CallGroup {
  std::string_view name;     // without "@"
  std::string_view meaning;  // in plain words
  std::string_view members;  // calls of a main group, main groups of another; blanks between
  bool is_main = true;
};

// The main groups first.
std::span<const CallGroup> CallGroups();
// Nothing where there is no such call or group. Ascending.
std::optional<std::vector<std::uint16_t>> CallsNamed(std::string_view name);
// The main group that a call of the table is in.
std::string_view MainGroupOf(std::uint16_t number);

}  // namespace dunebox::policy

#endif  // DUNEBOX_SANDBOX_POLICY_CALL_GROUPS_H_
