#include "sandbox/policy/toml_characters.h"

#include <algorithm>

namespace dunebox::policy {
namespace {

// The end of the string that begins at `begin` with a quote of either kind, one or three; of a
// string of one line that does not end, the end of its line.
std::size_t EndOfString(std::string_view text, std::size_t begin) {
  const char quote = text[begin];
  const std::string_view three = quote == '"' ? R"(""")" : "'''";
  const bool has_lines = text.substr(begin).starts_with(three);
  for (std::size_t i = begin + (has_lines ? 3 : 1); i < text.size(); ++i) {
    if (quote == '"' && text[i] == '\\') {
      ++i;
    } else if (has_lines && text.substr(i).starts_with(three)) {
      return i + 3;
    } else if (!has_lines && (text[i] == quote || text[i] == '\n')) {
      return i + 1;
    }
  }
  return text.size();
}

TextPlace PlaceOf(std::string_view text, std::size_t at) {
  const std::string_view before = text.substr(0, at);
  const std::size_t newline = before.rfind('\n');
  return {.line = static_cast<std::size_t>(std::ranges::count(before, '\n')) + 1,
          .column = before.size() - (newline == before.npos ? 0 : newline + 1) + 1};
}

}  // namespace

std::optional<TextPlace> FindStrayCharacter(std::string_view text) {
  std::size_t i = 0;
  // A mark of the byte order may stand in front.
  if (text.starts_with("\xef\xbb\xbf")) i = 3;
  while (i < text.size()) {
    if (text[i] == '"' || text[i] == '\'') {
      i = EndOfString(text, i);
    } else if (text[i] == '#') {
      i = std::min(text.find('\n', i), text.size());
    } else if (static_cast<unsigned char>(text[i]) > 0x7f) {
      return PlaceOf(text, i);
    } else {
      ++i;
    }
  }
  return std::nullopt;
}

}  // namespace dunebox::policy
