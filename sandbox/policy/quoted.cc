#include "sandbox/policy/quoted.h"

#include <fmt/format.h>

namespace dunebox::policy {

std::string Escaped(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte > 0x7e) {
      escaped += fmt::format("\\x{:02x}", byte);
    } else {
      if (c == '"' || c == '\\') escaped += '\\';
      escaped += c;
    }
  }
  return escaped;
}

std::string Quoted(std::string_view text) { return fmt::format("\"{}\"", Escaped(text)); }

}  // namespace dunebox::policy
