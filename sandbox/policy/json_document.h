// Reading JSON that a stranger wrote: one value, or where and why the text is none.
//
// Refuses what other readers disagree about or what only serves to hurt one: a name twice in an
// object, nesting deeper than any form we read, texts of many megabytes. Knows no form.
//
//   absl::StatusOr<nlohmann::json> profile = ParseJson(text, "profile.json");
//   // "profile.json:3:17: expected ',' or '}'"
#ifndef DUNEBOX_SANDBOX_POLICY_JSON_DOCUMENT_H_
#define DUNEBOX_SANDBOX_POLICY_JSON_DOCUMENT_H_

#include <cstddef>
#include <nlohmann/json.hpp>
#include <string_view>

#include "absl/status/statusor.h"

namespace dunebox::policy {

inline constexpr std::size_t kMostJsonBytes = std::size_t{4} << 20;
inline constexpr std::size_t kDeepestJson = 32;

// `file` is what the message of a failure (InvalidArgument) begins with.
absl::StatusOr<nlohmann::json> ParseJson(std::string_view text, std::string_view file);

}  // namespace dunebox::policy

#endif  // DUNEBOX_SANDBOX_POLICY_JSON_DOCUMENT_H_
