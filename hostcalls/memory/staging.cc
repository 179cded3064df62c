#include "hostcalls/memory/staging.h"

#include <sys/mman.h>

#include <utility>

#include "hostcalls/check.h"

namespace dunebox::hostcalls {

StagingPages::StagingPages(std::size_t size) : size_(size) {
  constexpr int kReadWrite = PROT_READ | PROT_WRITE;
  void* const pages = mmap(nullptr, size, kReadWrite, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  DUNEBOX_CHECK(pages != MAP_FAILED, "no memory for a call's copies");
  DUNEBOX_CHECK(!KeysInUse() || SetProtectionKey(pages, size, kReadWrite, DUNE_KEY_STAGING),
                "no key for a call's copies");
  data_ = static_cast<std::byte*>(pages);
}

StagingPages::~StagingPages() {
  if (data_ != nullptr) munmap(data_, size_);
}

StagingPages::StagingPages(StagingPages&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

StagingPages& StagingPages::operator=(StagingPages&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

std::byte* StagingScope::Take(std::size_t size) {
  constexpr std::size_t kAlignment = alignof(std::max_align_t);
  const std::size_t start = (staging_.used_ + kAlignment - 1) / kAlignment * kAlignment;
  if (start > Staging::kSize || size > Staging::kSize - start) {
    return larger_.emplace_back(size).data();
  }
  if (staging_.pages_.data() == nullptr) staging_.pages_ = StagingPages(Staging::kSize);
  staging_.used_ = start + size;
  return staging_.pages_.data() + start;
}

}  // namespace dunebox::hostcalls
