#include "sandbox/oci/log.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <nlohmann/json.hpp>

#include "hostcalls/errors/message.h"
#include "sandbox/oci/state.h"
#include "sandbox/policy/quoted.h"

namespace dunebox::oci {
namespace {

void WriteLine(int fd, const std::string& line) {
  // Whoever reads it may be gone; that is no reason to fail.
  [[maybe_unused]] const ssize_t written = write(fd, line.data(), line.size());
}

}  // namespace

absl::StatusOr<Log> Log::Open(const std::string& path, LogFormat format) {
  if (path.empty()) return Log(runtime::FileDescriptor(), format);
  constexpr mode_t kMode = 0644;
  runtime::FileDescriptor file(open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, kMode));
  if (!file.valid()) return absl::ErrnoToStatus(errno, fmt::format("--log: cannot open {}", path));
  return Log(std::move(file), format);
}

void Log::Error(const absl::Status& status) const {
  errors::Say(errors::Id::kContainer, status);
  Write("error", errors::WithCode(errors::NameOf(status, errors::Id::kContainer),
                                  {status.message().data(), status.message().size()}));
}

void Log::Warning(std::string_view message) const {
  if (!file_.valid()) errors::Say(errors::Id::kNotCarriedOut, message);
  Write("warning", errors::WithCode(errors::Id::kNotCarriedOut, message));
}

void Log::Write(std::string_view level, std::string_view message) const {
  if (!file_.valid()) return;
  if (format_ == LogFormat::kText) {
    return WriteLine(file_.get(), fmt::format("time=\"{}\" level={} msg={}\n", TimeNow(), level,
                                              policy::Quoted(message)));
  }
  const nlohmann::json line = {{"level", level}, {"msg", message}, {"time", TimeNow()}};
  WriteLine(file_.get(), Dump(line) + "\n");
}

}  // namespace dunebox::oci
