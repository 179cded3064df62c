#include "runtime/jit/perf_dump.h"

#include <elf.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "hostcalls/trace/write_line.h"
#include "runtime/file_descriptor.h"
#include "runtime/jit/jitdump_format.h"

namespace dunebox::runtime {
namespace {

using jitdump::CodeLoad;
using jitdump::FileHeader;
using jitdump::RecordHeader;
using jitdump::RecordId;

constexpr std::uint64_t kNanosecondsInSecond = 1'000'000'000;
constexpr int kFlags = O_RDWR | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY;

template <typename T>
void Append(std::vector<char>& bytes, const T& value) {
  const std::size_t at = bytes.size();
  bytes.resize(at + sizeof(value));
  std::memcpy(bytes.data() + at, &value, sizeof(value));
}

std::vector<char> NewRecord(RecordId id) {
  std::vector<char> record;
  Append(record, RecordHeader{.id = id, .size = 0, .time = 0});
  return record;
}

// Has what an earlier program of this process wrote, in this session?
bool IsOurs(int fd, std::uint64_t since) {
  FileHeader header;
  return pread(fd, &header, sizeof(header), 0) == ssize_t{sizeof(header)} &&
         header.magic == jitdump::kMagic && header.version == jitdump::kVersion &&
         header.pid == static_cast<std::uint32_t>(getpid()) && header.time >= since;
}

// Another process's of the same number, or whatever else lies there, is taken out of the way.
absl::StatusOr<hostcalls::ReservedFd> OpenFile(hostcalls::VirtualLimits& limits,
                                               const PerfDump::Place& place) {
  const std::string name = absl::StrCat("jit-", getpid(), ".dump");
  const hostcalls::LowDescriptors::Window window(limits.low_descriptors);
  FileDescriptor file(openat(place.directory, name.c_str(), kFlags));
  if (!file.valid() || !IsOurs(file.get(), place.since)) {
    unlinkat(place.directory, name.c_str(), 0);
    file = FileDescriptor(openat(place.directory, name.c_str(), kFlags | O_CREAT | O_EXCL, 0644));
  }
  if (!file.valid()) return absl::ErrnoToStatus(errno, absl::StrCat("cannot make ", name));
  return limits.DuplicateToReserved(file.get());
}

}  // namespace

std::uint64_t PerfDump::Now() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * kNanosecondsInSecond +
         static_cast<std::uint64_t>(now.tv_nsec);
}

absl::StatusOr<std::unique_ptr<PerfDump>> PerfDump::Create(hostcalls::VirtualLimits& limits,
                                                           const memory::AddressSpace& space,
                                                           const Place& place) {
  std::unique_ptr<PerfDump> dump(new PerfDump(limits, space, place));
  if (absl::Status status = dump->Begin(); !status.ok()) return status;
  return dump;
}

PerfDump::~PerfDump() { Unmap(); }

void PerfDump::Unmap() {
  if (mapping_ != nullptr) munmap(mapping_, place_.mapped);
  mapping_ = nullptr;
}

absl::Status PerfDump::Begin() {
  absl::StatusOr<hostcalls::ReservedFd> file = OpenFile(limits_, place_);
  if (!file.ok()) return file.status();
  // Nobody looks into it. What perf takes notice of is that it is made, and its name.
  void* const mapping = mmap(nullptr, place_.mapped, PROT_READ | PROT_EXEC,
                             MAP_SHARED | MAP_NORESERVE, file->get(), 0);
  if (mapping == MAP_FAILED) {
    return absl::ErrnoToStatus(errno, "--jit-perf-dump: cannot map the file as code");
  }
  mapping_ = mapping;
  struct stat info {};
  if (fstat(file->get(), &info) != 0) return absl::ErrnoToStatus(errno, "--jit-perf-dump: fstat");
  file_ = *std::move(file);
  pid_ = static_cast<std::uint32_t>(getpid());
  written_ = static_cast<std::uint64_t>(info.st_size);
  if (written_ != 0) return absl::OkStatus();
  std::vector<char> header;
  Append(header, FileHeader{.magic = jitdump::kMagic,
                            .version = jitdump::kVersion,
                            .size = sizeof(FileHeader),
                            .machine = EM_X86_64,
                            .zero = 0,
                            .pid = pid_,
                            .time = Now(),
                            .flags = 0});
  WriteBytes(header);
  return absl::OkStatus();
}

void PerfDump::WriteBytes(const std::vector<char>& bytes) {
  hostcalls::UserFile file(file_.get(), place_.report_fd, "--jit-perf-dump");
  if (file.Write({bytes.data(), bytes.size()})) {
    written_ += bytes.size();
  } else {
    file_ = hostcalls::ReservedFd();
  }
}

void PerfDump::Write(std::vector<char>& record) {
  RecordHeader header;
  std::memcpy(&header, record.data(), sizeof(header));
  header.size = static_cast<std::uint32_t>(record.size());
  header.time = Now();
  std::memcpy(record.data(), &header, sizeof(header));
  WriteBytes(record);
}

void PerfDump::Add(const jit::MadeBlock& block) {
  const std::optional<FilePlace> place = FilePlaceOf(space_, block.pc);
  const std::lock_guard lock(mutex_);
  if (!file_.valid()) return;
  const std::string name = names_.NameOf(place, block.pc);
  std::vector<char> record = NewRecord(RecordId::kCodeLoad);
  Append(record, CodeLoad{.pid = pid_,
                          .tid = static_cast<std::uint32_t>(gettid()),
                          .virtual_address = block.host,
                          .code_address = block.host,
                          .code_size = block.code.size(),
                          .index = written_});
  record.insert(record.end(), name.c_str(), name.c_str() + name.size() + 1);
  record.insert(record.end(), block.code.begin(), block.code.end());
  Write(record);
}

void PerfDump::Close() {
  const std::lock_guard lock(mutex_);
  if (!file_.valid()) return;
  std::vector<char> record = NewRecord(RecordId::kCodeClose);
  Write(record);
}

void PerfDump::ContinueAfterFork(std::span<const jit::MadeBlock> inherited) {
  file_ = hostcalls::ReservedFd();
  Unmap();
  if (!Begin().ok()) return;
  for (const jit::MadeBlock& block : inherited) Add(block);
}

}  // namespace dunebox::runtime
