#include "hostcalls/trace/write_line.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "hostcalls/errors/message.h"
#include "hostcalls/quiet_write.h"

namespace dunebox::hostcalls {
namespace {

// 0, or why not all of it is there.
int Write(int fd, std::string_view text) {
  while (!text.empty()) {
    // In one piece, but where there was room for a part only: then the rest is refused, and says why.
    const ssize_t written = Quietly([&] { return write(fd, text.data(), text.size()); });
    if (written <= 0) return written < 0 ? errno : EIO;
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  return 0;
}

}  // namespace

bool WriteLine(int fd, std::string_view line) {
  const int saved_errno = errno;
  const int error = Write(fd, line);
  errno = saved_errno;
  return error == 0;
}

bool UserFile::Write(std::string_view piece) {
  const int saved_errno = errno;
  const int error = hostcalls::Write(fd_, piece);
  if (error != 0 && !has_said_.exchange(true)) {
    WriteLine(report_fd_, errors::LineOf(errors::Id::kNotWatched,
                                         absl::StrCat("[", getpid(), "] ", what_, ": not all could be written: ", strerror(error))));
  }
  errno = saved_errno;
  return error == 0;
}

}  // namespace dunebox::hostcalls
