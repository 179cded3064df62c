#include "sandbox/worker/brokered_files.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <chrono>
#include <optional>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "sandbox/plugin/host_files.h"
#include "sandbox/plugin/instance.h"
#include "sandbox/plugin/original_process.h"
#include "sandbox/worker/channel.h"
#include "sandbox/worker/descriptors.h"
#include "sandbox/worker/protocol.h"
#include "sandbox/worker/wire.h"

namespace dunebox::worker {

using hostcalls::CopyResult;
using hostcalls::Errno;
using plugin::LastLink;
using plugin::OpenFile;
using runtime::FileDescriptor;
namespace rights = hostcalls::policy;

namespace {

constexpr std::uint64_t kMostWait = 30'000'000'000;  // nanoseconds, for an answer
constexpr auto kTurn = std::chrono::milliseconds(20);  // after which who waits for others looks whether it may
constexpr int kMostErrno = 4095;  // [linux] MAX_ERRNO

std::optional<std::string> Receive(int socket, std::uint64_t limit, std::vector<FileDescriptor>& files) {
  if (!WaitForBytes(socket, limit, plugin::Instance::MustCallerStop)) return std::nullopt;
  std::string bytes(kMostBrokerMessage, '\0');
  const ssize_t size = ReceiveBytes(socket, std::as_writable_bytes(std::span(bytes)), files);
  if (size <= 0) return std::nullopt;
  bytes.resize(static_cast<std::size_t>(size));
  return bytes;
}

}  // namespace

absl::StatusOr<std::unique_ptr<plugin::Files>> BrokeredFiles::Create(const Policy& policy) {
  plugin::NoteOriginalProcess();
  if (absl::Status status = plugin::CheckOriginalProcess(); !status.ok()) return status;
  std::unique_ptr<BrokeredFiles> files(new BrokeredFiles(policy));
  if (absl::Status status = files->Start(policy); !status.ok()) return status;
  return files;
}

BrokeredFiles::BrokeredFiles(const Policy& policy) : rules_(plugin::FileRulesOf(policy)) {}

absl::Status BrokeredFiles::Start(const Policy& policy) {
  absl::Status gone =
      absl::UnavailableError("the broker of a sandbox's files does not start");
  const std::string order = Serialize(StartOrder{.policy = policy});
  if (order.size() > kMostBrokerMessage) {
    return absl::ResourceExhaustedError("a policy with more text than a broker takes");
  }
  absl::StatusOr<std::shared_ptr<ForkServer>> server = ForkServer::Get();
  if (!server.ok()) return server.status();
  server_ = *std::move(server);
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return gone;
  socket_ = FileDescriptor(ends[0]);
  const FileDescriptor theirs(ends[1]);
  const int fd = theirs.get();
  const absl::StatusOr<ForkServer::Child> child = server_->Start(Role::kBroker, std::span(&fd, 1));
  if (!child.ok()) return child.status();
  pid_ = child->pid;
  std::vector<FileDescriptor> none;
  if (!SendBytes(socket_.get(), std::as_bytes(std::span(order)), {})) return gone;
  const std::optional<std::string> answer = Receive(socket_.get(), Now() + kMostWait, none);
  if (!answer) return gone;
  Reader reader(*answer);
  const std::optional<absl::Status> status = GetStatus(reader);
  if (!status) return gone;
  if (!status->ok()) return *status;
  for (const std::string& name : GetTexts(reader)) {
    confinement_.push_back(absl::StrCat("files: ", name));
  }
  return absl::OkStatus();
}

BrokeredFiles::~BrokeredFiles() {
  if (pid_ != 0 && plugin::IsOriginalProcess()) (void)server_->End(pid_);
}

// An answer that nobody has waited for would be the next question's.
std::optional<std::string> BrokeredFiles::Converse(const std::string& question, int fd,
                                                   std::vector<FileDescriptor>& files) const {
  const std::uint64_t limit = Now() + kMostWait;
  std::unique_lock turn(conversation_, std::defer_lock);
  while (!turn.try_lock_for(kTurn)) {
    if (plugin::Instance::MustCallerStop() || Now() >= limit) return std::nullopt;
  }
  const auto receive = [&](std::vector<FileDescriptor>& came) {
    std::optional<std::string> answer = Receive(socket_.get(), limit, came);
    if (answer) is_owed_ = false;
    return answer;
  };
  std::optional<std::string> answer;
  std::vector<FileDescriptor> not_wanted;
  if (!is_owed_ || receive(not_wanted)) {
    is_owed_ = SendBytes(socket_.get(), std::as_bytes(std::span(question)), std::span(&fd, fd >= 0 ? 1 : 0));
    if (is_owed_) answer = receive(files);
  }
  // It has closed its end, or says nothing.
  if (!answer && !plugin::Instance::MustCallerStop()) shutdown(socket_.get(), SHUT_RDWR);
  return answer;
}

CopyResult<BrokeredFiles::Reply> BrokeredFiles::Ask(FileRequest request, const std::string& path,
                                                    LastLink last, int mode, int fd) const {
  Writer writer;
  writer.Put(request);
  writer.Put(static_cast<std::uint32_t>(last == LastLink::kFollowed));
  writer.Put(std::int32_t{mode});
  writer.PutText(path);
  Reply reply;
  const std::optional<std::string> answer = Converse(writer.bytes(), fd, reply.files);
  if (!answer) return Errno{EIO};
  Reader reader(*answer);
  const auto error = reader.Get<std::int32_t>();
  reply.status = reader.Get<struct stat>();
  reply.text = reader.GetText();
  if (!reader.is_complete() || error < 0 || error > kMostErrno) return Errno{EIO};
  if (error != 0) return Errno{error};
  return reply;
}

void BrokeredFiles::Allow(const std::string& path) {
  std::optional<plugin::NamedFile> opened = plugin::OpenForHost(path);
  if (opened) Grant(opened->name, std::move(opened->file));
}

void BrokeredFiles::Grant(const std::string& name, FileDescriptor file) {
  {
    const std::lock_guard lock(mutex_);
    plugin::AddRule(rules_, name, rights::kReadOnly);
  }
  (void)Ask(FileRequest::kGrant, name, LastLink::kKept, 0, file.get());
}

rights::Rules BrokeredFiles::rules() const {
  const std::lock_guard lock(mutex_);
  return rules_;
}

void BrokeredFiles::SetRules(rights::Rules rules) {
  const rights::Rules before = this->rules();
  for (const rights::PathRule& rule : rules.paths) {
    if (std::ranges::find(before.paths, rule.path, &rights::PathRule::path) == before.paths.end()) {
      Allow(rule.path);
    }
  }
  const std::lock_guard lock(mutex_);
  rules_ = std::move(rules);
}

CopyResult<OpenFile> BrokeredFiles::Open(const std::string& path, LastLink last) const {
  CopyResult<Reply> reply = Ask(FileRequest::kOpen, path, last);
  if (!reply.ok()) return reply.error();
  if (reply->files.size() != 1) return Errno{EIO};
  FileDescriptor& file = reply->files.front();
  struct stat status;
  const int flags = fcntl(file.get(), F_GETFL);
  const bool is_to_be_read = flags >= 0 && (flags & O_ACCMODE) == O_RDONLY && (flags & O_PATH) == 0;
  const bool is_file =
      fstat(file.get(), &status) == 0 && (S_ISREG(status.st_mode) || S_ISDIR(status.st_mode));
  const CopyResult<std::string> name = plugin::NameOf(file.get());
  if (!is_to_be_read || !is_file || !name.ok()) return Errno{EIO};
  rights::FileRights allowed;
  {
    const std::lock_guard lock(mutex_);
    allowed = rules_.RightsOn(*name).rights;
  }
  if ((allowed & rights::kReadFile) == 0 || plugin::IsOfProcesses(file.get())) return Errno{EACCES};
  return OpenFile{.kind = OpenFile::Kind::kFile,
                  .host = std::move(file),
                  .name = *name,
                  .is_executable = (allowed & rights::kExecuteFile) != 0};
}

CopyResult<struct stat> BrokeredFiles::Status(const std::string& path, LastLink last) const {
  const CopyResult<Reply> reply = Ask(FileRequest::kStatus, path, last);
  if (!reply.ok()) return reply.error();
  return (*reply).status;
}

int BrokeredFiles::Access(const std::string& path, int mode, LastLink last) const {
  const CopyResult<Reply> reply = Ask(FileRequest::kAccess, path, last, mode);
  return reply.ok() ? 0 : reply.error().value;
}

CopyResult<std::string> BrokeredFiles::ReadLink(const std::string& path) const {
  CopyResult<Reply> reply = Ask(FileRequest::kReadLink, path, LastLink::kKept);
  if (!reply.ok()) return reply.error();
  return std::move(reply->text);
}

}  // namespace dunebox::worker
