#include "sandbox/cli/prepare.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "hostcalls/errors/message.h"
#include "jit-fallback/cache/block_store.h"
#include "jit-fallback/cache/guest_code.h"
#include "jit-fallback/cache/prepared_blocks.h"
#include "jit-fallback/emit/emitter.h"
#include "jit-fallback/translate/block.h"
#include "runtime/file_descriptor.h"
#include "runtime/jit/isolation_choice.h"
#include "runtime/jit/jit_engine.h"
#include "runtime/jit/prepared_file.h"
#include "sandbox/cli/records.h"

namespace dunebox::cli {
namespace {

using runtime::FileDescriptor;

// Of all programs: a hundred MiB for each isolation.
constexpr std::uint32_t kMostBlocks = 1 << 18;
// What files are made from, in the directory.
constexpr const char* kCodeName = "guest.code";
// Where blocks are translated. What they mean depends on it nowhere, but they reach no further than 2 GiB.
constexpr std::uint64_t kPlace = 0x4000'0000;

int Fail(const absl::Status& status) {
  errors::Say(errors::Id::kNotPrepared, status);
  return runtime::kExitRuntimeError;
}

absl::Status Errno(const std::string& what) { return absl::ErrnoToStatus(errno, what); }

// The directory, which nobody else may write to, locked: others wait until this one is done.
absl::StatusOr<FileDescriptor> OpenPlace(const std::string& path) {
  constexpr mode_t kMode = 0755;
  const bool is_new = mkdir(path.c_str(), kMode) == 0;
  if (!is_new && errno != EEXIST) return Errno(absl::StrCat("cannot make ", path));
  FileDescriptor place(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!place.valid()) return Errno(absl::StrCat("cannot open ", path));
  const bool is_for_all = path == runtime::kPreparedDirectory;
  if (is_new && is_for_all && fchmod(place.get(), kMode) != 0) return Errno(absl::StrCat("cannot open up ", path));
  const absl::Status owner = runtime::CheckOwner(place.get(), /*or_callers=*/!is_for_all);
  if (!owner.ok()) return errors::Behind(path, owner);
  if (faccessat(place.get(), ".", W_OK, AT_EACCESS) != 0) return Errno(absl::StrCat("cannot write in ", path));
  return place;
}

bool IsThere(const FileDescriptor& place, const std::string& name) {
  return faccessat(place.get(), name.c_str(), F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

absl::StatusOr<std::string> ReadFile(const FileDescriptor& place, const std::string& name) {
  if (!IsThere(place, name)) return std::string();
  const FileDescriptor file(openat(place.get(), name.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!file.valid()) return Errno(absl::StrCat("cannot open ", name));
  return ReadAll(file.get(), name);
}

// Who can read the directory can read what is in it, whatever the caller's umask is.
mode_t ModeIn(const FileDescriptor& place) {
  struct stat status {};
  fstat(place.get(), &status);
  return (status.st_mode & (S_IRUSR | S_IRGRP | S_IROTH)) | S_IWUSR;
}

// In one piece: who has the old one open keeps it.
absl::Status ReplaceFile(const FileDescriptor& place, const std::string& name, std::string_view bytes) {
  const std::string part = absl::StrCat(name, ".part");
  unlinkat(place.get(), part.c_str(), 0);
  const FileDescriptor file(
      openat(place.get(), part.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!file.valid()) return Errno(absl::StrCat("cannot make ", part));
  absl::Status status = WriteAll(file.get(), bytes, part);
  if (status.ok() && fchmod(file.get(), ModeIn(place)) != 0) status = Errno(absl::StrCat("cannot open up ", part));
  if (status.ok() && renameat(place.get(), part.c_str(), place.get(), name.c_str()) != 0) {
    status = Errno(absl::StrCat("cannot rename ", part, " to ", name));
  }
  if (!status.ok()) unlinkat(place.get(), part.c_str(), 0);
  return status;
}

// Records that were not there, in their order, until there are enough.
class Collection {
 public:
  absl::Status Add(std::string_view records) {
    return jit::ForEachGuestCode(records, [&](jit::EntryKind kind, std::span<const std::uint8_t> bytes) {
      if (seen_.size() >= kMostBlocks) return;
      std::string record;
      jit::AppendGuestCode(kind, bytes, record);
      if (seen_.insert(record).second) all_ += record;
    });
  }
  const std::string& all() const { return all_; }

 private:
  absl::flat_hash_set<std::string> seen_;
  std::string all_;
};

absl::StatusOr<std::string> TranslateAll(std::string_view records, jit::Isolation isolation) {
  const jit::EmitterOptions options = runtime::JitEngine::EmitterFor(isolation);
  jit::BlockStore store(kMostBlocks);
  jit::Emitter emitter(options);
  jit::Block block;
  const absl::Status status =
      jit::ForEachGuestCode(records, [&](jit::EntryKind kind, std::span<const std::uint8_t> bytes) {
        jit::Translate(kPlace, bytes, jit::Limits{}, block);
        if (block.steps.empty()) return;
        emitter.Emit(block, kind, kPlace);
        store.Add(block, kind, emitter, jit::MayUseX87(block));
      });
  if (!status.ok()) return status;
  return jit::PreparedFile(store, options);
}

// This run's, and those that there are.
std::vector<jit::Isolation> IsolationsFor(const FileDescriptor& place, jit::Isolation own) {
  std::vector<jit::Isolation> isolations = {own};
  for (const jit::IsolationName& row : jit::kIsolationNames) {
    if (row.isolation != own && IsThere(place, runtime::PreparedName(row.isolation))) {
      isolations.push_back(row.isolation);
    }
  }
  return isolations;
}

absl::Status Keep(const FileDescriptor& place, std::string_view records, jit::Isolation own) {
  if (flock(place.get(), LOCK_EX) != 0) return Errno("cannot lock the directory");
  const absl::StatusOr<std::string> known = ReadFile(place, kCodeName);
  if (!known.ok()) return known.status();
  Collection code;
  absl::Status status = code.Add(*known);
  if (!status.ok()) return errors::Behind(kCodeName, status);
  // A process that was killed while it wrote: what is in front of that is good.
  (void)code.Add(records);
  status = ReplaceFile(place, kCodeName, code.all());
  for (const jit::Isolation isolation : IsolationsFor(place, own)) {
    if (!status.ok()) return status;
    const absl::StatusOr<std::string> file = TranslateAll(code.all(), isolation);
    if (!file.ok()) return file.status();
    status = ReplaceFile(place, runtime::PreparedName(isolation), *file);
  }
  return status;
}

}  // namespace

int RunPrepare(runtime::SessionOptions session) {
  if (session.dry_run || session.engine == runtime::EngineChoice::kKvm) {
    return Fail(errors::Named(
        errors::Id::kOptionsDoNotFit,
        absl::InvalidArgumentError("prepare runs a program under engine jit: neither --dry-run nor --engine=kvm")));
  }
  session.engine = runtime::EngineChoice::kJit;
  const std::string directory = session.prepared.value_or(runtime::kPreparedDirectory);
  if (directory == runtime::kNothingPrepared) {
    return Fail(errors::Named(errors::Id::kOptionsDoNotFit,
                              absl::InvalidArgumentError("--jit-prepared=none: nothing can be kept there")));
  }
  if (const absl::Status status = runtime::JitEngine::CheckHost(); !status.ok()) {
    return Fail(errors::Named(errors::Id::kJitLacks, status));
  }
  const absl::StatusOr<jit::Isolation> isolation = runtime::ChooseIsolation(session.isolation);
  if (!isolation.ok()) return Fail(errors::Named(errors::Id::kNoIsolation, isolation.status()));
  const absl::StatusOr<FileDescriptor> place = OpenPlace(directory);
  if (!place.ok()) return Fail(place.status());
  std::string records;
  int exit_status = 0;
  if (!session.program.empty()) {
    const absl::StatusOr<FileDescriptor> file = MemoryForRecords("code");
    if (!file.ok()) return Fail(file.status());
    session.code_fd = file->get();
    session.prepared = runtime::kNothingPrepared;  // what is there was told of before
    exit_status = runtime::RunSession(session);
    absl::StatusOr<std::string> written = ReadAll(file->get(), "the code of the run");
    if (!written.ok()) return Fail(written.status());
    records = *std::move(written);
    if (records.empty()) return exit_status;  // nothing has run, which has been said
  }
  const absl::Status kept = Keep(*place, records, *isolation);
  return kept.ok() ? exit_status : Fail(kept);
}

}  // namespace dunebox::cli
