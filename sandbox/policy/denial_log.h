// What an audited run recorded: one JSON object a line, one line a denial.
//
//   {"pid":7,"program":"/usr/bin/python3.11","call":"openat","action":"read",
//    "object":"/etc/hosts","cure":"--ro /etc/hosts"}
//
// `action` and `object` are those of hostcalls::policy::Denial and have to be there; names that are
// not known here are passed over. Lines that say the same of the same program become one with a
// count. The last line of a file may be cut off (the run was killed): it is then left out.
//
//   absl::StatusOr<std::vector<LoggedDenial>> denials = ReadDenials(text, "run1.log");
#ifndef DUNEBOX_SANDBOX_POLICY_DENIAL_LOG_H_
#define DUNEBOX_SANDBOX_POLICY_DENIAL_LOG_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace dunebox::policy {

struct LoggedDenial {
  std::string program;  // as it was executed; may be empty
  std::string call;     // "openat"; may be empty
  std::string action;
  std::string object;
  std::string cure;  // the flag that would allow it; may be empty
  std::uint64_t count = 1;
};

// An action that is no denial: of a run that is recorded, what the program has beyond what a policy gives, as the object.
inline constexpr std::string_view kWatchedWith = "watch with";

// Errors begin with FILE:LINE.
absl::StatusOr<std::vector<LoggedDenial>> ReadDenials(std::string_view text, std::string_view file);

}  // namespace dunebox::policy

#endif  // DUNEBOX_SANDBOX_POLICY_DENIAL_LOG_H_
