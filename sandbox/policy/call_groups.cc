#include "sandbox/policy/call_groups.h"

#include <algorithm>

#include "hostcalls/table/table.h"

namespace dunebox::policy {
namespace {

constexpr CallGroup kGroups[] = {
#define CALL_GROUP(name, meaning, calls) {name, meaning, calls, true},
#include "sandbox/policy/call_groups.inc"
#define CALL_GROUP_OF(name, meaning, groups) {name, meaning, groups, false},
#include "sandbox/policy/call_groups.inc"
};

constexpr char kGroupMark = '@';

// Takes the first of words with one blank between each two.
std::string_view TakeWord(std::string_view& words) {
  const std::size_t end = std::min(words.find(' '), words.size());
  const std::string_view word = words.substr(0, end);
  words.remove_prefix(std::min(end + 1, words.size()));
  return word;
}

const CallGroup* FindGroup(std::string_view name) {
  const auto* const group = std::ranges::find(kGroups, name, &CallGroup::name);
  return group == std::end(kGroups) ? nullptr : group;
}

void AppendCalls(const CallGroup& group, std::vector<std::uint16_t>& numbers) {
  for (std::string_view words = group.members; !words.empty();) {
    const std::string_view word = TakeWord(words);
    if (!group.is_main) {
      AppendCalls(*FindGroup(word), numbers);
    } else {
      numbers.push_back(hostcalls::FindRow(word)->number);
    }
  }
}

bool HasWord(std::string_view words, std::string_view wanted) {
  while (!words.empty()) {
    if (TakeWord(words) == wanted) return true;
  }
  return false;
}

}  // namespace

std::span<const CallGroup> CallGroups() { return kGroups; }

std::optional<std::vector<std::uint16_t>> CallsNamed(std::string_view name) {
  std::vector<std::uint16_t> numbers;
  if (name.starts_with(kGroupMark)) {
    const CallGroup* const group = FindGroup(name.substr(1));
    if (group == nullptr) return std::nullopt;
    AppendCalls(*group, numbers);
    std::ranges::sort(numbers);
  } else {
    const hostcalls::Row* const row = hostcalls::FindRow(name);
    if (row == nullptr) return std::nullopt;
    numbers.push_back(row->number);
  }
  return numbers;
}

std::string_view MainGroupOf(std::uint16_t number) {
  const hostcalls::Row* const row = hostcalls::FindRow(std::uint64_t{number});
  if (row == nullptr) return "";
  for (const CallGroup& group : kGroups) {
    if (group.is_main && HasWord(group.members, row->name)) return group.name;
  }
  return "";
}

}  // namespace dunebox::policy
