// Memory of two processes: a memfd whose size nobody can change any more, so that no access to a
// mapping of it ever faults.
//
//   absl::StatusOr<SharedMemory> slots = SharedMemory::Create("dunebox-slots", size);
//   ... slots->fd() is sent to the other process ...
//   absl::StatusOr<SharedMemory> same = SharedMemory::Map(FileDescriptor(kControlFd));
#ifndef DUNEBOX_SANDBOX_WORKER_SHARED_MEMORY_H_
#define DUNEBOX_SANDBOX_WORKER_SHARED_MEMORY_H_

#include <cstddef>
#include <span>
#include <utility>

#include "absl/status/statusor.h"
#include "runtime/file_descriptor.h"

namespace dunebox::worker {

class SharedMemory {
 public:
  // Zeroed.
  static absl::StatusOr<SharedMemory> Create(const char* name, std::size_t size);
  static absl::StatusOr<SharedMemory> Map(runtime::FileDescriptor file);
  SharedMemory(SharedMemory&& other) noexcept
      : file_(std::move(other.file_)), bytes_(std::exchange(other.bytes_, {})) {}
  SharedMemory& operator=(SharedMemory&&) = delete;
  ~SharedMemory();

  int fd() const { return file_.get(); }
  // The mapping stays.
  void CloseFile() { file_ = runtime::FileDescriptor(); }
  std::span<std::byte> bytes() const { return bytes_; }
  // As an array.
  template <typename T>
  T* As() const {
    return reinterpret_cast<T*>(bytes_.data());
  }

 private:
  SharedMemory(runtime::FileDescriptor file, std::span<std::byte> bytes)
      : file_(std::move(file)), bytes_(bytes) {}

  runtime::FileDescriptor file_;
  std::span<std::byte> bytes_;
};

}  // namespace dunebox::worker

#endif  // DUNEBOX_SANDBOX_WORKER_SHARED_MEMORY_H_
