// The settings of a policy: one row for each thing a user can say, with its flag and its TOML key.
//
// Flags and files say the same words, and Set understands them once for both. It refuses a word it
// cannot read exactly, with a reason that names neither flag nor file: the caller knows those.
//
//   const SettingRow* row = FindSettingOfFlag("--ro");
//   absl::Status status = Set(policy, row->id, {{"/srv/data:/data"}}, "--ro /srv/data:/data");
#ifndef DUNEBOX_SANDBOX_POLICY_SETTINGS_H_
#define DUNEBOX_SANDBOX_POLICY_SETTINGS_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "sandbox/policy/policy.h"

namespace dunebox::policy {

enum class Setting : std::uint8_t {
#define SETTING(id, flag, key, shape, set) id,
#include "sandbox/policy/settings.inc"
#undef SETTING
};

// How a file writes it: what TOML calls the type, and whether there may be several.
enum class Shape : std::uint8_t {
  kBoolean,  // key = true; the flag takes no value
  kText,     // key = "word"
  kNumber,   // key = 64
  kSize,     // key = "512M" or key = 4096
  kList,     // key = ["word", "word"]; the flag may be repeated
  kAlias,    // another way to write what `key` says; flags only
};

struct SettingRow {
  Setting id;
  std::string_view flag;  // "--ro"
  std::string_view key;   // "files.read"
  Shape shape;
};

std::span<const SettingRow> Settings();
// Null when there is none.
const SettingRow* FindSettingOfFlag(std::string_view flag);
const SettingRow* FindSettingOfKey(std::string_view key);

// `words`: none for kBoolean, two for an alias that takes two, else one.
absl::Status Set(Policy& policy, Setting id, std::span<const std::string> words,
                 const OriginText& origin);

}  // namespace dunebox::policy

#endif  // DUNEBOX_SANDBOX_POLICY_SETTINGS_H_
