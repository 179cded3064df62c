#include "sandbox/plugin/kernel_buffer.h"

#include <algorithm>
#include <cerrno>
#include <span>

namespace dunebox::plugin {

using hostcalls::Errno;
using hostcalls::PagedMemory;
using hostcalls::SyscallResult;

KernelBuffer::KernelBuffer(const Calling& call, std::uint64_t address, std::uint64_t size, Filled filled)
    : memory_(call.memory), address_(address), filled_(filled), size_(size) {
  if (memory_.pages() == nullptr) {
    data_ = call.Checked(address, size);
    return;
  }
  size_ = std::min(size, kMostCopied);
  if (!memory_.Contains(address, size)) return;
  copy_.resize(std::max<std::uint64_t>(size_, 1));
  const auto use = filled == Filled::kByKernel ? PagedMemory::Use::kWrite : PagedMemory::Use::kRead;
  for (std::uint64_t done = 0; done < size_;) {
    const std::uint64_t part = std::min(size_ - done, kPageSize - (address + done) % kPageSize);
    const bool is_there = memory_.pages()->With(address + done, part, use, [&](const std::byte* bytes) {
      if (filled == Filled::kByGuest) std::copy_n(bytes, part, copy_.data() + done);
    });
    if (!is_there) {
      size_ = done;
      if (done == 0) return;
    }
    done += part;
  }
  data_ = copy_.data();
}

SyscallResult KernelBuffer::Finish(SyscallResult result) {
  if (memory_.pages() == nullptr || filled_ == Filled::kByGuest || !result.ok()) return result;
  const std::uint64_t moved = std::min(result.ToRegister(), size_);
  if (!memory_.Write(address_, std::span<const std::byte>(copy_).first(moved))) return Errno{EFAULT};
  return result;
}

void* FutexWord(const Calling& call, std::uint64_t address, bool is_written) {
  constexpr std::size_t kSize = sizeof(std::uint32_t);
  if (call.memory.pages() == nullptr) return call.Checked(address, kSize);
  std::byte* word = nullptr;
  const auto take = [&](std::byte* bytes) { word = bytes; };
  if (address % kSize != 0 || !call.memory.Contains(address, kSize)) return nullptr;
  // By its own copy of the page, so that the word stays where it is when it is written to.
  if (!call.memory.pages()->With(address, kSize, PagedMemory::Use::kWrite, take) && !is_written) {
    (void)call.memory.pages()->With(address, kSize, PagedMemory::Use::kRead, take);
  }
  return word;
}

}  // namespace dunebox::plugin
