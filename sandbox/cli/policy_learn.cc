#include "sandbox/cli/policy_learn.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "hostcalls/errors/message.h"
#include "hostcalls/trace/json.h"
#include "runtime/confinement/capabilities.h"
#include "runtime/file_descriptor.h"
#include "sandbox/cli/records.h"
#include "sandbox/policy/compile.h"
#include "sandbox/policy/compile_parts.h"
#include "sandbox/policy/denial_log.h"
#include "sandbox/policy/learn.h"

namespace dunebox::cli {
namespace {

using runtime::FileDescriptor;

constexpr const char* kOrigin = "policy learn";

int Fail(const absl::Status& status) {
  errors::Say(errors::Id::kCannotLearn, status);
  return runtime::kExitRuntimeError;
}

// Where denials are recorded, and what is there already. Appending: every process writes to it.
absl::StatusOr<FileDescriptor> OpenLog(const std::string& path) {
  if (path.empty()) return MemoryForRecords("denials");
  FileDescriptor log(open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, S_IRUSR | S_IWUSR));
  if (!log.valid()) {
    return errors::Named(errors::Id::kNoReportFile,
                         absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", path)));
  }
  return log;
}

absl::Status WriteProposal(const std::string& path, std::string_view text) {
  if (path.empty()) return WriteAll(STDOUT_FILENO, text, "the proposed policy");
  const FileDescriptor file(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
  if (!file.valid()) {
    return errors::Named(errors::Id::kNoReportFile,
                         absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", path)));
  }
  return WriteAll(file.get(), text, "the proposed policy");
}

bool IsDirectory(const std::string& path) {
  struct stat status {};
  return stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

// Nothing that is denied shows it.
absl::Status RecordCapabilities(const FileDescriptor& log) {
  const absl::StatusOr<confinement::Capabilities> permitted = confinement::PermittedCapabilities();
  if (!permitted.ok() || *permitted == 0) return permitted.status();
  const std::string line =
      hostcalls::JsonObject().Text("action", policy::kWatchedWith).Text("object", "capabilities").Take() + "\n";
  return WriteAll(log.get(), line, "the recorded denials");
}

absl::Status ProposeFrom(const FileDescriptor& log, const LearnCommand& command) {
  const absl::StatusOr<std::string> text = ReadAll(log.get(), "the recorded denials");
  if (!text.ok()) return text.status();
  const absl::StatusOr<std::vector<policy::LoggedDenial>> denials =
      policy::ReadDenials(*text, command.log.empty() ? "recorded denials" : command.log);
  if (!denials.ok()) return denials.status();
  const policy::Surroundings callers = policy::CallersSurroundings();
  const auto& stated = command.run.policy.directory;
  const policy::LearnSurroundings surroundings = {
      .home = policy::ValueOf(callers, "HOME"),
      .directory = stated ? policy::AbsolutePath(stated->value, callers) : callers.directory,
      .is_directory = IsDirectory};
  return WriteProposal(command.output, policy::FormatToml(policy::Propose(*denials, surroundings)));
}

}  // namespace

absl::StatusOr<runtime::SessionOptions> LearningSession(const RunCommand& command) {
  if (command.policy.allow_all) {
    return absl::InvalidArgumentError("--allow=all denies nothing that could be learnt from");
  }
  policy::Policy policy = policy::Effective(command.policy);
  const policy::Surroundings surroundings = policy::CallersSurroundings();
  // What is made in a directory for temporary files is to be seen, too: only then is it known
  // whether the caller's own are read there.
  std::erase_if(policy.files,
                [](const policy::FileRule& rule) { return rule.kind == policy::TreeKind::kTmpfs; });
  policy.required.clear();  // it runs with the caller's rights
  policy.audit = kOrigin;
  if (!policy.directory) policy.directory = {surroundings.directory, kOrigin};
  runtime::SessionOptions session = command.session;
  const absl::Status status = policy::Compile(policy, surroundings, session);
  if (!status.ok()) return status;
  return session;
}

int RunLearn(const LearnCommand& command) {
  const absl::StatusOr<FileDescriptor> log = OpenLog(command.log);
  if (!log.ok()) return Fail(log.status());
  int exit_status = 0;
  if (!command.run.session.program.empty()) {
    absl::StatusOr<runtime::SessionOptions> session = LearningSession(command.run);
    if (!session.ok()) return Fail(session.status());
    if (absl::Status status = RecordCapabilities(*log); !status.ok()) return Fail(status);
    session->denials_fd = log->get();
    exit_status = runtime::RunSession(*session);
  }
  const absl::Status status = ProposeFrom(*log, command);
  return status.ok() ? exit_status : Fail(status);
}

}  // namespace dunebox::cli
