#include "hostcalls/services/messages.h"

#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>

#include <algorithm>
#include <cstring>
#include <list>
#include <optional>
#include <utility>
#include <vector>

#include "hostcalls/dispatch/arguments.h"
#include "hostcalls/services/support.h"

namespace dunebox::hostcalls {
namespace {

constexpr std::size_t kMostMessages = 1024;    // UIO_MAXIOV [linux]
constexpr std::size_t kMostControl = 1 << 20;  // above any net.core.optmem_max in use
constexpr std::uint64_t kMostBuffers = 1024;   // UIO_MAXIOV
constexpr int kReliableDatagram = 276;         // SOL_RDS: its control data has addresses

// One message as the kernel gets it, with all that it points to.
struct Message {
  msghdr header{};
  sockaddr_storage name{};
  std::vector<std::byte> control;
  std::vector<iovec> buffers;
};

// The parts that sending and receiving have in common. `message` does not move afterwards.
SyscallResult CopyHeader(const Caller& caller, std::uint64_t address, Message& message) {
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
  message.header.msg_iov = message.buffers.data();
  return kSuccess;
}

SyscallResult CopyMessageToSend(const Caller& caller, std::uint64_t address, Message& message) {
  if (SyscallResult copied = CopyHeader(caller, address, message); !copied.ok()) return copied;
  msghdr& header = message.header;
  if (header.msg_namelen != 0) {
    // Longer is cut off by the kernel as well.
    header.msg_namelen = std::min<socklen_t>(header.msg_namelen, sizeof(message.name));
    const auto name = std::as_writable_bytes(std::span(&message.name, 1));
    if (!caller.memory.Read(AsArgument(header.msg_name), name.first(header.msg_namelen))) {
      return Errno{EFAULT};
    }
    header.msg_name = &message.name;
  }
  if (header.msg_controllen == 0) return kSuccess;
  if (header.msg_controllen > kMostControl) return Errno{ENOBUFS};
  message.control.resize(header.msg_controllen);
  if (!caller.memory.Read(AsArgument(header.msg_control), message.control)) return Errno{EFAULT};
  header.msg_control = message.control.data();
  return CheckControl(message.control, caller.reserved);
}

// The kernel writes what arrives straight to the guest, within the lengths of our copy.
SyscallResult CopyMessageToReceive(const Caller& caller, std::uint64_t address, Message& message) {
  if (SyscallResult copied = CopyHeader(caller, address, message); !copied.ok()) return copied;
  const msghdr& header = message.header;
  const std::uint64_t name_size = std::min<std::uint64_t>(header.msg_namelen, sizeof(message.name));
  if (header.msg_name != nullptr &&
      !caller.memory.Contains(AsArgument(header.msg_name), name_size)) {
    return Errno{EFAULT};
  }
  if (!caller.memory.Contains(AsArgument(header.msg_control), header.msg_controllen)) {
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

// ---- Several messages at once -------------------------------------------------------------------

using CopyMessage = SyscallResult (*)(const Caller&, std::uint64_t, Message&);

struct Batch {
  std::list<Message> messages;  // does not move its elements: the headers point into them
  std::vector<mmsghdr> headers;
};

// As many messages as can be copied; an error only when it is the first that cannot.
SyscallResult CopyBatch(const Caller& caller, std::uint64_t address, std::uint64_t count,
                        CopyMessage copy, Batch& batch) {
  for (std::size_t i = 0; i < std::min<std::uint64_t>(count, kMostMessages); ++i) {
    Message& message = batch.messages.emplace_back();
    const SyscallResult copied = copy(caller, address + i * sizeof(mmsghdr), message);
    if (!copied.ok()) return i == 0 ? copied : kSuccess;
    batch.headers.push_back({.msg_hdr = message.header, .msg_len = 0});
  }
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
  const SyscallResult copied = CopyMessageToSend(caller, arguments[1], message);
  if (!copied.ok()) return copied;
  return HostCall(caller, SYS_sendmsg,
                  Arguments(AsInt(arguments[0]), &message.header, AsInt(arguments[2])));
}

SyscallResult HandleRecvmsg(Caller& caller, const ArgumentValues& arguments) {
  Message message;
  const SyscallResult copied = CopyMessageToReceive(caller, arguments[1], message);
  if (!copied.ok()) return copied;
  const SyscallResult result = HostCall(
      caller, SYS_recvmsg, Arguments(AsInt(arguments[0]), &message.header, AsInt(arguments[2])));
  if (!result.ok()) return result;
  return CopyOutHeader(caller, arguments[1], message.header) ? result : Errno{EFAULT};
}

SyscallResult HandleSendmmsg(Caller& caller, const ArgumentValues& arguments) {
  Batch batch;
  const SyscallResult copied = CopyBatch(
      caller, arguments[1], static_cast<std::uint32_t>(arguments[2]), CopyMessageToSend, batch);
  if (!copied.ok()) return copied;
  const SyscallResult result = HostCall(caller, SYS_sendmmsg,
                                        Arguments(AsInt(arguments[0]), batch.headers.data(),
                                                  batch.headers.size(), AsInt(arguments[3])));
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
  Batch batch;
  const SyscallResult copied = CopyBatch(
      caller, arguments[1], static_cast<std::uint32_t>(arguments[2]), CopyMessageToReceive, batch);
  if (!copied.ok()) return copied;
  const SyscallResult result =
      HostCall(caller, SYS_recvmmsg,
               Arguments(AsInt(arguments[0]), batch.headers.data(), batch.headers.size(),
                         AsInt(arguments[3]), timeout ? &*timeout : nullptr));
  if (!result.ok()) return result;
  if (timeout) {
    const SyscallResult written = caller.memory.CopyOut(GuestPtr<timespec>{arguments[4]}, *timeout);
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
