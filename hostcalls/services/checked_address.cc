#include "hostcalls/services/checked_address.h"

#include <fcntl.h>
#include <sys/un.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "hostcalls/services/file_rules.h"
#include "hostcalls/services/limits.h"
#include "hostcalls/services/pinned_path.h"
#include "hostcalls/services/proc_files.h"
#include "hostcalls/services/support.h"

namespace dunebox::hostcalls {
namespace {

using policy::AddressKind;
using policy::AddressUse;
using policy::SocketAddress;

constexpr std::string_view ActionOf(AddressUse use) {
  switch (use) {
    case AddressUse::kConnect:
      return "connect";
    case AddressUse::kSend:
      return "send";
    case AddressUse::kBind:
      return "bind";
    case AddressUse::kListen:
      return "listen";
  }
  return "";
}

// The flag that would allow it. Nobody has port 0; who binds to it gets one that the kernel
// chooses.
std::string CureFor(const SocketAddress& address, AddressUse use) {
  switch (address.kind) {
    case AddressKind::kInternet:
      if (use == AddressUse::kConnect || use == AddressUse::kSend) {
        return address.port == 0 ? "" : absl::StrCat("--net=tcp:", policy::Describe(address));
      }
      return address.port == 0 ? "--net=listen:*" : absl::StrCat("--net=listen:", address.port);
    case AddressKind::kUnixPath:
      return "--net=unix";
    case AddressKind::kUnixUnnamed:
    case AddressKind::kUnixAbstract:
      return "--net=host";
    case AddressKind::kDisconnect:
    case AddressKind::kNetlink:
    case AddressKind::kOther:
    case AddressKind::kMalformed:
      return "";
  }
  return "";
}

}  // namespace

SyscallResult RefuseAddress(Caller& caller, const SocketAddress& address, AddressUse use,
                            policy::Origin origin) {
  const bool refused = caller.guard->Refuse(caller, {.action = ActionOf(use),
                                                     .object = policy::Describe(address),
                                                     .origin = origin,
                                                     .cure = CureFor(address, use),
                                                     .error = EACCES});
  return refused ? SyscallResult(Errno{EACCES}) : kSuccess;
}

SyscallResult CheckedAddress::Read(Caller& caller, std::uint64_t address, int length,
                                   AddressUse use) {
  if (length < 0 || static_cast<std::size_t>(length) > kMostBytes) return Errno{EINVAL};
  size_ = static_cast<std::size_t>(length);
  if (!caller.memory.Read(address, bytes())) return Errno{EFAULT};
  return HasNetworkRules(caller) ? Judge(caller, use) : kSuccess;
}

SyscallResult CheckedAddress::Judge(Caller& caller, AddressUse use) {
  const policy::NetworkRules& rules = caller.guard->rules().network;
  policy::NameLoopback(rules, bytes(), use);
  const SocketAddress address = policy::DecodeAddress(bytes(), use);
  const policy::NetworkAnswer answer = policy::MayUse(rules, address, use);
  if (!answer.allowed) {
    // A name that leads nowhere is not denied but absent: libraries look for services that a machine does not have.
    if (address.kind == AddressKind::kUnixPath && !caller.limits.root_changed) {
      const CopyResult<ReservedFd> object = PinVisible(caller, AT_FDCWD, address.name, {});
      if (!object.ok()) return TellFailure(caller, AT_FDCWD, address.name, object.error());
    }
    const SyscallResult refused = RefuseAddress(caller, address, use, answer.origin);
    if (!refused.ok()) return refused;
  }
  return address.kind == AddressKind::kUnixPath ? PinName(caller, address.name, use) : kSuccess;
}

SyscallResult CheckedAddress::PinName(Caller& caller, const std::string& path, AddressUse use) {
  // Without a /proc there is no way to name what is pinned.
  if (caller.limits.root_changed) return Errno{EACCES};
  std::string name;
  if (use == AddressUse::kBind) {
    CopyResult<PinnedParent> parent = PinParent(caller, AT_FDCWD, path);
    if (!parent.ok()) return TellFailure(caller, AT_FDCWD, path, parent.error());
    const SyscallResult checked = RequireEntry(caller, *parent);
    if (!checked.ok()) return checked;
    pinned_ = std::move(parent->directory);
    name = absl::StrCat("/proc/", DescriptorLink(pinned_.get()), "/", parent->name);
  } else {
    CopyResult<ReservedFd> object = PinVisible(caller, AT_FDCWD, path, {});
    if (!object.ok()) return TellFailure(caller, AT_FDCWD, path, object.error());
    const SyscallResult checked = RequireRights(caller, object->get(), policy::kWriteFile);
    if (!checked.ok()) return checked;
    pinned_ = *std::move(object);
    name = absl::StrCat("/proc/", DescriptorLink(pinned_.get()));
  }
  constexpr std::size_t kNameAt = offsetof(sockaddr_un, sun_path);
  if (name.size() >= sizeof(sockaddr_un::sun_path)) return Errno{ENAMETOOLONG};
  std::memcpy(&bytes_[kNameAt], name.c_str(), name.size() + 1);
  size_ = kNameAt + name.size() + 1;
  path_ = path;
  return kSuccess;
}

}  // namespace dunebox::hostcalls
