#include "hostcalls/services/output_meter.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <new>

#include "hostcalls/services/shared_memory.h"

namespace dunebox::hostcalls {
namespace {

// [linux] devices.txt
constexpr dev_t kNull = 0x103;                 // 1:3
constexpr dev_t kControllingTerminal = 0x500;  // 5:0

bool IsNull(const struct stat& status) {
  return S_ISCHR(status.st_mode) && status.st_rdev == kNull;
}

}  // namespace

absl::StatusOr<int> OutputMeter::CreateFile(std::uint64_t limit) {
  absl::StatusOr<int> fd = CreateSharedMemory("dunebox-output", sizeof(Page));
  if (!fd.ok()) return fd.status();
  void* const memory = MapSharedMemory(*fd, sizeof(Page));
  if (memory == MAP_FAILED) {
    const absl::Status error = absl::ErrnoToStatus(errno, "--output: cannot map the count");
    close(*fd);
    return error;
  }
  Page* const page = new (memory) Page;
  page->limit = limit;
  for (int i = 0; i < 3; ++i) {
    struct stat status {};
    if (fstat(i, &status) != 0 || IsNull(status)) continue;
    page->objects[static_cast<std::size_t>(i)] = {status.st_dev, status.st_ino};
    if (isatty(i) == 1) page->has_terminal = 1;
  }
  munmap(memory, sizeof(Page));
  return fd;
}

absl::StatusOr<std::unique_ptr<OutputMeter>> OutputMeter::Map(int fd) {
  void* const memory = MapSharedMemory(fd, sizeof(Page));
  if (memory == MAP_FAILED) return absl::ErrnoToStatus(errno, "--output: cannot map the count");
  return std::unique_ptr<OutputMeter>(new OutputMeter(static_cast<Page*>(memory)));
}

OutputMeter::~OutputMeter() { munmap(&page_, sizeof(Page)); }

bool OutputMeter::IsOutput(int fd) const {
  struct stat status {};
  if (fstat(fd, &status) != 0 || status.st_ino == 0) return false;
  // By this name the terminal is another inode.
  if (page_.has_terminal != 0 && S_ISCHR(status.st_mode) &&
      status.st_rdev == kControllingTerminal) {
    return true;
  }
  const Object object{status.st_dev, status.st_ino};
  return std::ranges::find(page_.objects, object) != page_.objects.end();
}

std::uint64_t OutputMeter::Take(std::uint64_t bytes) {
  std::uint64_t used = page_.used.load();
  std::uint64_t granted = 0;
  do {
    granted = std::min(bytes, page_.limit - std::min(used, page_.limit));
  } while (!page_.used.compare_exchange_weak(used, used + granted));
  return granted;
}

void OutputMeter::GiveBack(std::uint64_t bytes) { page_.used.fetch_sub(bytes); }

bool OutputMeter::Add(std::uint64_t bytes) { return Take(bytes) == bytes; }

void OutputMeter::ReachLimit() {
  page_.is_reached.store(1);
  for (;;) pause();
}

bool OutputMeter::IsReached() const { return page_.is_reached.load() != 0; }

}  // namespace dunebox::hostcalls
