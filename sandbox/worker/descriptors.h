// Messages of fixed size with descriptors, over a socket that keeps messages apart.
//
//   SendWithDescriptors(socket, request, descriptors);
//   std::vector<runtime::FileDescriptor> came;
//   if (ReceiveWithDescriptors(socket, reply, came)) ...
#ifndef DUNEBOX_SANDBOX_WORKER_DESCRIPTORS_H_
#define DUNEBOX_SANDBOX_WORKER_DESCRIPTORS_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/functional/function_ref.h"
#include "runtime/file_descriptor.h"

namespace dunebox::worker {

inline constexpr std::size_t kMostDescriptors = 8;

// False, with errno: not sent. `flags` as of send(2).
bool SendBytes(int socket, std::span<const std::byte> bytes, std::span<const int> descriptors,
               int flags = 0);
// Until there is something to receive, or the other end is closed: then ReceiveBytes does not wait. False, with errno:
// not before `limit`, of the clock that Now() is of (ETIMEDOUT), however many signals come meanwhile; or `is_over` has
// said that nobody wants it any more (EINTR), which is asked every some milliseconds.
bool WaitForBytes(
    int socket, std::uint64_t limit, absl::FunctionRef<bool()> is_over = [] { return false; });
// How many bytes; -1 with errno, 0: the other end is closed. What comes along has close-on-exec.
ssize_t ReceiveBytes(int socket, std::span<std::byte> bytes,
                     std::vector<runtime::FileDescriptor>& descriptors, int flags = 0);

template <typename T>
bool SendWithDescriptors(int socket, const T& message, std::span<const int> descriptors,
                         int flags = 0) {
  return SendBytes(socket, std::as_bytes(std::span(&message, 1)), descriptors, flags);
}
template <typename T>
bool ReceiveWithDescriptors(int socket, T& message,
                            std::vector<runtime::FileDescriptor>& descriptors, int flags = 0) {
  return ReceiveBytes(socket, std::as_writable_bytes(std::span(&message, 1)), descriptors, flags) ==
         static_cast<ssize_t>(sizeof(T));
}

}  // namespace dunebox::worker

#endif  // DUNEBOX_SANDBOX_WORKER_DESCRIPTORS_H_
