#include "runtime/maps_line.h"

#include <sys/sysmacros.h>

#include <algorithm>
#include <charconv>
#include <system_error>

namespace dunebox::runtime {
namespace {

constexpr std::size_t kRights = 4;

// Takes a number away, and the sign behind it unless the text ends there.
template <typename Number>
bool TakeNumber(std::string_view& text, int base, char sign, Number& number) {
  const char* const text_end = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), text_end, number, base);
  if (error != std::errc{} || (end != text_end && *end != sign)) return false;
  text.remove_prefix(std::min(static_cast<std::size_t>(end - text.data()) + 1, text.size()));
  return true;
}

}  // namespace

std::optional<MapsLine> ParseMapsLine(std::string_view text) {
  MapsLine line{.text = text};
  std::string_view rest = text;
  if (!TakeNumber(rest, 16, '-', line.start) || !TakeNumber(rest, 16, ' ', line.end)) return std::nullopt;
  if (rest.find(' ') != kRights) return std::nullopt;
  line.rights = rest.substr(0, kRights);
  rest.remove_prefix(kRights + 1);
  unsigned major_number = 0, minor_number = 0;
  if (!TakeNumber(rest, 16, ' ', line.offset) || !TakeNumber(rest, 16, ':', major_number) ||
      !TakeNumber(rest, 16, ' ', minor_number) || !TakeNumber(rest, 10, ' ', line.inode)) {
    return std::nullopt;
  }
  line.device = makedev(major_number, minor_number);
  line.name = rest.substr(std::min(rest.find_first_not_of(' '), rest.size()));
  return line;
}

std::vector<MapsLine> ParseMaps(std::string_view text) {
  std::vector<MapsLine> lines;
  while (!text.empty()) {
    const std::string_view first = text.substr(0, text.find('\n'));
    if (const std::optional<MapsLine> line = ParseMapsLine(first)) lines.push_back(*line);
    text.remove_prefix(std::min(first.size() + 1, text.size()));
  }
  return lines;
}

}  // namespace dunebox::runtime
