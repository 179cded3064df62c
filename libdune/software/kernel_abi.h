// What the kernel's headers of Debian 12 do not have yet: asynchronous write protection by userfaultfd (Linux 6.7), the
// harvest of its marks (6.7), and a query for one mapping (6.11). [linux: Documentation/admin-guide/mm/pagemap.rst and
// userfaultfd.rst, include/uapi/linux/fs.h]
//
//   PagemapScan scan{.start = begin, .end = end, .vec = reinterpret_cast<std::uint64_t>(regions), .vec_len = 64};
//   int filled = ioctl(pagemap, kPagemapScan, &scan);
#ifndef DUNEBOX_LIBDUNE_SOFTWARE_KERNEL_ABI_H_
#define DUNEBOX_LIBDUNE_SOFTWARE_KERNEL_ABI_H_

#include <sys/ioctl.h>

#include <cstdint>

namespace dune::software {

// struct pm_scan_arg, struct page_region
struct PagemapScan {
  std::uint64_t size = sizeof(PagemapScan);
  std::uint64_t flags = 0;
  std::uint64_t start = 0;
  std::uint64_t end = 0;
  std::uint64_t walk_end = 0;  // where the walk stopped
  std::uint64_t vec = 0;
  std::uint64_t vec_len = 0;
  std::uint64_t max_pages = 0;
  std::uint64_t category_inverted = 0;
  std::uint64_t category_mask = 0;
  std::uint64_t category_anyof_mask = 0;
  std::uint64_t return_mask = 0;
};
static_assert(sizeof(PagemapScan) == 96);

struct PageRegion {
  std::uint64_t start;
  std::uint64_t end;
  std::uint64_t categories;
};
static_assert(sizeof(PageRegion) == 24);

inline constexpr unsigned long kPagemapScan = _IOWR('f', 16, PagemapScan);
inline constexpr std::uint64_t kScanWriteProtectMatching = 1 << 0;  // PM_SCAN_WP_MATCHING
inline constexpr std::uint64_t kScanCheckTracked = 1 << 1;          // PM_SCAN_CHECK_WPASYNC
inline constexpr std::uint64_t kPageIsWritten = 1 << 1;             // PAGE_IS_WRITTEN

inline constexpr std::uint64_t kUffdWriteProtectUnpopulated = 1 << 13;  // UFFD_FEATURE_WP_UNPOPULATED
inline constexpr std::uint64_t kUffdWriteProtectAsync = 1 << 15;        // UFFD_FEATURE_WP_ASYNC

// struct procmap_query
struct MappingQuery {
  std::uint64_t size = sizeof(MappingQuery);
  std::uint64_t query_flags = 0;
  std::uint64_t query_addr = 0;
  std::uint64_t vma_start = 0;
  std::uint64_t vma_end = 0;
  std::uint64_t vma_flags = 0;
  std::uint64_t vma_page_size = 0;
  std::uint64_t vma_offset = 0;
  std::uint64_t inode = 0;
  std::uint32_t dev_major = 0;
  std::uint32_t dev_minor = 0;
  std::uint32_t vma_name_size = 0;
  std::uint32_t build_id_size = 0;
  std::uint64_t vma_name_addr = 0;
  std::uint64_t build_id_addr = 0;
};
static_assert(sizeof(MappingQuery) == 104);

inline constexpr unsigned long kMappingQuery = _IOWR('f', 17, MappingQuery);
// The mapping that holds the address, or the next above it (PROCMAP_QUERY_COVERING_OR_NEXT_VMA).
inline constexpr std::uint64_t kQueryCoveringOrNext = 0x10;
// Of vma_flags (PROCMAP_QUERY_VMA_*); the three rights are the bits of PROT_*.
inline constexpr std::uint64_t kQueryRights = 0x07;

}  // namespace dune::software

#endif  // DUNEBOX_LIBDUNE_SOFTWARE_KERNEL_ABI_H_
