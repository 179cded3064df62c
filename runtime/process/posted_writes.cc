#include "runtime/process/posted_writes.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "hostcalls/errors/message.h"
#include "hostcalls/table/table.h"

namespace dunebox::process {
namespace {

using hostcalls::Errno;
using hostcalls::Family;
using hostcalls::Request;
using hostcalls::SyscallResult;

constexpr unsigned kDescriptors = DUNE_POSTED_MOST_DESCRIPTOR + 1;
constexpr std::uint64_t Bit(unsigned descriptor) { return std::uint64_t{1} << descriptor; }
unsigned DescriptorOf(const Request& request) { return static_cast<unsigned>(request.arguments[0]); }

// Where writing to a regular file only fills a page of the kernel's. Elsewhere (procfs, FUSE, ...) what the write says
// can be all that matters about it.
constexpr std::uint32_t kOrdinary[] = {EXT4_SUPER_MAGIC,      XFS_SUPER_MAGIC,   BTRFS_SUPER_MAGIC,
                                       TMPFS_MAGIC,           F2FS_SUPER_MAGIC,  OVERLAYFS_SUPER_MAGIC};

bool IsOrdinaryFile(int descriptor) {
  struct statfs system;
  return fstatfs(descriptor, &system) == 0 &&
         std::ranges::count(kOrdinary, static_cast<std::uint32_t>(system.f_type)) != 0;
}

// The program would see there by itself when it is written.
bool IsMappedShared(const memory::AddressSpace& space, const struct stat& file) {
  bool found = false;
  space.ForEachVma([&](const memory::Vma& vma) {
    found = vma.file_backed && vma.sharing == memory::Sharing::kShared && vma.backing != nullptr &&
            vma.backing->device == file.st_dev && vma.backing->inode == file.st_ino;
    return !found;
  });
  return found;
}

// Families of which no call changes what a descriptor means.
bool IsElsewhere(Family family) {
  return family == Family::kMemory || family == Family::kSignals || family == Family::kTime ||
         family == Family::kFutex || family == Family::kIdentity;
}

// Calls about files that change neither what a number in use means, nor its flags, nor whether there is room in a pipe
// that is posted to.
constexpr std::uint64_t kHarmless[] = {
    SYS_read,  SYS_readv,  SYS_pread64,    SYS_write,   SYS_lseek,  SYS_open,     SYS_openat,
    SYS_fstat, SYS_stat,   SYS_newfstatat, SYS_statx,   SYS_poll,   SYS_ppoll,    SYS_getdents64,
    SYS_lstat, SYS_access, SYS_faccessat,  SYS_getcwd,  SYS_close,  SYS_readlink, SYS_readlinkat};

bool MayChangeDescriptors(const Request& request) {
  if (std::ranges::count(kHarmless, request.number) != 0) return false;
  if (request.number == SYS_mmap) return (request.arguments[3] & MAP_ANONYMOUS) == 0;
  const hostcalls::Row* const row = hostcalls::FindRow(request.number);
  return row != nullptr && !IsElsewhere(row->family);
}

// Who may be told of an error that came late, as with write(2) on NFS.
constexpr std::uint64_t kHearing[] = {SYS_write,   SYS_pwrite64, SYS_writev, SYS_pwritev,
                                      SYS_pwritev2, SYS_fsync,   SYS_fdatasync, SYS_close};

// They leave a number without its file, or everything.
constexpr std::uint64_t kEnding[] = {SYS_dup2,  SYS_dup3, SYS_close_range, SYS_execve, SYS_execveat,
                                     SYS_exit, SYS_exit_group};

}  // namespace

void PostedWrites::Learn(unsigned descriptor, const memory::AddressSpace& space) {
  constexpr int kOther = O_DIRECT | O_DSYNC | O_SYNC | O_NONBLOCK | O_PATH;
  const int number = static_cast<int>(descriptor);
  struct stat file;
  const int flags = fcntl(number, F_GETFL);
  if (flags < 0 || (flags & kOther) != 0 || fstat(number, &file) != 0) return;
  const bool is_null = S_ISCHR(file.st_mode) && file.st_rdev == makedev(1, 3);
  const bool is_pipe = S_ISFIFO(file.st_mode);
  const bool is_file =
      S_ISREG(file.st_mode) && IsOrdinaryFile(number) && !IsMappedShared(space, file);
  if (!is_null && !is_pipe && !is_file) return;
  known_ |= Bit(descriptor);
  pipes_ = is_pipe ? pipes_ | Bit(descriptor) : pipes_ & ~Bit(descriptor);
}

// Writable means that a page of it is free. All that is posted between two looks is less than a page, and bytes that
// follow each other share pages: so whatever is posted finds room, unless somebody else takes it.
void PostedWrites::LookForRoom() {
  std::array<pollfd, kDescriptors> wanted;
  nfds_t count = 0;
  for (std::uint64_t left = known_ & pipes_; left != 0; left &= left - 1) {
    wanted[count++] = {.fd = std::countr_zero(left), .events = POLLOUT, .revents = 0};
  }
  room_ = 0;
  looks_for_room_ = false;
  if (count == 0 || poll(wanted.data(), count, 0) < 0) return;
  for (const pollfd& pipe : std::span(wanted).first(count)) {
    if (pipe.revents == POLLOUT) room_ |= Bit(static_cast<unsigned>(pipe.fd));
  }
}

void PostedWrites::Lend(abi::PostedWrites& box, bool is_allowed) {
  if (is_allowed && looks_for_room_) LookForRoom();
  lent_ = is_allowed ? known_ & (~pipes_ | room_) : 0;
  // Another thread of the process may be lending nothing at the same time.
  __atomic_store_n(&box.descriptors, lent_, __ATOMIC_RELAXED);
}

// In pieces only where somebody else has taken the room: then it waits, as the program's own write would have.
int PostedWrites::Write(int descriptor, std::span<iovec> parts) {
  while (!parts.empty()) {
    const ssize_t written = writev(descriptor, parts.data(), static_cast<int>(parts.size()));
    if (written < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN) return errno;
      pollfd room{.fd = descriptor, .events = POLLOUT, .revents = 0};
      (void)poll(&room, 1, -1);
      continue;
    }
    auto left = static_cast<std::size_t>(written);
    while (!parts.empty() && left >= parts.front().iov_len) {
      left -= parts.front().iov_len;
      parts = parts.subspan(1);
    }
    if (left == 0) continue;
    parts.front().iov_base = static_cast<std::byte*>(parts.front().iov_base) + left;
    parts.front().iov_len -= left;
  }
  return 0;
}

