// JSON for the observers: one object on one line, printable ASCII only.
//
// Text comes from the trace's own decoders (text.h), which have escaped the program's bytes
// already; what is no printable ASCII all the same is written as \u00XX, so that every line is
// valid UTF-8 and valid JSON whatever a program does. Names of members are ours and are not
// escaped.
//
//   JsonObject().Number("pid", 7).Text("name", "ls").Take()    // {"pid":7,"name":"ls"}
#ifndef DUNEBOX_HOSTCALLS_TRACE_JSON_H_
#define DUNEBOX_HOSTCALLS_TRACE_JSON_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace dunebox::hostcalls {

// In quotes, with at most `limit` bytes between them. What does not fit is left out and \u2026 (an
// ellipsis, which no escaped byte of a program can look like) stands at the end; no escape sequence
// of text.h is cut in two. `limit` is at least kEllipsisBytes.
inline constexpr std::size_t kEllipsisBytes = 6;
std::string JsonText(std::string_view text, std::size_t limit = static_cast<std::size_t>(-1));

class JsonObject {
 public:
  JsonObject& Text(std::string_view name, std::string_view text);
  JsonObject& Number(std::string_view name, std::int64_t value);
  JsonObject& Number(std::string_view name, std::uint64_t value);
  JsonObject& Number(std::string_view name, int value) { return Number(name, std::int64_t{value}); }
  // `json` is a value already.
  JsonObject& Value(std::string_view name, std::string_view json);

  // The object; this one is empty afterwards.
  std::string Take();

 private:
  std::string members_;
};

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_HOSTCALLS_TRACE_JSON_H_
