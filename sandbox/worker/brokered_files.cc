#include "sandbox/worker/brokered_files.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "hostcalls/errors/message.h"
#include "sandbox/plugin/host_files.h"
#include "sandbox/plugin/instance.h"
#include "sandbox/plugin/original_process.h"
#include "sandbox/worker/wire.h"

namespace dunebox::worker {

using hostcalls::CopyResult;
using hostcalls::Errno;
using plugin::LastLink;
using plugin::OpenFile;
using runtime::FileDescriptor;
namespace rights = hostcalls::policy;

namespace {

constexpr int kMostErrno = 4095;  // [linux] MAX_ERRNO
constexpr int kMostAttempts = 2;  // where a broker turns out to be gone, another is asked

absl::Status NoBroker(const absl::Status& why) {
  return errors::Behind("no broker for the files of the plugin, without which it can be by FileAccess::kDirect", why);
}

std::string MessageOf(std::uint64_t session, FileRequest request, const std::string& path,
                      LastLink last = LastLink::kKept, int mode = 0) {
  Writer writer;
  writer.Put(session);
  writer.Put(request);
  writer.Put(static_cast<std::uint32_t>(last == LastLink::kFollowed));
  writer.Put(std::int32_t{mode});
  writer.PutText(path);
  return writer.bytes();
}

}  // namespace

BrokeredFiles::BrokeredFiles(const Policy& policy)
    : policy_{.readable = policy.readable, .libraries = policy.libraries}, rules_(plugin::FileRulesOf(policy)) {}

BrokeredFiles::~BrokeredFiles() {
  if (line_.broker == nullptr || !plugin::IsOriginalProcess()) return;
  line_.broker->Tell(MessageOf(line_.session, FileRequest::kEnd, ""));
}

absl::Status BrokeredFiles::Begin() const { return Connect().status(); }

absl::Status BrokeredFiles::Prepare() const { return Confinement().status(); }

absl::StatusOr<std::vector<std::string>> BrokeredFiles::Confinement() const {
  absl::StatusOr<std::vector<std::string>> names = absl::UnavailableError("");
  for (int attempt = 0; attempt < kMostAttempts && !names.ok(); ++attempt) {
    const absl::StatusOr<Line> line = Connect();
    if (!line.ok()) return line.status();
    names = line->broker->Confinement();
  }
  return names.ok() ? names : NoBroker(names.status());
}

std::vector<std::string> BrokeredFiles::confinement() const {
  std::vector<std::string> names = Confinement().value_or(std::vector<std::string>());
  for (std::string& name : names) name.insert(0, "files: ");
  return names;
}

bool BrokeredFiles::IsConnected() const {
  return line_.broker != nullptr && !line_.broker->is_gone() && sent_ == named_;
}

absl::StatusOr<BrokeredFiles::Line> BrokeredFiles::Connect() const {
  // A forked child's conversation would be its parent's.
  if (absl::Status status = plugin::CheckOriginalProcess(); !status.ok()) return status;
  {
    const std::lock_guard lock(mutex_);
    if (IsConnected()) return line_;
  }
  const Turns::Turn turn(changes_, plugin::Instance::MustCallerStop);
  if (!turn.is_mine()) return absl::DeadlineExceededError("the plugin's files are being asked for");
  const auto has_too_much = [&] { return !std::ranges::includes(named_, sent_); };
  std::unique_lock lock(mutex_);
  if (line_.broker != nullptr && (line_.broker->is_gone() || has_too_much())) {
    line_.broker->Tell(MessageOf(line_.session, FileRequest::kEnd, ""));
    line_ = {};
    sent_.clear();
  }
  if (line_.broker == nullptr) {
    lock.unlock();
    absl::StatusOr<std::shared_ptr<SharedBroker>> broker = SharedBroker::Get(policy_);
    if (!broker.ok()) return NoBroker(broker.status());
    lock.lock();
    line_ = {.broker = *broker, .session = (*broker)->NewSession()};
  }
  const std::set<std::string> named = named_;
  lock.unlock();
  for (const std::string& name : named) {
    if (sent_.contains(name)) continue;
    const std::optional<plugin::NamedFile> opened = plugin::OpenForHost(name);
    Send(name, opened ? opened->file.get() : -1);
  }
  lock.lock();
  return line_;
}

// With the turn, which alone changes the session.
void BrokeredFiles::Send(const std::string& name, int file) const {
  if (file >= 0) line_.broker->Give(MessageOf(line_.session, FileRequest::kGrant, name), file);
  const std::lock_guard lock(mutex_);
  sent_.insert(name);
}

CopyResult<BrokeredFiles::Reply> BrokeredFiles::Ask(FileRequest request, const std::string& path,
                                                    LastLink last, int mode) const {
  for (int attempt = 0; attempt < kMostAttempts; ++attempt) {
    const absl::StatusOr<Line> line = Connect();
    if (!line.ok()) return Errno{EIO};
    SharedBroker::Answer answer = line->broker->Ask(MessageOf(line->session, request, path, last, mode), -1);
    if (answer.outcome == SharedBroker::Answer::Outcome::kIsGone) continue;
    if (answer.outcome == SharedBroker::Answer::Outcome::kNone) break;
    Reader reader(answer.bytes);
    Reply reply;
    const auto error = reader.Get<std::int32_t>();
    reply.status = reader.Get<struct stat>();
    reply.text = reader.GetText();
    if (!reader.is_complete() || error < 0 || error > kMostErrno) return Errno{EIO};
    if (error != 0) return Errno{error};
    reply.files = std::move(answer.files);
    return reply;
  }
  return Errno{EIO};
}

CopyResult<OpenFile> BrokeredFiles::Allow(const std::string& path) {
  std::optional<plugin::NamedFile> opened = plugin::OpenForHost(path);
  if (!opened || plugin::IsOfProcesses(opened->file.get())) return Errno{EACCES};
  OpenFile file{.kind = OpenFile::Kind::kFile,
                .host = FileDescriptor(fcntl(opened->file.get(), F_DUPFD_CLOEXEC, 0)),
                .name = opened->name,
                .is_executable = true};
  if (!file.host.valid()) return Errno{errno};
  Grant(opened->name, std::move(opened->file));
  return file;
}

void BrokeredFiles::Grant(const std::string& name, FileDescriptor file) {
  (void)Connect();
  const Turns::Turn turn(changes_, plugin::Instance::MustCallerStop);
  std::unique_lock lock(mutex_);
  plugin::AddRule(rules_, name, rights::kReadOnly);
  named_.insert(name);
  // Else by its name, when it is asked for.
  if (!turn.is_mine() || line_.broker == nullptr || sent_.contains(name)) return;
  lock.unlock();
  Send(name, file.get());
}

rights::Rules BrokeredFiles::rules() const {
  const std::lock_guard lock(mutex_);
  return rules_;
}

void BrokeredFiles::SetRules(rights::Rules rules) {
  std::set<std::string> named;
  for (const rights::PathRule& rule : rules.paths) {
    const auto has_it = [&](const std::vector<std::string>& paths) { return std::ranges::count(paths, rule.path) != 0; };
    if (!has_it(policy_.readable) && !has_it(policy_.libraries)) named.insert(rule.path);
  }
  const std::lock_guard lock(mutex_);
  rules_ = std::move(rules);
  named_ = std::move(named);
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
