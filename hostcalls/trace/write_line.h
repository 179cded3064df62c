// Writing to the user's standard error, or to a file of the user's, from inside a program's
// process, so that the program notices nothing: neither a closed pipe nor a limit on the size of
// files raises a signal in it, and no errno of its changes.
//
//   UserFile file(record_fd, session.report_fd, "--jit-record");
//   if (!file.Write(record)) ...  // dunebox: [4711] --jit-record: not all could be written: No space left on device [E0803]
#ifndef DUNEBOX_HOSTCALLS_TRACE_WRITE_LINE_H_
#define DUNEBOX_HOSTCALLS_TRACE_WRITE_LINE_H_

#include <atomic>
#include <string_view>

namespace dunebox::hostcalls {

// One write(2) of all of it, "\n" included. Keeps errno. False: not all was written.
bool WriteLine(int fd, std::string_view line);

// Where a program is watched, piece by piece. It must not fail for that: what cannot be written is lost, and standard error
// says so once.
class UserFile {
 public:
  // Borrows both descriptors; `report_fd` is standard error, or -1. `what` is the option, of static storage.
  UserFile(int fd, int report_fd, const char* what) : fd_(fd), report_fd_(report_fd), what_(what) {}

  // As WriteLine. Thread-safe.
  bool Write(std::string_view piece);

 private:
  const int fd_, report_fd_;
  const char* const what_;
  std::atomic<bool> has_said_ = false;
};

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_HOSTCALLS_TRACE_WRITE_LINE_H_
