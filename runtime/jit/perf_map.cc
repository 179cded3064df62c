#include "runtime/jit/perf_map.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "hostcalls/trace/write_line.h"
#include "runtime/file_descriptor.h"

namespace dunebox::runtime {
namespace {

// /tmp/perf-PID.map of the calling process. What lies there may be of an earlier process with this
// number, or of this one's program before execve; whatever else it is, it is not followed.
absl::StatusOr<hostcalls::ReservedFd> MakeFile(hostcalls::VirtualLimits& limits) {
  const std::string path = absl::StrCat(PerfMap::kDirectory, "/perf-", getpid(), ".map");
  const hostcalls::LowDescriptors::Window window(limits.low_descriptors);
  unlink(path.c_str());
  const FileDescriptor file(
      open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644));
  if (!file.valid()) return absl::ErrnoToStatus(errno, absl::StrCat("cannot make ", path));
  return limits.DuplicateToReserved(file.get());
}

}  // namespace

absl::StatusOr<std::unique_ptr<PerfMap>> PerfMap::Create(hostcalls::VirtualLimits& limits,
                                                         const memory::AddressSpace& space, int report_fd) {
  absl::StatusOr<hostcalls::ReservedFd> file = MakeFile(limits);
  if (!file.ok()) return file.status();
  return std::unique_ptr<PerfMap>(new PerfMap(*std::move(file), limits, space, report_fd));
}

void PerfMap::ContinueAfterFork() {
  absl::StatusOr<hostcalls::ReservedFd> own = MakeFile(limits_);
  const hostcalls::ReservedFd parents = std::exchange(file_, hostcalls::ReservedFd());
  if (!own.ok()) return;
  file_ = *std::move(own);
  std::array<char, 64 * 1024> part;
  for (std::uint64_t at = 0; at < written_;) {
    const std::size_t wanted = std::min<std::uint64_t>(part.size(), written_ - at);
    const ssize_t have = pread(parents.get(), part.data(), wanted, static_cast<off_t>(at));
    if (have <= 0) return;
    hostcalls::WriteLine(file_.get(), {part.data(), static_cast<std::size_t>(have)});
    at += static_cast<std::uint64_t>(have);
  }
}

void PerfMap::Add(std::uint64_t pc, std::uint64_t host, std::uint32_t size) {
  const std::optional<FilePlace> place = FilePlaceOf(space_, pc);
  std::lock_guard lock(mutex_);
  if (!file_.valid()) return;
  const std::string line = absl::StrFormat("%x %x %s\n", host, size, names_.NameOf(place, pc));
  hostcalls::UserFile file(file_.get(), report_fd_, "--jit-perf-map");
  if (!file.Write(line)) file_ = hostcalls::ReservedFd();
  written_ += line.size();
}

}  // namespace dunebox::runtime
