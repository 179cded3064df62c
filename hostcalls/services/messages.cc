#include "hostcalls/services/messages.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <list>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "hostcalls/dispatch/arguments.h"
#include "hostcalls/services/checked_address.h"
#include "hostcalls/services/counted_output.h"
#include "hostcalls/services/limits.h"
#include "hostcalls/services/support.h"

namespace dunebox::hostcalls {
namespace {

constexpr std::size_t kMostMessages = 1024;    // UIO_MAXIOV [linux]
constexpr std::size_t kMostControl = 1 << 20;  // above any net.core.optmem_max in use
constexpr std::uint64_t kMostBuffers = 1024;   // UIO_MAXIOV
constexpr int kReliableDatagram = 276;         // SOL_RDS: its control data has addresses

// One message as the kernel gets it, with all that it points to. A copied header points to what is
// staged; whoever passes it on stages the header.
struct Message {
  msghdr header{};
  CheckedAddress name;  // to send to
  std::vector<std::byte> control;
  std::vector<iovec> buffers;
};

// The parts that sending and receiving have in common. `message` does not move afterwards.
SyscallResult CopyHeader(const Caller& caller, std::uint64_t address, StagingScope& staged,
                         Message& message) {
  CopyResult<msghdr> header = caller.memory.CopyIn(GuestPtr<msghdr>{address});
  if (!header.ok()) return header.error();
  message.header = *header;
  if (static_cast<std::int32_t>(message.header.msg_namelen) < 0) return Errno{EINVAL};
  if (message.header.msg_name == nullptr) message.header.msg_namelen = 0;
  if (message.header.msg_iovlen > kMostBuffers) return Errno{EMSGSIZE};
  CopyResult<std::vector<iovec>> buffers =
      CopyInIovec(caller.memory, AsArgument(message.header.msg_iov), message.header.msg_iovlen);
  if (!buffers.ok()) return buffers.error();
  message.buffers = *std::move(buffers);
  message.header.msg_iov = staged.PlaceAll(std::span(message.buffers)).data();
  return kSuccess;
}

// What the session's policy says about control data that CheckControl has taken apart.
SyscallResult MaySendControl(Caller& caller, std::span<const std::byte> control) {
  if (!HasNetworkRules(caller)) return kSuccess;
  while (control.size() >= sizeof(cmsghdr)) {
    cmsghdr header{};
    std::memcpy(&header, control.data(), sizeof(header));
    const bool refused =
        !policy::MaySendControl(header.cmsg_level, header.cmsg_type) &&
        caller.guard->Refuse(caller, {.action = "send control data",
                                      .object = absl::StrCat("level ", header.cmsg_level, " type ",
                                                             header.cmsg_type),
                                      .origin = caller.guard->rules().network.origin,
                                      .cure = "",
                                      .error = EPERM});
    if (refused) return Errno{EPERM};
    control = control.subspan(std::min<std::size_t>(CMSG_ALIGN(header.cmsg_len), control.size()));
  }
  return kSuccess;
}

SyscallResult CopyMessageToSend(Caller& caller, std::uint64_t address, StagingScope& staged,
                                Message& message) {
  const SyscallResult copied = CopyHeader(caller, address, staged, message);
  if (!copied.ok()) return copied;
  msghdr& header = message.header;
  if (header.msg_namelen != 0) {
    // Longer is cut off by the kernel as well.
    constexpr auto kMost = static_cast<socklen_t>(CheckedAddress::kMostBytes);
    const auto length = static_cast<int>(std::min(header.msg_namelen, kMost));
    const SyscallResult read =
        message.name.Read(caller, AsArgument(header.msg_name), length, policy::AddressUse::kSend);
    if (!read.ok()) return read;
    header.msg_name = staged.PlaceAll(message.name.bytes()).data();
    header.msg_namelen = static_cast<socklen_t>(message.name.bytes().size());
  }
  if (header.msg_controllen == 0) return kSuccess;
  if (header.msg_controllen > kMostControl) return Errno{ENOBUFS};
  message.control.resize(header.msg_controllen);
  if (!caller.memory.Read(AsArgument(header.msg_control), message.control)) return Errno{EFAULT};
  header.msg_control = staged.PlaceAll(std::span(message.control)).data();
  const SyscallResult checked = CheckControl(message.control, caller.reserved);
  return checked.ok() ? MaySendControl(caller, message.control) : checked;
}

// The kernel writes what arrives straight to the guest, within the lengths of our copy.
SyscallResult CopyMessageToReceive(Caller& caller, std::uint64_t address,
                                   StagingScope& staged, Message& message) {
  const SyscallResult copied = CopyHeader(caller, address, staged, message);
  if (!copied.ok()) return copied;
  const msghdr& header = message.header;
  const std::uint64_t name_size =
      std::min<std::uint64_t>(header.msg_namelen, sizeof(sockaddr_storage));
  if (header.msg_name != nullptr &&
      !caller.memory.Contains(AsArgument(header.msg_name), name_size)) {
    return Errno{EFAULT};
  }
  // Without a place for it the kernel leaves control data out, whatever length is said.
  if (header.msg_control != nullptr &&
      !caller.memory.Contains(AsArgument(header.msg_control), header.msg_controllen)) {
    return Errno{EFAULT};
  }
  return kSuccess;
}

// What receiving changes in the guest's header.
bool CopyOutHeader(const Caller& caller, std::uint64_t address, const msghdr& header) {
  const auto write = [&](std::size_t offset, const auto& value) {
    return caller.memory.Write(address + offset, std::as_bytes(std::span(&value, 1)));
  };
  return write(offsetof(msghdr, msg_namelen), header.msg_namelen) &&
         write(offsetof(msghdr, msg_controllen), header.msg_controllen) &&
         write(offsetof(msghdr, msg_flags), header.msg_flags);
}

// ---- Sending descriptors ------------------------------------------------------------------------

// What a sender waits for: room at the socket. For how long, SO_SNDTIMEO says.
class RoomToSend {
 public:
  RoomToSend(Caller& caller, int fd, int flags) : caller_(caller), fd_(fd) {
    timeval timeout{};
    socklen_t size = sizeof(timeout);
    const int status = fcntl(fd, F_GETFL);
    waits_ = (flags & MSG_DONTWAIT) == 0 && status >= 0 && (status & O_NONBLOCK) == 0;
    if (getsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, &size) != 0) return;
    const auto length =
        std::chrono::seconds(timeout.tv_sec) + std::chrono::microseconds(timeout.tv_usec);
    if (length.count() != 0) end_ = Clock::now() + length;
  }

