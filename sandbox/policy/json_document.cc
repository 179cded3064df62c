#include "sandbox/policy/json_document.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "sandbox/policy/quoted.h"

namespace dunebox::policy {
namespace {

using nlohmann::json;

// Sees the text once before it becomes a value, because a value no longer tells of a name that
// came twice, nor of where its text went wrong. Its functions are named by the library.
class Examiner {
 public:
  // NOLINTBEGIN(readability-identifier-naming)
  using number_integer_t = json::number_integer_t;
  using number_unsigned_t = json::number_unsigned_t;
  using number_float_t = json::number_float_t;
  using string_t = json::string_t;
  using binary_t = json::binary_t;
  // NOLINTEND(readability-identifier-naming)

  bool null() { return true; }
  bool boolean(bool) { return true; }
  bool number_integer(number_integer_t) { return true; }
  bool number_unsigned(number_unsigned_t) { return true; }
  bool number_float(number_float_t, const string_t&) { return true; }
  bool string(string_t&) { return true; }
  bool binary(binary_t&) { return true; }
  bool start_object(std::size_t) { return Open(); }
  bool start_array(std::size_t) { return Open(); }
  bool end_object() { return Close(); }
  bool end_array() { return Close(); }
  bool key(string_t& name) {
    if (names_.back().insert(name).second) return true;
    reason_ = fmt::format("a name is there twice in one object: {}", name);
    return false;
  }
  bool parse_error(std::size_t position, const std::string&, const json::exception& error) {
    position_ = position;
    reason_ = error.what();
    // "[json.exception...] parse error at line 1, column 2: syntax error while ...": the place is
    // said in our own way.
    const std::size_t reason = reason_.find(": ");
    if (reason != std::string::npos) reason_.erase(0, reason + 2);
    return false;
  }

  const std::string& reason() const { return reason_; }
  // Of the first byte that does not fit, counted from 1; 0 where only the whole is known.
  std::size_t position() const { return position_; }

 private:
  bool Open() {
    names_.emplace_back();
    if (names_.size() <= kDeepestJson) return true;
    reason_ = fmt::format("nested deeper than {}", kDeepestJson);
    return false;
  }
  bool Close() {
    names_.pop_back();
    return true;
  }

  std::vector<std::set<std::string>> names_;
  std::string reason_;
  std::size_t position_ = 0;
};

std::string Place(std::string_view text, std::size_t position) {
  if (position == 0) return "";
  const std::string_view before = text.substr(0, position - 1);
  const auto line = std::ranges::count(before, '\n') + 1;
  const std::size_t newline = before.rfind('\n');
  const std::size_t column = before.size() - (newline == before.npos ? 0 : newline + 1) + 1;
  return fmt::format(":{}:{}", line, column);
}

}  // namespace

absl::StatusOr<json> ParseJson(std::string_view text, std::string_view file) {
  if (text.size() > kMostJsonBytes) {
    return absl::InvalidArgumentError(
        fmt::format("{}: longer than {} MiB", file, kMostJsonBytes >> 20));
  }
  Examiner examiner;
  if (!json::sax_parse(text.begin(), text.end(), &examiner)) {
    return absl::InvalidArgumentError(fmt::format(
        "{}{}: {}", file, Place(text, examiner.position()), Escaped(examiner.reason())));
  }
  return json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
}

}  // namespace dunebox::policy
