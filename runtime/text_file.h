// Reading a small text file whole (/proc, /sys).
#ifndef DUNEBOX_RUNTIME_TEXT_FILE_H_
#define DUNEBOX_RUNTIME_TEXT_FILE_H_

#include <string>

#include "absl/status/statusor.h"

namespace dunebox::runtime {

// kNotFound, kPermissionDenied or kInternal with the path and the reason.
absl::StatusOr<std::string> ReadTextFile(const std::string& path);

}  // namespace dunebox::runtime

#endif  // DUNEBOX_RUNTIME_TEXT_FILE_H_
