#include "hostcalls/trace/json.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace dunebox::hostcalls {
namespace {

constexpr std::string_view kEllipsis = "\\u2026";
static_assert(kEllipsis.size() == kEllipsisBytes);

// Bytes of the escape sequence of text.h that `text` begins with: \xHH, \n; 1 for a plain byte.
std::size_t UnitLength(std::string_view text) {
  if (text.front() != '\\' || text.size() < 2) return 1;
  return std::min<std::size_t>(text[1] == 'x' ? 4 : 2, text.size());
}

std::string EscapeForJson(std::string_view unit) {
  std::string json;
  for (const char byte : unit) {
    const auto value = static_cast<unsigned char>(byte);
    if (byte == '"' || byte == '\\') {
      json += '\\';
      json += byte;
    } else if (value < 0x20 || value >= 0x7f) {
      absl::StrAppendFormat(&json, "\\u%04x", value);
    } else {
      json += byte;
    }
  }
  return json;
}

}  // namespace

std::string JsonText(std::string_view text, std::size_t limit) {
  std::string json = "\"";
  std::size_t length_that_leaves_room = json.size();
  while (!text.empty()) {
    const std::size_t length = UnitLength(text);
    json += EscapeForJson(text.substr(0, length));
    text.remove_prefix(length);
    if (json.size() - 1 > limit) {
      json.resize(length_that_leaves_room);
      return json.append(kEllipsis) + '"';
    }
    if (json.size() - 1 + kEllipsisBytes <= limit) length_that_leaves_room = json.size();
  }
  return json + "\"";
}

JsonObject& JsonObject::Text(std::string_view name, std::string_view text) {
  return Value(name, JsonText(text));
}

JsonObject& JsonObject::Number(std::string_view name, std::int64_t value) {
  return Value(name, absl::StrCat(value));
}

JsonObject& JsonObject::Number(std::string_view name, std::uint64_t value) {
  return Value(name, absl::StrCat(value));
}

JsonObject& JsonObject::Value(std::string_view name, std::string_view json) {
  absl::StrAppend(&members_, members_.empty() ? "" : ",", "\"", std::string(name),
                  "\":", std::string(json));
  return *this;
}

std::string JsonObject::Take() { return absl::StrCat("{", std::exchange(members_, {}), "}"); }

}  // namespace dunebox::hostcalls
