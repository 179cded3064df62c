#include "runtime/memory/written_pages.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <mutex>

#include "hostcalls/memory/address.h"
#include "runtime/memory/pagemap_abi.h"

namespace dunebox::memory {
namespace {

constexpr std::size_t kAtOnce = 512;  // regions, or entries

// The process's, open for good: opening it takes longer than most looks into it. It is opened again when somebody
// has closed it, whose file the number may be now.
class PageMapFile {
 public:
  static int Get() {
    static PageMapFile file;
    const std::lock_guard lock(file.mutex_);
    struct stat status{};
    const bool is_it = file.fd_ >= 0 && fstat(file.fd_, &status) == 0 &&
                       status.st_dev == file.device_ && status.st_ino == file.inode_;
    if (!is_it) file.Open();
    return file.fd_;
  }

 private:
  void Open() {
    fd_ = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    struct stat status{};
    if (fd_ < 0 || fstat(fd_, &status) != 0) return;
    device_ = status.st_dev;
    inode_ = status.st_ino;
  }

  std::mutex mutex_;  // guards what follows
  int fd_ = -1;
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

absl::Status Failed() { return absl::ErrnoToStatus(errno, "/proc/self/pagemap"); }

std::uint64_t AddressOf(const std::byte* at) { return reinterpret_cast<std::uint64_t>(at); }

absl::Status ScanRange(int file, std::span<std::byte> range, VisitPages visit) {
  const std::uint64_t end = AddressOf(range.data()) + range.size();
  std::array<pagemap::Region, kAtOnce> regions;
  for (std::uint64_t start = AddressOf(range.data()); start < end;) {
    pagemap::ScanArguments arguments{
        .size = sizeof(arguments),
        .start = start,
        .end = end,
        .regions = reinterpret_cast<std::uint64_t>(regions.data()),
        .region_count = regions.size(),
        .inverted = pagemap::kPageIsFile | pagemap::kPageIsZero,
        .all_of = pagemap::kPageIsFile | pagemap::kPageIsZero,
        .any_of = pagemap::kPageIsPresent | pagemap::kPageIsSwapped,
        .returned = pagemap::kPageIsPresent};
    const int found = ioctl(file, pagemap::kScan, &arguments);
    if (found < 0 && errno == EINTR) continue;
    if (found < 0) return errno == ENOTTY ? absl::UnimplementedError("no PAGEMAP_SCAN") : Failed();
    for (const pagemap::Region& region : std::span(regions).first(static_cast<std::size_t>(found))) {
      visit(range.subspan(region.start - AddressOf(range.data()), region.end - region.start));
    }
    start = arguments.walk_end;
  }
  return absl::OkStatus();
}

}  // namespace

bool PrepareForEachWritten() { return PageMapFile::Get() >= 0; }

absl::Status ForEachWrittenByScan(std::span<std::byte> range, VisitPages visit) {
  const int file = PageMapFile::Get();
  return file < 0 ? Failed() : ScanRange(file, range, visit);
}

absl::Status ForEachWrittenByEntries(std::span<std::byte> range, VisitPages visit) {
  const int file = PageMapFile::Get();
  if (file < 0) return Failed();
  std::array<std::uint64_t, kAtOnce> entries;
  for (std::size_t at = 0; at < range.size();) {
    const std::size_t pages = std::min((range.size() - at) / kPageSize, entries.size());
    const std::size_t bytes = pages * sizeof(entries[0]);
    const std::uint64_t first = (AddressOf(range.data()) + at) / kPageSize;
    const ssize_t got =
        pread(file, entries.data(), bytes, static_cast<off_t>(first * sizeof(entries[0])));
    if (got < 0 && errno == EINTR) continue;
    if (got != static_cast<ssize_t>(bytes)) return Failed();
    const auto is_written = [](std::uint64_t entry) {
      return (entry & (pagemap::kEntryPresent | pagemap::kEntrySwapped)) != 0 &&
             (entry & pagemap::kEntryFileOrShared) == 0;
    };
    const auto end = entries.begin() + static_cast<std::ptrdiff_t>(pages);
    for (auto run = entries.begin(); run != end;) {
      run = std::find_if(run, end, is_written);
      const auto run_end = std::find_if_not(run, end, is_written);
      if (run == run_end) break;
      const auto index = static_cast<std::size_t>(run - entries.begin());
      visit(range.subspan(at + index * kPageSize,
                          static_cast<std::size_t>(run_end - run) * kPageSize));
      run = run_end;
    }
    at += pages * kPageSize;
  }
  return absl::OkStatus();
}

absl::Status ForEachWritten(std::span<std::byte> range, VisitPages visit) {
  return ForEachWrittenIn(std::span(&range, 1), visit);
}

// Whether the file is still that one is asked once.
absl::Status ForEachWrittenIn(std::span<const std::span<std::byte>> ranges, VisitPages visit) {
  const int file = PageMapFile::Get();
  if (file < 0) return Failed();
  for (const std::span<std::byte> range : ranges) {
    absl::Status looked = ScanRange(file, range, visit);
    if (absl::IsUnimplemented(looked)) looked = ForEachWrittenByEntries(range, visit);
    if (!looked.ok()) return looked;
  }
  return absl::OkStatus();
}

}  // namespace dunebox::memory
