// A file without a name whose contents are final: filled once, then sealed against writing and resizing. To be
// mapped copy-on-write by many.
//
// The descriptor stays open in a process that is not ours alone. An application that closes descriptors it does
// not know (closefrom before it becomes a daemon) may get the number again for a file of its own; so the
// number is used only while it still means this file.
//
//   absl::StatusOr<SealedFile> file = SealedFile::Create("dunebox-image", size, [&](int fd) { return Fill(fd); });
//   if (const std::optional<int> fd = file->Get()) mmap(..., MAP_PRIVATE, *fd, 0);
#ifndef DUNEBOX_HOSTCALLS_MEMORY_SEALED_FILE_H_
#define DUNEBOX_HOSTCALLS_MEMORY_SEALED_FILE_H_

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace dunebox::hostcalls {

class SealedFile {
 public:
  // `size` bytes of zeros that `fill` changes. kResourceExhausted: no descriptor, no memory, or RLIMIT_FSIZE
  // (whose signal would end the process) is less.
  static absl::StatusOr<SealedFile> Create(const char* name, std::uint64_t size,
                                           absl::FunctionRef<absl::Status(int fd)> fill);

  // The same in two processes: one makes the file, another, which may make none, fills it, and the first believes
  // that it is sealed when it has looked. What is passed is owned from then on.
  static absl::StatusOr<int> MakeUnsealed(const char* name, std::uint64_t size);
  static absl::StatusOr<SealedFile> Seal(int fd, absl::FunctionRef<absl::Status(int fd)> fill);
  // kFailedPrecondition: it is not sealed, or of another size.
  static absl::StatusOr<SealedFile> Adopt(int fd, std::uint64_t size);

  SealedFile(SealedFile&& other) noexcept
      : fd_(std::exchange(other.fd_, -1)), device_(other.device_), inode_(other.inode_) {}
  SealedFile& operator=(SealedFile&&) = delete;
  ~SealedFile();

  // Nothing: somebody has closed it.
  std::optional<int> Get() const;

 private:
  static absl::StatusOr<SealedFile> Of(int fd);
  SealedFile(int fd, dev_t device, ino_t inode) : fd_(fd), device_(device), inode_(inode) {}

  int fd_;
  dev_t device_;
  ino_t inode_;
};

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_HOSTCALLS_MEMORY_SEALED_FILE_H_
