// A plugin's buffer for one system call of the host's. Where the guest's memory is addresses of this process's (a
// window) it is that memory itself; where it is pages here and there (hostcalls::PagedMemory) it is a copy, of at most
// kMostCopied bytes: then the call moves less than it was asked for, as calls may.
//
//   KernelBuffer buffer(call, call[1], count, KernelBuffer::Filled::kByKernel);
//   if (buffer.data() == nullptr) return Errno{EFAULT};
//   return buffer.Finish(call.Host(SYS_read, Arguments(fd, buffer.data(), buffer.size())));
#ifndef DUNEBOX_SANDBOX_PLUGIN_KERNEL_BUFFER_H_
#define DUNEBOX_SANDBOX_PLUGIN_KERNEL_BUFFER_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "sandbox/plugin/kernel.h"

namespace dunebox::plugin {

class KernelBuffer {
 public:
  static constexpr std::uint64_t kMostCopied = std::uint64_t{64} << 10;

  enum class Filled : bool { kByGuest, kByKernel };
  KernelBuffer(const Calling& call, std::uint64_t address, std::uint64_t size, Filled filled);

  // Null: not all of it (of a copy: not even its beginning) is the guest's to use so.
  void* data() const { return data_; }
  std::uint64_t size() const { return size_; }
  // `result`: how many bytes the call has moved, or an error. What the kernel has filled becomes the guest's.
  hostcalls::SyscallResult Finish(hostcalls::SyscallResult result);

 private:
  const hostcalls::GuestMemory& memory_;
  const std::uint64_t address_;
  const Filled filled_;
  void* data_ = nullptr;
  std::uint64_t size_;
  std::vector<std::byte> copy_;
};

// Where the host has a futex's word; null: it is not the guest's, or, with `is_written`, not to be written.
void* FutexWord(const Calling& call, std::uint64_t address, bool is_written);

}  // namespace dunebox::plugin

#endif  // DUNEBOX_SANDBOX_PLUGIN_KERNEL_BUFFER_H_
