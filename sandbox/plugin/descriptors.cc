#include "sandbox/plugin/descriptors.h"

#include <fcntl.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "hostcalls/services/separate_descriptors.h"
#include "sandbox/plugin/snapshot.h"

namespace dunebox::plugin {
namespace {

std::shared_ptr<const OpenFile> Output(const char* name, int to) {
  auto output = std::make_shared<OpenFile>();
  output->kind = OpenFile::Kind::kOutput;
  output->name = name;
  if (to >= 0) output->host = runtime::FileDescriptor(fcntl(to, F_DUPFD_CLOEXEC, 3));
  return output;
}

}  // namespace

absl::Status CheckOutputs(const Policy& policy) {
  for (const int output : {policy.stdout_to, policy.stderr_to}) {
    if (output >= 0 && fcntl(output, F_GETFD) < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("descriptor ", output, " for a sandbox's output is not open"));
    }
  }
  return absl::OkStatus();
}

Descriptors::Descriptors(const Policy& policy) : most_(static_cast<int>(policy.open_files)) {
  entries_[0] = {std::make_shared<OpenFile>(), false};
  entries_[1] = {Output(kStdout, policy.stdout_to), false};
  entries_[2] = {Output(kStderr, policy.stderr_to), false};
}

int Descriptors::Add(std::shared_ptr<const OpenFile> file, bool closes_on_exec, int least) {
  const std::lock_guard lock(mutex_);
  for (int fd = least; IsNumber(fd); ++fd) {
    Entry& entry = entries_[static_cast<std::size_t>(fd)];
    if (entry.file != nullptr) continue;
    entry = {std::move(file), closes_on_exec};
    return fd;
  }
  return -1;
}

bool Descriptors::Set(int fd, std::shared_ptr<const OpenFile> file, bool closes_on_exec) {
  if (!IsNumber(fd)) return false;
  const std::lock_guard lock(mutex_);
  entries_[static_cast<std::size_t>(fd)] = {std::move(file), closes_on_exec};
  return true;
}

bool Descriptors::Close(int fd) {
  if (!IsNumber(fd)) return false;
  const std::lock_guard lock(mutex_);
  return std::exchange(entries_[static_cast<std::size_t>(fd)], Entry{}).file != nullptr;
}

void Descriptors::Replace(const OpenFile* file, const std::shared_ptr<const OpenFile>& with) {
  const std::lock_guard lock(mutex_);
  for (Entry& entry : entries_) {
    if (entry.file.get() == file) entry.file = with;
  }
}

std::shared_ptr<const OpenFile> Descriptors::Find(int fd) const {
  if (!IsNumber(fd)) return nullptr;
  const std::lock_guard lock(mutex_);
  return entries_[static_cast<std::size_t>(fd)].file;
}

bool Descriptors::ClosesOnExec(int fd) const {
  if (!IsNumber(fd)) return false;
  const std::lock_guard lock(mutex_);
  return entries_[static_cast<std::size_t>(fd)].closes_on_exec;
}

void Descriptors::SetClosesOnExec(int fd, bool closes) {
  if (!IsNumber(fd)) return;
  const std::lock_guard lock(mutex_);
  entries_[static_cast<std::size_t>(fd)].closes_on_exec = closes;
}

std::vector<DescriptorState> Descriptors::Save() const {
  const std::lock_guard lock(mutex_);
  std::vector<DescriptorState> saved;
  for (int fd = 0; fd < kMost; ++fd) {
    const Entry& entry = entries_[static_cast<std::size_t>(fd)];
    if (entry.file == nullptr) continue;
    DescriptorState state{.number = fd, .file = entry.file, .closes_on_exec = entry.closes_on_exec};
    if (entry.file->kind == OpenFile::Kind::kFile) {
      const off_t offset = lseek(entry.file->host.get(), 0, SEEK_CUR);
      state.offset = offset < 0 ? 0 : static_cast<std::uint64_t>(offset);
    }
    saved.push_back(std::move(state));
  }
  return saved;
}

absl::Status Descriptors::Restore(const std::vector<DescriptorState>& saved) {
  const std::lock_guard lock(mutex_);
  for (Entry& entry : entries_) {
    if (entry.file != nullptr) entry = {};
  }
  for (const DescriptorState& state : saved) {
    if (!IsNumber(state.number)) {
      return absl::FailedPreconditionError("more files were open than the policy allows (open_files)");
    }
    const auto own = reopened_.find(state.file);
    const std::shared_ptr<const OpenFile>& file = own != reopened_.end() ? own->second : state.file;
    entries_[static_cast<std::size_t>(state.number)] = {file, state.closes_on_exec};
    if (file->kind == OpenFile::Kind::kFile &&
        lseek(file->host.get(), static_cast<off_t>(state.offset), SEEK_SET) < 0) {
      return absl::FailedPreconditionError("a file that was open cannot be read from where it was");
    }
  }
  return absl::OkStatus();
}

absl::Status Descriptors::Reopen(const std::vector<DescriptorState>& saved) {
  {
    const std::lock_guard lock(mutex_);
    for (const DescriptorState& state : saved) {
      const OpenFile& file = *state.file;
      std::shared_ptr<const OpenFile>& own = reopened_[state.file];  // what dup has made is one file
      if (own != nullptr) continue;
      own = state.file;
      // From a file, which says only which one it was.
      if (file.kind == OpenFile::Kind::kOutput && !file.host.valid()) {
        own = entries_[file.name == kStderr ? 2 : 1].file;
      }
      if (file.kind != OpenFile::Kind::kFile) continue;
      const std::string path = hostcalls::DescriptorPath(file.host.get());
      auto opened = std::make_shared<OpenFile>(OpenFile{
          .kind = file.kind,
          .host = runtime::FileDescriptor(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY)),
          .name = file.name,
          .is_executable = file.is_executable});
      if (!opened->host.valid()) {
        return absl::FailedPreconditionError("a file that was open cannot be opened again");
      }
      own = std::move(opened);
    }
  }
  return Restore(saved);
}

}  // namespace dunebox::plugin
