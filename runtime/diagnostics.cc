#include "runtime/diagnostics.h"

#include <charconv>

#include "absl/strings/str_cat.h"

namespace dunebox::runtime {
namespace {

std::optional<std::uint64_t> ParseHex(std::string_view digits) {
  std::uint64_t value = 0;
  const char* end = digits.data() + digits.size();
  const auto parsed = std::from_chars(digits.data(), end, value, 16);
  if (parsed.ec != std::errc{} || parsed.ptr != end) return std::nullopt;
  return value;
}

}  // namespace

std::optional<CodePlace> CodePlace::Parse(std::string_view text) {
  constexpr std::string_view kHex = "0x";
  CodePlace place;
  if (const std::size_t plus = text.rfind('+'); plus != std::string_view::npos) {
    place.file = text.substr(0, plus);
    text.remove_prefix(plus + 1);
    if (place.file.empty() || place.file.find('/') != std::string::npos) return std::nullopt;
  }
  if (text.starts_with(kHex)) text.remove_prefix(kHex.size());
  const std::optional<std::uint64_t> offset = ParseHex(text);
  if (!offset) return std::nullopt;
  place.offset = *offset;
  return place;
}

std::string_view BaseName(std::string_view path) { return path.substr(path.rfind('/') + 1); }

std::string StatisticsLine(const Counter& counter) {
  return absl::StrCat("stats: ", std::string(counter.name), " ", counter.value, "\n");
}

}  // namespace dunebox::runtime