  bool waits() const { return waits_; }
  // Success: try again. Otherwise what the sending call gives.
  SyscallResult Wait();
  // Of a call that a signal has ended, or kept from being made again.
  SyscallResult Interrupted() const {
    if (end_ == kNever && caller_.RestartsAfterSignal()) return SyscallResult::Restart();
    return Errno{EINTR};
  }

 private:
  using Clock = std::chrono::steady_clock;
  using Duration = std::chrono::nanoseconds;
  static constexpr Clock::time_point kNever = Clock::time_point::max();

  // For the socket, or just for so long.
  SyscallResult Poll(bool socket, Duration longest);

  Caller& caller_;
  const int fd_;
  bool waits_ = false;
  Clock::time_point end_ = kNever;
  Duration pause_{0};
};

SyscallResult RoomToSend::Poll(bool socket, Duration longest) {
  pollfd room{.fd = fd_, .events = POLLOUT, .revents = 0};
  const timespec time{.tv_sec = longest.count() / 1'000'000'000,
                      .tv_nsec = longest.count() % 1'000'000'000};
  const SyscallResult result =
      RuntimeCall(caller_, SYS_ppoll,
                  Arguments(&room, socket ? 1 : 0, longest == Duration::max() ? nullptr : &time,
                            static_cast<void*>(nullptr), std::size_t{0}));
  return result.is_restart() || result.error() == EINTR ? Interrupted() : kSuccess;
}

// A socket without a peer has room of its own when the receiver's queue is full, and nothing tells
// when that has changed. So the second time there is a pause.
SyscallResult RoomToSend::Wait() {
  constexpr Duration kFirstPause = std::chrono::microseconds(100);
  constexpr Duration kLongestPause = std::chrono::milliseconds(10);
  const Duration left = end_ == kNever ? Duration::max() : end_ - Clock::now();
  if (left.count() <= 0) return Errno{EAGAIN};
  if (pause_.count() != 0) {
    if (const SyscallResult paused = Poll(false, std::min(left, pause_)); !paused.ok()) {
      return paused;
    }
  }
  pause_ = std::clamp(pause_ * 2, kFirstPause, kLongestPause);
  return Poll(true, left);
}

// The rest of a message of which `done` bytes have gone, with all its descriptors.
SyscallResult SendRest(Caller& caller, int fd, msghdr header, int flags, std::size_t done) {
  std::vector<iovec> rest(header.msg_iov, header.msg_iov + header.msg_iovlen);
  std::size_t skipped = done;
  for (iovec& buffer : rest) {
    const std::size_t part = std::min(buffer.iov_len, skipped);
    buffer.iov_base = static_cast<std::byte*>(buffer.iov_base) + part;
    buffer.iov_len -= part;
    skipped -= part;
  }
  StagingScope staged(caller.staging);
  header.msg_iov = staged.PlaceAll(std::span(rest)).data();
  header.msg_control = nullptr;
  header.msg_controllen = 0;
  const SyscallResult sent =
      HostCall(caller, SYS_sendmsg, Arguments(fd, staged.Place(header), flags));
  return SyscallResult(static_cast<std::int64_t>(done) + (sent.ok() ? sent.value() : 0));
}

// The kernel takes its references and may then wait for room; a Use is no place to wait. So it is
// asked not to wait, and the waiting is done outside.
SyscallResult SendRights(Caller& caller, int fd, const msghdr& header, int flags) {
  StagingScope staged(caller.staging);
  const msghdr* const placed = staged.Place(header);
  const auto try_to_send = [&] {
    const LowDescriptors::Use use(caller.limits.low_descriptors);
    return HostCall(caller, SYS_sendmsg, Arguments(fd, placed, flags | MSG_DONTWAIT));
  };
  SyscallResult sent = try_to_send();
  if (!sent.ok() && sent.error() != EAGAIN) return sent;
  RoomToSend room(caller, fd, flags);
  if (!room.waits()) return sent;
  while (sent.error() == EAGAIN) {
    if (const SyscallResult waited = room.Wait(); !waited.ok()) return waited;
    sent = try_to_send();
    if (sent.is_restart()) return room.Interrupted();
  }
  if (!sent.ok()) return sent;
  const auto done = static_cast<std::size_t>(sent.value());
  std::size_t size = 0;
  for (std::size_t i = 0; i < header.msg_iovlen; ++i) size += header.msg_iov[i].iov_len;
  return done < size ? SendRest(caller, fd, header, flags, done) : sent;
}

bool HasRights(const Message& message) {
  std::span<const std::byte> control(message.control);
  while (control.size() >= sizeof(cmsghdr)) {
    cmsghdr header{};
    std::memcpy(&header, control.data(), sizeof(header));
    if (header.cmsg_level == SOL_SOCKET && header.cmsg_type == SCM_RIGHTS) return true;
    if (header.cmsg_len < sizeof(header)) return false;  // refused, and not sent
    control = control.subspan(std::min<std::size_t>(CMSG_ALIGN(header.cmsg_len), control.size()));
  }
  return false;
}

SyscallResult SendUncounted(Caller& caller, int fd, const Message& message, int flags) {
  if (HasRights(message)) return SendRights(caller, fd, message.header, flags);
  StagingScope staged(caller.staging);
  const msghdr* const header = staged.Place(message.header);
  return HostCall(caller, SYS_sendmsg, Arguments(fd, header, flags));
}

SyscallResult Send(Caller& caller, int fd, const Message& message, int flags) {
  const auto send = [&](std::uint64_t) { return SendUncounted(caller, fd, message, flags); };
  if (caller.limits.output == nullptr) return send(0);
  std::uint64_t size = 0;
  for (const iovec& buffer : message.buffers) size += buffer.iov_len;
  return CallWithinOutput(caller, fd, size, Partly::kNever, send);
}

// ---- Several messages at once -------------------------------------------------------------------

using CopyMessage = SyscallResult (*)(Caller&, std::uint64_t, StagingScope&, Message&);

struct Batch {
  explicit Batch(Staging& staging) : staged(staging) {}

  std::list<Message> messages;  // does not move its elements: the headers point into them
  std::vector<mmsghdr> copied;
  StagingScope staged;
  std::span<mmsghdr> headers;  // those that the kernel gets
};

// As many messages as can be copied; an error only when it is the first that cannot.
SyscallResult CopyBatch(Caller& caller, std::uint64_t address, std::uint64_t count,
                        CopyMessage copy, Batch& batch) {
  for (std::size_t i = 0; i < std::min<std::uint64_t>(count, kMostMessages); ++i) {
    Message& message = batch.messages.emplace_back();
    const SyscallResult copied = copy(caller, address + i * sizeof(mmsghdr), batch.staged, message);
    if (!copied.ok() && i == 0) return copied;
    if (!copied.ok()) break;
    batch.copied.push_back({.msg_hdr = message.header, .msg_len = 0});
  }
  batch.headers = batch.staged.PlaceAll(std::span(batch.copied));
  return kSuccess;
}

// The length of each message that was transferred; of a received one the header too.
SyscallResult CopyOutBatch(const Caller& caller, std::uint64_t address, const Batch& batch,
                           SyscallResult transferred, bool received) {
  for (std::size_t i = 0; i < static_cast<std::size_t>(transferred.value()); ++i) {
    const std::uint64_t to = address + i * sizeof(mmsghdr);
    const mmsghdr& header = batch.headers[i];
    if (received && !CopyOutHeader(caller, to, header.msg_hdr)) return Errno{EFAULT};
    const auto length = std::as_bytes(std::span(&header.msg_len, 1));
    if (!caller.memory.Write(to + offsetof(mmsghdr, msg_len), length)) return Errno{EFAULT};
  }
  return transferred;
}

// One after the other, as the kernel does it. An error is given when it is the first that fails.
SyscallResult SendEach(Caller& caller, int fd, Batch& batch, int flags) {
  std::size_t count = 0;
  for (const Message& message : batch.messages) {
    if (count == batch.headers.size()) break;  // one that could not be copied
    const SyscallResult sent = Send(caller, fd, message, flags);
    if (!sent.ok()) {
      if (count == 0) return sent;
      break;
    }
    batch.headers[count++].msg_len = static_cast<unsigned>(sent.value());
  }
  return SyscallResult(static_cast<std::int64_t>(count));
}

}  // namespace

SyscallResult CheckControl(std::span<const std::byte> control, ReservedDescriptors reserved) {
  while (control.size() >= sizeof(cmsghdr)) {
    cmsghdr header{};
    std::memcpy(&header, control.data(), sizeof(header));
    if (header.cmsg_len < sizeof(header) || header.cmsg_len > control.size()) return Errno{EINVAL};
    if (header.cmsg_level == kReliableDatagram) return Errno{EINVAL};
    if (header.cmsg_level == SOL_SOCKET && header.cmsg_type == SCM_RIGHTS) {
      for (std::size_t at = CMSG_LEN(0); at + sizeof(int) <= header.cmsg_len; at += sizeof(int)) {
        int fd = -1;
        std::memcpy(&fd, &control[at], sizeof(fd));
        if (reserved.Contains(static_cast<std::uint64_t>(fd))) return Errno{EBADF};
      }
    }
    control = control.subspan(std::min<std::size_t>(CMSG_ALIGN(header.cmsg_len), control.size()));
  }
  return kSuccess;
}

SyscallResult HandleSendmsg(Caller& caller, const ArgumentValues& arguments) {
  Message message;
  StagingScope staged(caller.staging);
  const SyscallResult copied = CopyMessageToSend(caller, arguments[1], staged, message);
  if (!copied.ok()) return copied;
  return Send(caller, AsInt(arguments[0]), message, AsInt(arguments[2]));
}

SyscallResult HandleRecvmsg(Caller& caller, const ArgumentValues& arguments) {
  Message message;
  StagingScope staged(caller.staging);
  const SyscallResult copied = CopyMessageToReceive(caller, arguments[1], staged, message);
  if (!copied.ok()) return copied;
  const msghdr* const header = staged.Place(message.header);
  const SyscallResult result =
      HostCall(caller, SYS_recvmsg, Arguments(AsInt(arguments[0]), header, AsInt(arguments[2])));
  if (!result.ok()) return result;
  return CopyOutHeader(caller, arguments[1], *header) ? result : Errno{EFAULT};
}

SyscallResult HandleSendmmsg(Caller& caller, const ArgumentValues& arguments) {
  Batch batch(caller.staging);
  const SyscallResult copied = CopyBatch(
      caller, arguments[1], static_cast<std::uint32_t>(arguments[2]), CopyMessageToSend, batch);
  if (!copied.ok()) return copied;
  const int fd = AsInt(arguments[0]);
  const int flags = AsInt(arguments[3]);
  const SyscallResult result =
      caller.limits.output != nullptr || std::ranges::any_of(batch.messages, HasRights)
          ? SendEach(caller, fd, batch, flags)
          : HostCall(caller, SYS_sendmmsg,
                     Arguments(fd, batch.headers.data(), batch.headers.size(), flags));
  if (!result.ok()) return result;
  return CopyOutBatch(caller, arguments[1], batch, result, /*received=*/false);
}

SyscallResult HandleRecvmmsg(Caller& caller, const ArgumentValues& arguments) {
  std::optional<timespec> timeout;
  if (arguments[4] != 0) {
    CopyResult<timespec> copy = caller.memory.CopyIn(GuestPtr<timespec>{arguments[4]});
    if (!copy.ok()) return copy.error();
    timeout = *copy;
  }
  Batch batch(caller.staging);
  const SyscallResult copied = CopyBatch(
      caller, arguments[1], static_cast<std::uint32_t>(arguments[2]), CopyMessageToReceive, batch);
  if (!copied.ok()) return copied;
  const timespec* const left = timeout ? batch.staged.Place(*timeout) : nullptr;
  const SyscallResult result = HostCall(caller, SYS_recvmmsg,
                                        Arguments(AsInt(arguments[0]), batch.headers.data(),
                                                  batch.headers.size(), AsInt(arguments[3]), left));
  if (!result.ok()) return result;
  if (left != nullptr) {
    const SyscallResult written = caller.memory.CopyOut(GuestPtr<timespec>{arguments[4]}, *left);
    if (!written.ok()) return written;
  }
  return CopyOutBatch(caller, arguments[1], batch, result, /*received=*/true);
}

void RegisterMessageHandlers(HandlerTable& handlers) {
  handlers.Bind("sendmsg", HandleSendmsg);
  handlers.Bind("recvmsg", HandleRecvmsg);
  handlers.Bind("sendmmsg", HandleSendmmsg);
  handlers.Bind("recvmmsg", HandleRecvmmsg);
}

}  // namespace dunebox::hostcalls
