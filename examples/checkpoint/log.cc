#include "examples/checkpoint/log.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <cstring>
#include <utility>
#include <vector>

namespace checkpoint {
namespace {

using dune::kPageSize;
using dune::Range;

constexpr std::uint64_t kFileMagic = 0x31474f4c54504b43;    // "CKPTLOG1"
constexpr std::uint64_t kRecordMagic = 0x31434552'54504b43;  // "CKPTREC1"

struct FileHeader {
  std::uint64_t magic;
  std::uint64_t program;  // a sum of the executable: its addresses are in the arena
};

struct RecordHeader {
  std::uint64_t magic;
  std::uint64_t pages;
  std::uint64_t sum;  // of what follows
};

struct SavedPage {
  std::uint64_t address;
  char bytes[kPageSize];
};

std::uint64_t Sum(const void* data, std::size_t size, std::uint64_t sum = 0xcbf29ce484222325) {
  const auto* const bytes = static_cast<const unsigned char*>(data);
  for (std::size_t index = 0; index < size; ++index) sum = (sum ^ bytes[index]) * 0x100000001b3;
  return sum;
}

// Whether all of it came.
bool ReadAll(int file, void* data, std::size_t size) {
  for (auto* to = static_cast<char*>(data); size != 0;) {
    const ssize_t count = read(file, to, size);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    to += count;
    size -= static_cast<std::size_t>(count);
  }
  return true;
}

absl::Status WriteAll(int file, const void* data, std::size_t size) {
  for (const auto* from = static_cast<const char*>(data); size != 0;) {
    const ssize_t count = write(file, from, size);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return absl::ErrnoToStatus(errno, "write");
    from += count;
    size -= static_cast<std::size_t>(count);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::uint64_t> SumOfThisProgram() {
  const int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  if (file < 0) return absl::ErrnoToStatus(errno, "/proc/self/exe");
  std::uint64_t sum = Sum(nullptr, 0);
  char buffer[1 << 16];
  for (ssize_t count = 0; (count = read(file, buffer, sizeof(buffer))) > 0;) {
    sum = Sum(buffer, static_cast<std::size_t>(count), sum);
  }
  close(file);
  return sum;
}

// The pages of the record that comes next; false where there is none that is whole.
bool ReadRecord(int file, std::vector<SavedPage>& pages) {
  RecordHeader header{};
  if (!ReadAll(file, &header, sizeof(header)) || header.magic != kRecordMagic) return false;
  const off_t here = lseek(file, 0, SEEK_CUR);
  const off_t left = lseek(file, 0, SEEK_END) - here;
  lseek(file, here, SEEK_SET);
  if (header.pages > static_cast<std::uint64_t>(left) / sizeof(SavedPage)) return false;
  pages.resize(header.pages);
  return ReadAll(file, pages.data(), pages.size() * sizeof(SavedPage)) &&
         Sum(pages.data(), pages.size() * sizeof(SavedPage)) == header.sum;
}

bool IsIn(Range arena, const SavedPage& page) {
  return page.address % kPageSize == 0 && page.address >= arena.begin &&
         page.address < arena.end();
}

}  // namespace

absl::StatusOr<CheckpointLog> CheckpointLog::Open(const std::string& path) {
  absl::StatusOr<std::uint64_t> program = SumOfThisProgram();
  if (!program.ok()) return program.status();
  CheckpointLog log(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (log.file_ < 0) return absl::ErrnoToStatus(errno, path);
  FileHeader header{};
  if (!ReadAll(log.file_, &header, sizeof(header))) {
    // Nothing, or less than a header, which the first Open did not get done.
    header = {kFileMagic, *program};
    if (ftruncate(log.file_, 0) != 0 || lseek(log.file_, 0, SEEK_SET) != 0) {
      return absl::ErrnoToStatus(errno, path);
    }
    if (absl::Status written = WriteAll(log.file_, &header, sizeof(header)); !written.ok()) {
      return written;
    }
  }
  if (header.magic != kFileMagic || header.program != *program) {
    return absl::FailedPreconditionError("the checkpoints were made by another program");
  }
  return log;
}

CheckpointLog::CheckpointLog(CheckpointLog&& other) noexcept
    : file_(std::exchange(other.file_, -1)) {}

CheckpointLog::~CheckpointLog() {
  if (file_ >= 0) close(file_);
}

absl::StatusOr<int> CheckpointLog::Restore(Range arena) {
  off_t end = lseek(file_, sizeof(FileHeader), SEEK_SET);
  int records = 0;
  for (std::vector<SavedPage> pages; ReadRecord(file_, pages); ++records) {
    for (const SavedPage& page : pages) {
      if (!IsIn(arena, page)) return absl::DataLossError("a page outside the arena");
    }
    for (const SavedPage& page : pages) {
      std::memcpy(reinterpret_cast<void*>(page.address), page.bytes, kPageSize);
    }
    end = lseek(file_, 0, SEEK_CUR);
  }
  if (ftruncate(file_, end) != 0 || lseek(file_, end, SEEK_SET) != end) {
    return absl::ErrnoToStatus(errno, "the log cannot be cut");
  }
  return records;
}

absl::Status CheckpointLog::Append(std::span<const Range> written, CopyPage copy) {
  std::vector<SavedPage> pages;
  for (const Range range : written) {
    for (std::uintptr_t at = range.begin; at < range.end(); at += kPageSize) {
      SavedPage& page = pages.emplace_back();
      page.address = at;
      if (absl::Status copied = copy(page.bytes, at); !copied.ok()) return copied;
    }
  }
  const RecordHeader header{kRecordMagic, pages.size(),
                            Sum(pages.data(), pages.size() * sizeof(SavedPage))};
  if (absl::Status saved = WriteAll(file_, &header, sizeof(header)); !saved.ok()) return saved;
  absl::Status saved = WriteAll(file_, pages.data(), pages.size() * sizeof(SavedPage));
  if (!saved.ok()) return saved;
  return fdatasync(file_) == 0 ? absl::OkStatus() : absl::ErrnoToStatus(errno, "fdatasync");
}

}  // namespace checkpoint
