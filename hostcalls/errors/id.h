// The ids of the command's messages, for places that have to name one without memory of their own.
//
// A message keeps its id for ever; messages with one cause and one cure share it. `catalogue.h` has the words.
//
//   write(STDERR_FILENO, CodeOf(Id::kInternal).data(), 5);   // E0001
#ifndef DUNEBOX_HOSTCALLS_ERRORS_ID_H_
#define DUNEBOX_HOSTCALLS_ERRORS_ID_H_

#include <array>
#include <cstdint>

namespace dunebox::errors {

enum class Id : std::uint16_t {
#define DUNEBOX_ERROR(number, name, title, cause, cure) name = number,
#include "hostcalls/errors/errors.inc"
};

// "E0123" and a NUL.
using Code = std::array<char, 6>;

constexpr Code CodeOf(Id id) {
  Code code{'E', '0', '0', '0', '0', '\0'};
  auto rest = static_cast<unsigned>(id);
  for (std::size_t place = 4; place >= 1; --place, rest /= 10) {
    code[place] = static_cast<char>('0' + rest % 10);
  }
  return code;
}

}  // namespace dunebox::errors

#endif  // DUNEBOX_HOSTCALLS_ERRORS_ID_H_
