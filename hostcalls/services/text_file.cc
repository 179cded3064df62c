#include "hostcalls/services/text_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hostcalls/quiet_write.h"
#include "hostcalls/services/limits.h"
#include "hostcalls/services/support.h"

namespace dunebox::hostcalls {
namespace {

constexpr unsigned kNotExecutable = 0x8;  // MFD_NOEXEC_SEAL [linux 6.3]

int MakeMemory() {
  const int fd = memfd_create("dunebox-proc", MFD_CLOEXEC | kNotExecutable);
  if (fd >= 0 || errno != EINVAL) return fd;
  return memfd_create("dunebox-proc", MFD_CLOEXEC | MFD_ALLOW_SEALING);
}

bool Fill(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = Quietly([&] { return write(fd, text.data(), text.size()); });
    if (written <= 0) return false;
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  return fchmod(fd, 0444) == 0 &&
         fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) == 0;
}

}  // namespace

CopyResult<ReservedFd> MakeTextFile(Caller& caller, std::string_view text) {
  const LowDescriptors::Window window(caller.limits.low_descriptors);
  // Moved away before it is filled: under an ordinary number a sibling could write to it.
  ReservedFd low(MakeMemory());
  if (!low.valid()) return LastErrno();
  CopyResult<ReservedFd> file = caller.limits.Reserve(low.get());
  if (!file.ok()) return file;
  if (!Fill(file->get(), text)) return Errno{EIO};
  return file;
}

}  // namespace dunebox::hostcalls
