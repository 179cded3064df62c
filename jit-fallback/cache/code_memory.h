// The memory of translated code: one memfd mapped twice, executable and writable, so that no page
// is ever both. Reserved whole at the start, backed as it is used. Two parts: blocks, then exit
// stubs.
#ifndef DUNEBOX_JIT_FALLBACK_CACHE_CODE_MEMORY_H_
#define DUNEBOX_JIT_FALLBACK_CACHE_CODE_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "jit-fallback/cache/growing_memory.h"

namespace dunebox::jit {

class CodeMemory {
 public:
  static absl::StatusOr<CodeMemory> Create(std::size_t size);
  CodeMemory(CodeMemory&& other) noexcept;
  CodeMemory& operator=(CodeMemory&&) = delete;
  ~CodeMemory();

  std::size_t size() const { return size_; }
  // Where the code runs. Not writable.
  std::uint64_t address() const { return reinterpret_cast<std::uint64_t>(executable_); }
  void Write(std::size_t offset, std::span<const std::uint8_t> bytes);
  // For a part that is written from its start, a page's, on.
  GrowingMemory Part(std::size_t offset, std::size_t size) { return {writable_ + offset, size}; }
  // Seen whole by threads that execute it: the four bytes do not straddle 16.
  void WriteAtomic32(std::size_t offset, std::int32_t value);
  struct Extent {
    std::size_t offset, length;
  };
  // A new file at the same addresses, with copies of `kept`; the old one may be another process's
  // as well. On failure nothing has changed, or the process cannot go on.
  absl::Status Renew(std::span<const Extent> kept);

 private:
  CodeMemory(std::uint8_t* executable, std::uint8_t* writable, std::size_t size)
      : executable_(executable), writable_(writable), size_(size) {}

  std::uint8_t* executable_;
  std::uint8_t* writable_;
  std::size_t size_;
};

}  // namespace dunebox::jit

#endif  // DUNEBOX_JIT_FALLBACK_CACHE_CODE_MEMORY_H_
