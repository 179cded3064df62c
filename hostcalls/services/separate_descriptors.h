// Work that opens and closes files of the guest's without disturbing their locks.
//
// When a process closes any descriptor of a file, the kernel releases all record locks (fcntl,
// lockf) that the process has on that file. It tells processes apart by their descriptor tables. So
// the runtime never closes a usable descriptor of a file that the guest may have open: it holds
// files by O_PATH descriptors, which do not count, and whoever reads or maps one does that here,
// with a copy of the table that is gone afterwards.
//
//   WithSeparateDescriptors([&] { head = ReadHead(DescriptorPath(handle)); });
#ifndef DUNEBOX_HOSTCALLS_SERVICES_SEPARATE_DESCRIPTORS_H_
#define DUNEBOX_HOSTCALLS_SERVICES_SEPARATE_DESCRIPTORS_H_

#include <string>

#include "absl/functional/function_ref.h"

namespace dunebox::hostcalls {

// Runs `work` in a short-lived kernel thread, on a small stack but with the thread-local storage of
// the caller, which waits. Host signals stay out. What `work` opens has to stay there: only the
// memory is shared. Where the host allows no more threads, `work` runs with the common table. Within `work` the same
// is a plain call.
void WithSeparateDescriptors(absl::FunctionRef<void()> work);

// While there is one it is a plain call, too, of this thread's: for a process that has no record locks yet, or none on
// the files that are meant.
class NoLocksYet {
 public:
  NoLocksYet();
  ~NoLocksYet();
  NoLocksYet(const NoLocksYet&) = delete;
  NoLocksYet& operator=(const NoLocksYet&) = delete;
};

// By which a descriptor is opened once more, there as here.
std::string DescriptorPath(int fd);

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_HOSTCALLS_SERVICES_SEPARATE_DESCRIPTORS_H_
