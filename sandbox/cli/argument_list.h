// What --args reads: words, each with a NUL behind it, from a descriptor of the caller's.
//
//   absl::StatusOr<std::vector<std::string>> words = ReadArguments(3);
#ifndef DUNEBOX_SANDBOX_CLI_ARGUMENT_LIST_H_
#define DUNEBOX_SANDBOX_CLI_ARGUMENT_LIST_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace dunebox::cli {

// Reads to the end and closes `fd`, so that the program does not have it. Refuses what does not end
// with a NUL, for it may have been cut short, and more than 16 MiB.
absl::StatusOr<std::vector<std::string>> ReadArguments(int fd);

}  // namespace dunebox::cli

#endif  // DUNEBOX_SANDBOX_CLI_ARGUMENT_LIST_H_
