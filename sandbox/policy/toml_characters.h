// Where a TOML text has a character that is not ASCII in a place where TOML has none: anywhere but
// in strings and comments.
//
// To be asked before the parser: its tables of such characters have gaps in which it runs into code
// that it believes cannot be reached, so that a stranger's file could make it do anything.
//
//   if (std::optional<TextPlace> place = FindStrayCharacter(text)) ... place->line, place->column
#ifndef DUNEBOX_SANDBOX_POLICY_TOML_CHARACTERS_H_
#define DUNEBOX_SANDBOX_POLICY_TOML_CHARACTERS_H_

#include <cstddef>
#include <optional>
#include <string_view>

namespace dunebox::policy {

// Both from 1; columns in bytes.
struct TextPlace {
  std::size_t line = 1, column = 1;
};

std::optional<TextPlace> FindStrayCharacter(std::string_view text);

}  // namespace dunebox::policy

#endif  // DUNEBOX_SANDBOX_POLICY_TOML_CHARACTERS_H_
