#include "runtime/jit/code_recorder.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <span>
#include <string>

#include "absl/strings/str_cat.h"
#include "hostcalls/trace/write_line.h"
#include "runtime/file_descriptor.h"

namespace dunebox::runtime {
namespace {

using record::Kind;

struct IsolationRow {
  jit::Isolation isolation;
  record::Isolation recorded;
};
constexpr IsolationRow kIsolations[] = {
    {jit::Isolation::kNone, record::Isolation::kNone},
    {jit::Isolation::kPku, record::Isolation::kPku},
    {jit::Isolation::kSeg, record::Isolation::kSeg},
    {jit::Isolation::kMask, record::Isolation::kMask},
    {jit::Isolation::kMaskWrites, record::Isolation::kMaskWrites},
};

constexpr Kind kKinds[] = {Kind::kDirectBlock, Kind::kIndirectBlock, Kind::kIndirectStub,
                           Kind::kExitStub};
static_assert(static_cast<unsigned>(jit::CodeKind::kIndirectStub) == 2 &&
              static_cast<unsigned>(jit::CodeKind::kExitStub) == 3);

constexpr std::uint32_t kAlignment = 8;

// PID-N.blocks, where N is the first that is free: execve keeps the number of the process.
absl::StatusOr<hostcalls::ReservedFd> MakeFile(hostcalls::VirtualLimits& limits, int directory) {
  constexpr int kMostFiles = 1 << 16;
  const hostcalls::LowDescriptors::Window window(limits.low_descriptors);
  for (int number = 0; number < kMostFiles; ++number) {
    const std::string name = absl::StrCat(getpid(), "-", number, ".blocks");
    const FileDescriptor file(
        openat(directory, name.c_str(),
               O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0644));
    if (file.valid()) return limits.DuplicateToReserved(file.get());
    if (errno != EEXIST) return absl::ErrnoToStatus(errno, absl::StrCat("cannot make ", name));
  }
  return absl::ResourceExhaustedError("--jit-record: too many files of one process");
}

template <typename T>
void Append(std::vector<char>& bytes, const T& value) {
  const std::size_t at = bytes.size();
  bytes.resize(at + sizeof(value));
  std::memcpy(bytes.data() + at, &value, sizeof(value));
}

}  // namespace

absl::StatusOr<std::unique_ptr<CodeRecorder>> CodeRecorder::Create(hostcalls::VirtualLimits& limits,
                                                                   int directory, int report_fd) {
  absl::StatusOr<hostcalls::ReservedFd> file = MakeFile(limits, directory);
  if (!file.ok()) return file.status();
  return std::unique_ptr<CodeRecorder>(new CodeRecorder(*std::move(file), limits, directory, report_fd));
}

void CodeRecorder::Describe(const jit::EmitterOptions& options) {
  for (const IsolationRow& row : kIsolations) {
    if (row.isolation == options.isolation) isolation_ = row.recorded;
  }
  check_by_loop_ = options.check_by_loop;
}

void CodeRecorder::Add(const jit::NewCode& code) {
  if (!file_.valid()) return;
  const auto exits = static_cast<std::uint32_t>(code.exits.size());
  const auto code_size = static_cast<std::uint32_t>(code.bytes.size());
  const auto used =
      static_cast<std::uint32_t>(sizeof(record::Header) + exits * sizeof(record::Exit) + code_size);
  const std::uint32_t size = (used + kAlignment - 1) / kAlignment * kAlignment;
  buffer_.clear();
  Append(buffer_, record::Header{.magic = record::kMagic,
                                 .size = size,
                                 .kind = kKinds[static_cast<unsigned>(code.kind)],
                                 .isolation = isolation_,
                                 .flags = static_cast<std::uint8_t>(
                                     (check_by_loop_ ? record::kCheckByLoop : 0) |
                                     (code.is_self_checking ? record::kSelfChecking : 0) |
                                     (code.is_single ? record::kIsSingle : 0)),
                                 .zero = 0,
                                 .generation = code.generation,
                                 .pc = code.pc,
                                 .host = code.host,
                                 .entry = code.entry,
                                 .code_size = code_size,
                                 .exits = exits,
                                 .zero2 = 0});
  for (const jit::ExitSite& exit : code.exits) {
    Append(buffer_, record::Exit{.offset = exit.offset, .zero = 0, .target = exit.target});
  }
  buffer_.insert(buffer_.end(), code.bytes.begin(), code.bytes.end());
  buffer_.resize(size);
  // One write(2), which is appended whole even where a parent and its child share the file.
  hostcalls::UserFile file(file_.get(), report_fd_, "--jit-record");
  if (!file.Write({buffer_.data(), buffer_.size()})) file_ = hostcalls::ReservedFd();
}

void CodeRecorder::ContinueAfterFork() {
  absl::StatusOr<hostcalls::ReservedFd> own = MakeFile(limits_, directory_);
  if (own.ok()) file_ = *std::move(own);
}

}  // namespace dunebox::runtime
