// Where the commands of `dunebox oci` say what went wrong: standard error, and the file of --log in the form
// that container engines read.
//
//   absl::StatusOr<Log> log = Log::Open("/run/c/log", LogFormat::kJson);
//   log->Error(absl::NotFoundError("container \"c\" does not exist"));
//   // {"level":"error","msg":"container \"c\" does not exist [E0902]","time":"2026-11-21T20:00:00Z"}
#ifndef DUNEBOX_SANDBOX_OCI_LOG_H_
#define DUNEBOX_SANDBOX_OCI_LOG_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/statusor.h"
#include "runtime/file_descriptor.h"

namespace dunebox::oci {

enum class LogFormat : std::uint8_t { kText, kJson };

class Log {
 public:
  // An empty `path`: standard error alone.
  static absl::StatusOr<Log> Open(const std::string& path, LogFormat format);

  // To both.
  void Error(const absl::Status& status) const;
  // To the file if there is one: an engine takes whatever is on standard error for the program's.
  void Warning(std::string_view message) const;

 private:
  Log(runtime::FileDescriptor file, LogFormat format) : file_(std::move(file)), format_(format) {}
  void Write(std::string_view level, std::string_view message) const;

  runtime::FileDescriptor file_;
  LogFormat format_;
};

}  // namespace dunebox::oci

#endif  // DUNEBOX_SANDBOX_OCI_LOG_H_
