#include "sandbox/policy/presets.h"

#include <algorithm>
#include <span>

#include "absl/strings/str_cat.h"
#include "hostcalls/check.h"
#include "sandbox/policy/settings.h"

namespace dunebox::policy {
namespace {

struct PresetRow {
  std::string_view name;
  Setting setting;
  std::string_view word;
};

constexpr PresetRow kPresetRows[] = {
#define PRESET(name, setting, word) {name, Setting::setting, word},
#include "sandbox/policy/presets.inc"
#undef PRESET
};

constexpr PresetRow kDefaultRows[] = {
#define DEFAULT(setting, word) {"default", Setting::setting, word},
#include "sandbox/policy/default_policy.inc"
#undef DEFAULT
};

bool AddRows(Policy& policy, std::span<const PresetRow> rows, std::string_view name,
             const OriginText& origin) {
  const std::size_t files_before = policy.files.size();
  bool found = false;
  for (const PresetRow& row : rows) {
    if (row.name != name) continue;
    found = true;
    const std::string word(row.word);
    DUNEBOX_CHECK(Set(policy, row.setting, {&word, 1}, origin).ok(),
                  "a rule of a preset cannot be understood");
  }
  for (std::size_t i = files_before; i < policy.files.size(); ++i) {
    policy.files[i].may_be_absent = true;
  }
  return found;
}

}  // namespace

std::vector<std::string_view> PresetNames() {
  std::vector<std::string_view> names = {kAllowAll};
  for (const PresetRow& row : kPresetRows) {
    if (std::ranges::find(names, row.name) == names.end()) names.push_back(row.name);
  }
  return names;
}

bool AddPreset(Policy& policy, std::string_view name) {
  return AddRows(policy, kPresetRows, name, absl::StrCat("preset ", std::string(name)));
}

void AddDefaults(Policy& policy) {
  policy.clear_environment = "default";
  AddRows(policy, kDefaultRows, "default", "default");
}

}  // namespace dunebox::policy
