#include "runtime/limits/session_limits.h"

#include <array>
#include <charconv>
#include <limits>

#include "absl/strings/str_cat.h"

namespace dunebox::runtime {
namespace {

struct Unit {
  std::string_view name;
  std::uint64_t factor;
};

constexpr std::array<Unit, 4> kSizeUnits = {
    {{"", 1}, {"K", 1 << 10}, {"M", 1 << 20}, {"G", 1 << 30}}};
constexpr std::array<Unit, 4> kTimeUnits = {
    {{"ms", 1}, {"s", 1000}, {"m", 60'000}, {"h", 3'600'000}}};

template <std::size_t N>
std::optional<std::uint64_t> Parse(std::string_view text, const std::array<Unit, N>& units) {
  constexpr std::uint64_t kMost = std::numeric_limits<std::int64_t>::max();
  std::uint64_t number = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc()) return std::nullopt;
  const std::string_view name(rest, static_cast<std::size_t>(end - rest));
  for (const Unit& unit : units) {
    if (unit.name == name && number <= kMost / unit.factor) return number * unit.factor;
  }
  return std::nullopt;
}

}  // namespace

std::optional<std::uint64_t> ParseSize(std::string_view text) { return Parse(text, kSizeUnits); }

std::optional<std::chrono::milliseconds> ParseDuration(std::string_view text) {
  const std::optional<std::uint64_t> number = Parse(text, kTimeUnits);
  if (!number) return std::nullopt;
  return std::chrono::milliseconds(static_cast<std::int64_t>(*number));
}

std::optional<std::uint64_t> ParseCount(std::string_view text) {
  return Parse(text, std::array<Unit, 1>{{{"", 1}}});
}

std::string FormatDuration(std::chrono::milliseconds duration) {
  const auto count = duration.count();
  return count % 1000 == 0 ? absl::StrCat(count / 1000, "s") : absl::StrCat(count, "ms");
}

std::string FormatSize(std::uint64_t bytes) {
  for (std::size_t i = kSizeUnits.size() - 1; i > 0; --i) {
    const Unit& unit = kSizeUnits[i];
    if (bytes != 0 && bytes % unit.factor == 0) {
      return absl::StrCat(bytes / unit.factor, std::string(unit.name));
    }
  }
  return absl::StrCat(bytes);
}

}  // namespace dunebox::runtime
