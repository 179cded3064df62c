// Guest memory for tests: real pages of this process in the user half, unmapped at the end.
//
// kTestWindow lies where nothing else of a test process is: above AddressSanitizer's shadow
// (0x7fff'8000 .. 0x1000'7fff'8000), below the layout's own areas.
//
//   GuestPages pages(2);             // two pages; what is behind them is not mapped
//   std::memcpy(pages.host(), ...);
#ifndef DUNEBOX_TESTS_FAKES_GUEST_PAGES_H_
#define DUNEBOX_TESTS_FAKES_GUEST_PAGES_H_

#include <sys/mman.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "hostcalls/memory/address.h"
#include "hostcalls/memory/mappable.h"
#include "runtime/memory/layout.h"

namespace dunebox::fakes {

inline constexpr std::uint64_t kTestWindow = kMappableEnd / 2;

// A whole program's, always the same.
inline memory::Layout TestLayout() {
  memory::Layout layout = memory::Layout::FromRandom(42, 8 << 20);
  layout.mmap_top = GuestVirt{std::min(layout.mmap_top.value, kMappableEnd)};
  return layout;
}

class GuestPages {
 public:
  explicit GuestPages(std::size_t pages, std::uint64_t address = kTestWindow)
      : address_(address), size_(pages * kPageSize) {
    void* mapped = mmap(reinterpret_cast<void*>(address), size_, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (mapped != reinterpret_cast<void*>(address)) {
      std::perror("test pages");
      std::abort();
    }
  }
  ~GuestPages() { munmap(host(), size_); }
  GuestPages(const GuestPages&) = delete;
  GuestPages& operator=(const GuestPages&) = delete;

  std::uint64_t address() const { return address_; }
  std::uint64_t end() const { return address_ + size_; }
  std::byte* host() const { return reinterpret_cast<std::byte*>(address_); }
  template <typename T>
  T& At(std::uint64_t offset) const {
    return *reinterpret_cast<T*>(address_ + offset);
  }

 private:
  const std::uint64_t address_;
  const std::size_t size_;
};

}  // namespace dunebox::fakes

#endif  // DUNEBOX_TESTS_FAKES_GUEST_PAGES_H_
