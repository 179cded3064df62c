#include "sandbox/worker/broker.h"

#include <signal.h>
#include <sys/prctl.h>

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "sandbox/plugin/host_files.h"
#include "sandbox/worker/confine.h"
#include "sandbox/worker/descriptors.h"
#include "sandbox/worker/protocol.h"
#include "sandbox/worker/wire.h"

namespace dunebox::worker {
namespace {

using plugin::HostFiles;
using plugin::LastLink;
using runtime::FileDescriptor;

struct Asked {
  std::string bytes;
  std::vector<FileDescriptor> descriptors;
};

std::optional<Asked> Receive() {
  static std::array<char, kMostBrokerMessage> room;
  Asked asked;
  const ssize_t size = ReceiveBytes(kBrokerFd, std::as_writable_bytes(std::span(room)), asked.descriptors);
  if (size <= 0) return std::nullopt;
  asked.bytes.assign(room.data(), static_cast<std::size_t>(size));
  return asked;
}

bool Send(const Writer& writer, const FileDescriptor& file) {
  const int fd = file.get();
  return SendBytes(kBrokerFd, std::as_bytes(std::span(writer.bytes())),
                   std::span(&fd, file.valid() ? 1 : 0));
}

struct Answer {
  int error = 0;
  struct stat status {};
  std::string text;
  FileDescriptor file;
};

template <typename T>
int ErrorOf(const hostcalls::CopyResult<T>& result) {
  return result.ok() ? 0 : result.error().value;
}

using Sessions = std::map<std::uint64_t, HostFiles>;

// Nothing: there is nothing to answer.
std::optional<Answer> Do(Sessions& sessions, const Policy& policy, Asked& asked) {
  Reader reader(asked.bytes);
  const auto session = reader.Get<std::uint64_t>();
  const auto request = reader.Get<FileRequest>();
  if (request == FileRequest::kEnd) {
    sessions.erase(session);
    return std::nullopt;
  }
  HostFiles& files = sessions.try_emplace(session, policy).first->second;
  const auto last = static_cast<LastLink>(reader.Get<std::uint32_t>() != 0);
  const auto mode = reader.Get<std::int32_t>();
  const std::string path = reader.GetText();
  Answer answer;
  switch (request) {
    case FileRequest::kOpen: {
      hostcalls::CopyResult<plugin::OpenFile> file = files.Open(path, last);
      answer.error = ErrorOf(file);
      if (file.ok()) answer.file = std::move(file->host);
      break;
    }
    case FileRequest::kStatus: {
      const hostcalls::CopyResult<struct stat> status = files.Status(path, last);
      answer.error = ErrorOf(status);
      if (status.ok()) answer.status = *status;
      break;
    }
    case FileRequest::kAccess:
      answer.error = files.Access(path, mode, last);
      break;
    case FileRequest::kReadLink: {
      const hostcalls::CopyResult<std::string> text = files.ReadLink(path);
      answer.error = ErrorOf(text);
      if (text.ok()) answer.text = *text;
      break;
    }
    case FileRequest::kGrant:
      if (!asked.descriptors.empty()) files.Grant(path, std::move(asked.descriptors.front()));
      return std::nullopt;
    case FileRequest::kEnd:
      break;
  }
  return answer;
}

}  // namespace

int BrokerMain(int namespaces) {
  // Of the fork server: the kernel has forgotten it if this program's rights are others.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  const std::optional<Asked> first = Receive();
  const std::optional<StartOrder> order = first ? ParseStartOrder(first->bytes) : std::nullopt;
  if (!order) return 1;
  const absl::StatusOr<std::vector<std::string>> confined =
      Confine(Role::kBroker, order->policy, namespaces);
  Writer started;
  PutStatus(started, confined.status());
  if (confined.ok()) PutTexts(started, *confined);
  if (!Send(started, {}) || !confined.ok()) return 1;
  Sessions sessions;
  while (std::optional<Asked> asked = Receive()) {
    const std::optional<Answer> answer = Do(sessions, order->policy, *asked);
    if (!answer) continue;
    Writer writer;
    writer.Put(std::int32_t{answer->error});
    writer.Put(answer->status);
    writer.PutText(answer->text);
    if (!Send(writer, answer->file)) break;
  }
  return 0;
}

}  // namespace dunebox::worker
