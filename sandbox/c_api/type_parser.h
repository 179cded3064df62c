// The types of a signature, from its text without spaces: "i32", "{f32[3],ptr}", "struct:40". A structure's fields lie
// where C puts them; one of struct:BYTES, of which they are not known, is no field.
//
//   TypeParser parser("i32(ptr)");
//   std::optional<Type> result = parser.Next();      // and parser.rest() is "(ptr)"
#ifndef DUNEBOX_SANDBOX_C_API_TYPE_PARSER_H_
#define DUNEBOX_SANDBOX_C_API_TYPE_PARSER_H_

#include <optional>
#include <string_view>

#include "sandbox/c_api/signature.h"

namespace dunebox::c_api {

inline constexpr std::size_t kLargestStructure = std::size_t{1} << 20;

class TypeParser {
 public:
  explicit TypeParser(std::string_view text) : rest_(text) {}

  // Nothing: there is none.
  std::optional<Type> Next() { return Next(0); }
  // Whether that was next.
  bool Take(std::string_view text);
  std::string_view rest() const { return rest_; }

 private:
  std::optional<Type> Next(unsigned depth);
  std::optional<Type> NextFields(unsigned depth);
  bool AddField(Type& structure, unsigned depth);
  // Up to the first character that is none of a number's; nothing where it is none.
  std::optional<std::size_t> NextNumber();

  std::string_view rest_;
};

}  // namespace dunebox::c_api

#endif  // DUNEBOX_SANDBOX_C_API_TYPE_PARSER_H_
