#include "runtime/jit/prepared_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "hostcalls/errors/message.h"
#include "runtime/jit/jit_engine.h"

namespace dunebox::runtime {
namespace {

bool IsForCallers(const std::string& directory) { return directory != kPreparedDirectory; }

std::string PathOf(const std::string& directory, jit::Isolation isolation) {
  return absl::StrCat(directory, "/", PreparedName(isolation));
}

absl::StatusOr<FileDescriptor> OpenPlace(const std::string& directory) {
  FileDescriptor place(open(directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!place.valid()) return errors::Behind(directory, absl::ErrnoToStatus(errno, "cannot open it"));
  if (absl::Status status = CheckOwner(place.get(), IsForCallers(directory)); !status.ok()) {
    return errors::Behind(directory, status);
  }
  return place;
}

absl::StatusOr<FileDescriptor> OpenIn(const absl::StatusOr<FileDescriptor>& place,
                                      const std::string& directory, jit::Isolation isolation) {
  if (!place.ok()) return place.status();
  const std::string path = PathOf(directory, isolation);
  // A FIFO would be waited for.
  FileDescriptor file(openat(place->get(), PreparedName(isolation).c_str(),
                             O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!file.valid()) return errors::Behind(path, absl::ErrnoToStatus(errno, "cannot open it"));
  struct stat status {};
  if (fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode)) {
    return errors::Behind(path, absl::FailedPreconditionError("it is not a file"));
  }
  if (absl::Status owner = CheckOwner(file.get(), IsForCallers(directory)); !owner.ok()) {
    return errors::Behind(path, owner);
  }
  return file;
}

absl::StatusOr<std::unique_ptr<jit::PreparedBlocks>> Map(
    const std::string& directory, const absl::StatusOr<FileDescriptor>& file, jit::Isolation isolation) {
  if (!file.ok()) return file.status();
  if (absl::Status status = JitEngine::CheckHost(); !status.ok()) return status;  // who reads it needs the same
  absl::StatusOr<std::unique_ptr<jit::PreparedBlocks>> blocks =
      jit::PreparedBlocks::Open(file->get(), JitEngine::EmitterFor(isolation));
  if (blocks.ok()) return blocks;
  return errors::Behind(PathOf(directory, isolation), blocks.status());
}

}  // namespace

std::string PreparedName(jit::Isolation isolation) {
  return absl::StrCat(std::string(jit::NameOf(isolation)), ".blocks");
}

absl::Status CheckOwner(int fd, bool or_callers) {
  struct stat status {};
  if (fstat(fd, &status) != 0) return absl::ErrnoToStatus(errno, "cannot look at it");
  if (status.st_uid != 0 && !(or_callers && status.st_uid == geteuid())) {
    return absl::PermissionDeniedError("it belongs to somebody else");
  }
  if ((status.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    return absl::PermissionDeniedError("others than its owner can write to it");
  }
  return absl::OkStatus();
}

PreparedFiles::PreparedFiles(const std::string& directory) : directory_(directory) {
  if (directory == kNothingPrepared) return;
  const absl::StatusOr<FileDescriptor> place = OpenPlace(directory);
  for (const jit::IsolationName& row : jit::kIsolationNames) {
    files_.emplace(row.isolation, OpenIn(place, directory, row.isolation));
  }
}

const absl::StatusOr<FileDescriptor>& PreparedFiles::For(jit::Isolation isolation) const {
  static const absl::StatusOr<FileDescriptor>& none =
      *new absl::StatusOr<FileDescriptor>(absl::NotFoundError("nothing is prepared"));
  const auto file = files_.find(isolation);
  return file == files_.end() ? none : file->second;
}

absl::Status PreparedFiles::CheckFits(jit::Isolation isolation) const {
  return Map(directory_, For(isolation), isolation).status();
}

absl::StatusOr<std::shared_ptr<const jit::PreparedBlocks>> MapPrepared(
    const std::string& directory, jit::Isolation isolation) {
  absl::StatusOr<std::unique_ptr<jit::PreparedBlocks>> blocks =
      Map(directory, OpenIn(OpenPlace(directory), directory, isolation), isolation);
  if (!blocks.ok()) return blocks.status();
  return std::shared_ptr<const jit::PreparedBlocks>(*std::move(blocks));
}

}  // namespace dunebox::runtime
