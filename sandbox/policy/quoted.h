// Text of a stranger's in a message of ours: nothing in it that a terminal would obey.
//
//   Quoted("a\x1b[2J")    // "a\x1b[2J" in quotes and with the backslash spelled out
#ifndef DUNEBOX_SANDBOX_POLICY_QUOTED_H_
#define DUNEBOX_SANDBOX_POLICY_QUOTED_H_

#include <string>
#include <string_view>

namespace dunebox::policy {

// Bytes that are no printable ASCII as \xNN, quotes and backslashes with a backslash.
std::string Escaped(std::string_view text);
// The same in double quotes.
std::string Quoted(std::string_view text);

}  // namespace dunebox::policy

#endif  // DUNEBOX_SANDBOX_POLICY_QUOTED_H_
