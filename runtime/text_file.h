// What is read whole by its name, a small text file (/proc, /sys); and where a file of a name is to be made.
#ifndef DUNEBOX_RUNTIME_TEXT_FILE_H_
#define DUNEBOX_RUNTIME_TEXT_FILE_H_

#include <string>

#include "absl/status/statusor.h"

namespace dunebox::runtime {

// kNotFound, kPermissionDenied or kInternal with the path and the reason.
absl::StatusOr<std::string> ReadTextFile(const std::string& path);

// Where a file of this name is to be made; "." for a plain name.
std::string DirectoryFor(const std::string& path);

}  // namespace dunebox::runtime

#endif  // DUNEBOX_RUNTIME_TEXT_FILE_H_
