#include "libdune/software/kernel_tracker.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>

#include "libdune/software/descriptor.h"
#include "libdune/software/kernel_abi.h"

namespace dune::software {
namespace {

// Descriptors of one process's memory: a forked child needs its own.
class KernelTracker final : public DirtyTracker {
 public:
  absl::Status Open();

  absl::Status Track(Range range) override;
  absl::Status Untrack(Range range) override;
  absl::Status TestAndClear(Range range, absl::FunctionRef<void(Range)> visitor) override;
  bool IsDirty(std::uintptr_t page) override;
  bool sees_system_calls() const override { return true; }
  void AfterForkInChild(std::span<const Range> tracked) override;

 private:
  absl::Status Register(Range range);

  Descriptor userfault_;
  Descriptor pagemap_;
};

PagemapScan ScanOf(Range range, std::span<PageRegion> regions, std::uint64_t flags) {
  return {.flags = flags,
          .start = range.begin,
          .end = range.end(),
          .vec = reinterpret_cast<std::uint64_t>(regions.data()),
          .vec_len = regions.size(),
          .category_mask = kPageIsWritten,
          .return_mask = kPageIsWritten};
}

absl::Status KernelTracker::Open() {
  userfault_ = Descriptor(
      static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY)));
  if (!userfault_.valid()) return absl::UnavailableError("the kernel refuses userfaultfd");
  uffdio_api api{.api = UFFD_API,
                 .features = kUffdWriteProtectAsync | kUffdWriteProtectUnpopulated};
  if (ioctl(userfault_.get(), UFFDIO_API, &api) != 0) {
    return absl::UnavailableError("userfaultfd has no asynchronous write protection here");
  }
  pagemap_ = Descriptor(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  PagemapScan nothing = ScanOf({}, {}, 0);
  if (!pagemap_.valid() || ioctl(pagemap_.get(), kPagemapScan, &nothing) != 0) {
    return absl::UnavailableError("/proc/self/pagemap cannot be scanned");
  }
  return absl::OkStatus();
}

absl::Status KernelTracker::Register(Range range) {
  uffdio_register registration{.range = {range.begin, range.size},
                               .mode = UFFDIO_REGISTER_MODE_WP};
  if (ioctl(userfault_.get(), UFFDIO_REGISTER, &registration) == 0) return absl::OkStatus();
  // EINVAL: nothing is mapped there, or (never for 4 KiB pages in this mode) what is cannot be tracked.
  if (errno == EINVAL) return absl::NotFoundError("nothing is mapped in the range");
  return absl::ErrnoToStatus(errno, "the kernel does not track the range");
}

absl::Status KernelTracker::Track(Range range) {
  if (absl::Status registered = Register(range); !registered.ok()) return registered;
  uffdio_writeprotect protection{.range = {range.begin, range.size},
                                 .mode = UFFDIO_WRITEPROTECT_MODE_WP};
  if (ioctl(userfault_.get(), UFFDIO_WRITEPROTECT, &protection) == 0) return absl::OkStatus();
  return absl::ErrnoToStatus(errno, "the pages cannot be made clean");
}

absl::Status KernelTracker::Untrack(Range range) {
  uffdio_range whole{range.begin, range.size};
  // EINVAL: nothing is mapped there any more, so nothing is tracked.
  if (ioctl(userfault_.get(), UFFDIO_UNREGISTER, &whole) == 0 || errno == EINVAL) {
    return absl::OkStatus();
  }
  return absl::ErrnoToStatus(errno, "the kernel does not stop tracking the range");
}

absl::Status KernelTracker::TestAndClear(Range range, absl::FunctionRef<void(Range)> visitor) {
  std::array<PageRegion, 128> regions;
  while (range.size != 0) {
    PagemapScan scan = ScanOf(range, regions, kScanWriteProtectMatching | kScanCheckTracked);
    const int filled = ioctl(pagemap_.get(), kPagemapScan, &scan);
    if (filled < 0) {
      if (errno == EINTR) continue;  // before anything was cleared
      if (errno == EPERM) {
        return absl::FailedPreconditionError("a part of the range was mapped after it was tracked");
      }
      return absl::ErrnoToStatus(errno, "the kernel does not tell what was written");
    }
    for (const PageRegion& region : std::span(regions).first(static_cast<std::size_t>(filled))) {
      visitor({region.start, region.end - region.start});
    }
    range = {scan.walk_end, range.end() - scan.walk_end};
  }
  return absl::OkStatus();
}

bool KernelTracker::IsDirty(std::uintptr_t page) {
  std::array<PageRegion, 1> region;
  PagemapScan scan = ScanOf({page, kPageSize}, region, 0);
  return ioctl(pagemap_.get(), kPagemapScan, &scan) == 1;
}

void KernelTracker::AfterForkInChild(std::span<const Range> tracked) {
  // The kernel gave the child's memory no tracking, so all of it counts as written to. Where the descriptors cannot be
  // had again, the next harvest says so.
  static_cast<void>(Open());
  for (const Range& range : tracked) static_cast<void>(Register(range));
}

}  // namespace

absl::StatusOr<std::unique_ptr<DirtyTracker>> MakeKernelTracker() {
  auto tracker = std::make_unique<KernelTracker>();
  if (absl::Status opened = tracker->Open(); !opened.ok()) return opened;
  return std::unique_ptr<DirtyTracker>(std::move(tracker));
}

}  // namespace dune::software
