#include "sandbox/oci/state.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <ctime>
#include <memory>
#include <nlohmann/json.hpp>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "hostcalls/errors/message.h"
#include "runtime/text_file.h"
#include "sandbox/oci/json_fields.h"
#include "sandbox/policy/json_document.h"
#include "sandbox/policy/quoted.h"

namespace dunebox::oci {
namespace {

absl::Status NoContainer(const std::string& id) {
  return errors::Named(errors::Id::kNoContainer,
                       absl::NotFoundError(fmt::format("container \"{}\" does not exist", id)));
}

using nlohmann::json;
using runtime::FileDescriptor;

constexpr std::string_view kNames[] = {"creating", "created", "running", "stopped"};
constexpr char kStateFile[] = "state.json", kConfigFile[] = "config.json", kLockFile[] = "lock",
               kSocket[] = "start.sock", kNewFile[] = "new";
constexpr mode_t kRootMode = 0711, kDirectoryMode = 0700, kFileMode = 0600;
constexpr std::size_t kLongestId = 255;  // [linux] NAME_MAX

Status StatusFrom(const std::string& name) {
  const auto* const found = std::ranges::find(kNames, name);
  return found == std::end(kNames) ? Status::kStopped : static_cast<Status>(found - kNames);
}

absl::Status MakeRoot(const std::string& root) {
  for (std::size_t slash = root.find('/', 1); slash != root.npos; slash = root.find('/', slash + 1)) {
    mkdir(root.substr(0, slash).c_str(), 0755);
  }
  if (mkdir(root.c_str(), kRootMode) == 0 || errno == EEXIST) return absl::OkStatus();
  return absl::ErrnoToStatus(errno, fmt::format("cannot make the directory {}", root));
}

// Words of /proc/PID/stat behind the name, which may have spaces in it.
std::vector<std::string> StatWords(pid_t pid) {
  const absl::StatusOr<std::string> stat = runtime::ReadTextFile(fmt::format("/proc/{}/stat", pid));
  if (!stat.ok()) return {};
  const std::size_t name_end = stat->rfind(')');
  if (name_end == std::string::npos || name_end + 2 > stat->size()) return {};
  return absl::StrSplit(stat->substr(name_end + 2), ' ');
}

}  // namespace

std::string_view NameOf(Status status) { return kNames[static_cast<std::size_t>(status)]; }

std::string Dump(const json& value) {
  return value.dump(-1, ' ', /*ensure_ascii=*/false, json::error_handler_t::replace);
}

std::string TimeNow() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z", parts.tm_year + 1900, parts.tm_mon + 1,
                     parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec);
}

std::optional<ProcessIdentity> ProcessIdentity::Of(pid_t pid) {
  constexpr std::size_t kStartTime = 19;  // [linux] proc(5): field 22; the first of these is field 3
  const std::vector<std::string> words = StatWords(pid);
  ProcessIdentity identity{.pid = pid};
  if (words.size() <= kStartTime || !absl::SimpleAtoi(words[kStartTime], &identity.start_time)) {
    return std::nullopt;
  }
  return identity;
}

bool ProcessIdentity::IsAlive() const {
  if (pid <= 0) return false;
  const std::optional<ProcessIdentity> now = Of(pid);
  if (!now || now->start_time != start_time) return false;
  const std::vector<std::string> words = StatWords(pid);
  return !words.empty() && words[0] != "Z" && words[0] != "X";
}

absl::Status ProcessIdentity::Signal(int signal) const {
  // It holds the id; so what is alive behind it is the one that gets the signal.
  const FileDescriptor process(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (!process.valid() || !IsAlive()) {
    return errors::Named(errors::Id::kNoContainer, absl::NotFoundError("the process has ended"));
  }
  if (syscall(SYS_pidfd_send_signal, process.get(), signal, nullptr, 0) == 0) return absl::OkStatus();
  return absl::ErrnoToStatus(errno, "cannot send a signal");
}

std::string StateJson(const State& state) {
  json value = {{"ociVersion", state.version},
                {"id", state.id},
                {"status", NameOf(state.status)},
                {"bundle", state.bundle},
                {"annotations", state.annotations}};
  // [OCI runtime.md] The process is that of a created or running container; hooks want it earlier.
  if (state.status != Status::kStopped) value["pid"] = state.process.pid;
  return Dump(value);
}

absl::Status CheckId(std::string_view id) {
  const bool is_word = std::ranges::all_of(id, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '+' || c == '-' || c == '.';
  });
  if (is_word && !id.empty() && id != "." && id != ".." && id.size() <= kLongestId) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(fmt::format(
      "{} cannot be a container's id: letters, digits and _+-. can", policy::Quoted(id)));
}

absl::StatusOr<ContainerDirectory> ContainerDirectory::Make(const std::string& root,
                                                            const std::string& id) {
  if (absl::Status status = CheckId(id); !status.ok()) return status;
  if (absl::Status status = MakeRoot(root); !status.ok()) return status;
  const std::string path = root + "/" + id;
  if (mkdir(path.c_str(), kDirectoryMode) != 0) {
    if (errno == EEXIST) {
      return errors::Named(errors::Id::kContainerExists, absl::AlreadyExistsError(fmt::format(
                                                             "container \"{}\" exists already", id)));
    }
    return absl::ErrnoToStatus(errno, fmt::format("cannot make the directory {}", path));
  }
  return Open(root, id);
}