bool PostedWrites::WriteRecords(std::span<const std::byte> records) {
  constexpr std::size_t kMost = DUNE_POSTED_ROOM / (2 * DUNE_POSTED_HEADER);
  std::array<iovec, kMost> parts;
  std::size_t count = 0;
  unsigned descriptor = 0;
  const auto flush = [&] {
    const std::size_t all = std::exchange(count, 0);
    if (all == 0 || errors_.contains(descriptor)) return;
    const int error = Write(static_cast<int>(descriptor), std::span(parts).first(all));
    if ((pipes_ & Bit(descriptor)) != 0) looks_for_room_ = true;
    if (error == 0) return;
    errors_[descriptor] = error;
    known_ &= ~Bit(descriptor);
  };
  while (!records.empty()) {
    abi::PostedRecord record;
    if (records.size() < sizeof(record)) return false;
    std::memcpy(&record, records.data(), sizeof(record));
    records = records.subspan(sizeof(record));
    const std::size_t padded = (std::size_t{record.bytes} + 7) & ~std::size_t{7};
    const bool is_lent = record.descriptor < kDescriptors && (lent_ & Bit(record.descriptor)) != 0;
    if (!is_lent || record.bytes == 0 || record.bytes > DUNE_POSTED_MOST_BYTES || padded > records.size()) {
      return false;
    }
    if (record.descriptor != descriptor) flush();
    descriptor = record.descriptor;
    parts[count++] = {.iov_base = const_cast<std::byte*>(records.data()), .iov_len = record.bytes};
    records = records.subspan(padded);
  }
  flush();
  return true;
}

bool PostedWrites::CarryOut(abi::PostedWrites& box) {
  const std::uint64_t used = __atomic_load_n(&box.used, __ATOMIC_RELAXED);
  if (used == 0) return true;
  if (used > sizeof(box.records)) return false;
  std::array<std::byte, sizeof(box.records)> copy;
  std::memcpy(copy.data(), box.records, used);
  __atomic_store_n(&box.used, 0, __ATOMIC_RELAXED);
  return WriteRecords(std::span(copy).first(used));
}

std::optional<SyscallResult> PostedWrites::TakeError(const Request& request) {
  if (errors_.empty() || std::ranges::count(kHearing, request.number) == 0) return std::nullopt;
  const auto found = errors_.find(DescriptorOf(request));
  if (found == errors_.end()) return std::nullopt;
  const Errno error{found->second};
  errors_.erase(found);
  return SyscallResult(error);
}

void PostedWrites::AfterCall(const Request& request, const SyscallResult& result,
                             const memory::AddressSpace& space) {
  if (MayChangeDescriptors(request)) {
    known_ = pipes_ = room_ = 0;
    return;
  }
  const unsigned descriptor = DescriptorOf(request);
  if (request.number == SYS_close && descriptor < kDescriptors) known_ &= ~Bit(descriptor);
  if (request.number != SYS_write) return;
  const std::uint64_t bytes = request.arguments[2];
  if ((known_ & pipes_) != 0) looks_for_room_ = true;  // by another number it may be the same pipe
  if (descriptor >= kDescriptors || (known_ & Bit(descriptor)) != 0) return;
  if (bytes == 0 || bytes > DUNE_POSTED_MOST_BYTES || !result.ok() ||
      static_cast<std::uint64_t>(result.value()) != bytes) {
    return;
  }
  Learn(descriptor, space);
  looks_for_room_ = true;
}

std::string PostedWrites::TakeUnheard() {
  std::string lines;
  for (const auto& [descriptor, error] : std::exchange(errors_, {})) {
    absl::StrAppend(&lines, errors::LineOf(errors::Id::kPostedWrite,
                                           absl::StrCat("[", getpid(), "] a posted write to descriptor ", descriptor,
                                                        " has failed: ", strerror(error))));
  }
  return lines;
}

bool PostedWrites::EndsDescriptors(const Request& request) {
  return std::ranges::count(kEnding, request.number) != 0;
}

}  // namespace dunebox::process
