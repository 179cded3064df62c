#include "sandbox/oci/channel.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string_view>

namespace dunebox::oci {
namespace {
constexpr std::size_t kLongestText = 4000;
}  // namespace

bool Channel::Send(const Message& message) const {
  std::string bytes(1, static_cast<char>(message.step));
  bytes += message.text.substr(0, kLongestText);
  return send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) ==
         static_cast<ssize_t>(bytes.size());
}

absl::StatusOr<Message> Channel::Receive() const {
  std::array<char, kLongestText + 1> bytes;
  ssize_t size = 0;
  do {
    size = recv(fd_.get(), bytes.data(), bytes.size(), 0);
  } while (size < 0 && errno == EINTR);
  if (size <= 0) return absl::AbortedError("the container's process has ended");
  const auto last = static_cast<char>(Step::kStarted);
  if (bytes[0] < 0 || bytes[0] > last) return absl::InternalError("an unknown message");
  return Message{.step = static_cast<Step>(bytes[0]),
                 .text = std::string(bytes.data() + 1, static_cast<std::size_t>(size) - 1)};
}

absl::Status Channel::Expect(Step step) const {
  absl::StatusOr<Message> message = Receive();
  if (!message.ok()) return message.status();
  if (message->step == step) return absl::OkStatus();
  if (message->step == Step::kFailed) return absl::AbortedError(message->text);
  return absl::InternalError("a message out of order");
}

absl::StatusOr<ChannelPair> ChannelPair::Make() {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    return absl::ErrnoToStatus(errno, "cannot make a socket pair");
  }
  return ChannelPair{Channel(runtime::FileDescriptor(ends[0])),
                     Channel(runtime::FileDescriptor(ends[1]))};
}

}  // namespace dunebox::oci
