// The kernel's interface for looking at page tables, as of Linux 6.7, which Debian 12's headers lack.
// [linux] Documentation/admin-guide/mm/pagemap.rst
#ifndef DUNEBOX_RUNTIME_MEMORY_PAGEMAP_ABI_H_
#define DUNEBOX_RUNTIME_MEMORY_PAGEMAP_ABI_H_

#include <sys/ioctl.h>

#include <cstdint>

namespace dunebox::memory::pagemap {

// An entry of /proc/PID/pagemap.
inline constexpr std::uint64_t kEntryPresent = std::uint64_t{1} << 63;
inline constexpr std::uint64_t kEntrySwapped = std::uint64_t{1} << 62;
inline constexpr std::uint64_t kEntryFileOrShared = std::uint64_t{1} << 61;

// struct page_region
struct Region {
  std::uint64_t start, end, categories;
};
static_assert(sizeof(Region) == 24);

// struct pm_scan_arg
struct ScanArguments {
  std::uint64_t size, flags;
  std::uint64_t start, end, walk_end;
  std::uint64_t regions, region_count, most_pages;
  std::uint64_t inverted, all_of, any_of, returned;  // categories
};
static_assert(sizeof(ScanArguments) == 96);

inline constexpr std::uint64_t kPageIsFile = 1 << 2;
inline constexpr std::uint64_t kPageIsPresent = 1 << 3;
inline constexpr std::uint64_t kPageIsSwapped = 1 << 4;
inline constexpr std::uint64_t kPageIsZero = 1 << 5;  // the kernel's one page of zeros

inline constexpr unsigned long kScan = _IOWR('f', 16, ScanArguments);  // PAGEMAP_SCAN

}  // namespace dunebox::memory::pagemap

#endif  // DUNEBOX_RUNTIME_MEMORY_PAGEMAP_ABI_H_
