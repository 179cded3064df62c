// Where the programs of a session write lines for the command line, and the reading and writing of whole files.
//
//   absl::StatusOr<runtime::FileDescriptor> lines = MemoryForRecords("statistics");
//   absl::StatusOr<std::string> text = ReadAll(lines->get(), "the statistics");
#ifndef DUNEBOX_SANDBOX_CLI_RECORDS_H_
#define DUNEBOX_SANDBOX_CLI_RECORDS_H_

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/file_descriptor.h"

namespace dunebox::cli {

// A file in memory, appended to.
absl::StatusOr<runtime::FileDescriptor> MemoryForRecords(const char* name);
// From its beginning to its end, wherever the position is.
absl::StatusOr<std::string> ReadAll(int fd, std::string_view what);
absl::Status WriteAll(int fd, std::string_view text, std::string_view what);

}  // namespace dunebox::cli

#endif  // DUNEBOX_SANDBOX_CLI_RECORDS_H_
