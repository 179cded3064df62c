// What the runtime writes from inside a program's process. Neither a closed pipe nor a limit on the size of files raises a
// signal in the program, which did not write: there is the error (EPIPE, EFBIG), and no more.
//
//   const ssize_t written = Quietly([&] { return write(fd, bytes.data(), bytes.size()); });
#ifndef DUNEBOX_HOSTCALLS_QUIET_WRITE_H_
#define DUNEBOX_HOSTCALLS_QUIET_WRITE_H_

#include <sys/types.h>

#include "absl/functional/function_ref.h"

namespace dunebox::hostcalls {

// Makes one system call that writes to a file or changes its size, and returns what it does, errno included. EINTR is made again.
ssize_t Quietly(absl::FunctionRef<ssize_t()> call);

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_HOSTCALLS_QUIET_WRITE_H_