absl::StatusOr<ContainerDirectory> ContainerDirectory::Open(const std::string& root,
                                                            const std::string& id) {
  if (absl::Status status = CheckId(id); !status.ok()) return status;
  std::string path = root + "/" + id;
  FileDescriptor fd(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd.valid() && errno == ENOENT) {
    return NoContainer(id);
  }
  if (!fd.valid()) return absl::ErrnoToStatus(errno, fmt::format("cannot open {}", path));
  return ContainerDirectory(std::move(path), id, std::move(fd));
}

std::vector<State> ContainerDirectory::List(const std::string& root) {
  std::vector<State> all;
  const std::unique_ptr<DIR, int (*)(DIR*)> listing(opendir(root.c_str()), closedir);
  if (listing == nullptr) return all;
  while (const dirent* entry = readdir(listing.get())) {
    const absl::StatusOr<ContainerDirectory> directory = Open(root, entry->d_name);
    if (!directory.ok()) continue;
    if (absl::StatusOr<State> state = directory->Load(); state.ok()) all.push_back(*std::move(state));
  }
  std::ranges::sort(all, {}, &State::id);
  return all;
}

absl::StatusOr<FileDescriptor> ContainerDirectory::Lock() const {
  FileDescriptor lock(openat(fd_.get(), kLockFile, O_RDWR | O_CREAT | O_CLOEXEC, kFileMode));
  struct stat info;
  if (lock.valid() && flock(lock.get(), LOCK_EX) == 0 && fstat(lock.get(), &info) == 0) {
    // Who held it before may have removed the container, and another one may have the id since.
    if (info.st_nlink == 0) return NoContainer(id_);
    return lock;
  }
  if (errno == ENOENT) return NoContainer(id_);
  return absl::ErrnoToStatus(errno, fmt::format("cannot lock {}", path_));
}

// Whole or not at all, whoever reads it meanwhile.
absl::Status ContainerDirectory::WriteFile(const char* name, const std::string& text) const {
  const FileDescriptor file(
      openat(fd_.get(), kNewFile, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, kFileMode));
  const auto size = static_cast<ssize_t>(text.size());
  if (file.valid() && write(file.get(), text.data(), text.size()) == size &&
      renameat(fd_.get(), kNewFile, fd_.get(), name) == 0) {
    return absl::OkStatus();
  }
  return absl::ErrnoToStatus(errno, fmt::format("cannot write {}/{}", path_, name));
}

absl::Status ContainerDirectory::Save(const State& state) const {
  const json value = {{"ociVersion", state.version},
                      {"id", state.id},
                      {"status", NameOf(state.status)},
                      {"pid", state.process.pid},
                      {"startTime", state.process.start_time},
                      {"bundle", state.bundle},
                      {"created", state.created},
                      {"annotations", state.annotations},
                      {"cgroups", state.cgroups},
                      {"ownProcesses", state.has_own_processes}};
  return WriteFile(kStateFile, Dump(value));
}

// Of this container, whatever else has its name meanwhile.
std::string ContainerDirectory::PathOf(const char* name) const {
  return fmt::format("/proc/self/fd/{}/{}", fd_.get(), name);
}

absl::StatusOr<std::string> ContainerDirectory::ReadFile(const char* name) const {
  absl::StatusOr<std::string> text = runtime::ReadTextFile(PathOf(name));
  if (text.ok()) return text;
  return absl::Status(text.status().code(), fmt::format("cannot read {}/{}", path_, name));
}

absl::StatusOr<State> ContainerDirectory::Load() const {
  const std::string path = path_ + "/" + kStateFile;
  const absl::StatusOr<std::string> text = ReadFile(kStateFile);
  if (!text.ok()) return text.status();
  const absl::StatusOr<json> value = policy::ParseJson(*text, path);
  if (!value.ok()) return value.status();
  Document document(path);
  State state;
  std::string status;
  Fields fields(document, *value, "");
  fields.Need("ociVersion", state.version);
  fields.Need("id", state.id);
  fields.Need("status", status);
  fields.Need("pid", state.process.pid);
  fields.Need("startTime", state.process.start_time);
  fields.Need("bundle", state.bundle);
  fields.Need("created", state.created);
  fields.Need("annotations", state.annotations);
  fields.Need("cgroups", state.cgroups);
  fields.Need("ownProcesses", state.has_own_processes);
  if (!document.status().ok()) return document.status();
  state.status = StatusFrom(status);
  const bool has_begun = state.status != Status::kCreating || state.process.pid != 0;
  if (has_begun && !state.process.IsAlive()) state.status = Status::kStopped;
  return state;
}

absl::Status ContainerDirectory::SaveConfig(const std::string& text) const {
  return WriteFile(kConfigFile, text);
}

absl::StatusOr<std::string> ContainerDirectory::LoadConfig() const {
  return ReadFile(kConfigFile);
}

std::string ContainerDirectory::SocketPath() const { return PathOf(kSocket); }

bool ContainerDirectory::IsThere() const {
  struct stat ours, named;
  return stat(path_.c_str(), &named) == 0 && fstat(fd_.get(), &ours) == 0 &&
         ours.st_ino == named.st_ino && ours.st_dev == named.st_dev;
}

absl::Status ContainerDirectory::Remove() const {
  constexpr int kTries = 100;  // who wants the lock just now makes its file again
  for (int i = 0; i < kTries; ++i) {
    for (const char* const name : {kSocket, kConfigFile, kNewFile, kStateFile, kLockFile}) {
      unlinkat(fd_.get(), name, 0);
    }
    if (!IsThere() || rmdir(path_.c_str()) == 0) return absl::OkStatus();
    if (errno != ENOTEMPTY) break;
  }
  return absl::ErrnoToStatus(errno, fmt::format("cannot remove {}", path_));
}

}  // namespace dunebox::oci
