#include <fmt/format.h>
#include <linux/kvm.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "runtime/doctor/checks.h"
#include "runtime/doctor/host_file.h"
#include "runtime/engine_choice.h"

namespace dunebox::doctor {
namespace {

constexpr int kStableKvmApi = 12;  // the only one since Linux 2.6.22 [linux/kvm §4.1]

// The group's name from /etc/group; empty when it has none. (A static binary must not ask
// libc for it: that loads shared objects.)
std::string GroupName(const Host& host, gid_t group) {
  const std::string text = HostFileText(host.group_path);
  const std::string wanted = fmt::format(":{}:", group);
  std::string_view rest = text;
  while (!rest.empty()) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(line.size() < rest.size() ? line.size() + 1 : rest.size());
    const std::size_t password = line.find(':');  // name:password:gid:members
    if (password == std::string_view::npos) continue;
    const std::size_t id = line.find(':', password + 1);
    if (id == std::string_view::npos || line.compare(id, wanted.size(), wanted) != 0) continue;
    return std::string(line.substr(0, password));
  }
  return {};
}

Check ForbiddenDevice(const Host& host) {
  Check check{.name = "/dev/kvm",
              .state = State::kMissing,
              .found = "forbidden",
              .advice = "as root: setfacl -m u:USER:rw /dev/kvm"};
  struct stat status {};
  if (stat(host.kvm_path.c_str(), &status) != 0) return check;
  const std::string group = GroupName(host, status.st_gid);
  check.found = fmt::format("forbidden: mode {:04o}, owner {}, group {}", status.st_mode & 07777,
                            status.st_uid, group.empty() ? std::to_string(status.st_gid) : group);
  constexpr mode_t kGroupMayUse = S_IRGRP | S_IWGRP;
  if (!group.empty() && (status.st_mode & kGroupMayUse) == kGroupMayUse) {
    check.advice = fmt::format("join its group and log in again: sudo usermod -aG {} USER", group);
  }
  return check;
}

Check UnopenableDevice(const Host& host, int error) {
  Check check{.name = "/dev/kvm", .state = State::kMissing};
  switch (error) {
    case EACCES:
    case EPERM:
      return ForbiddenDevice(host);
    case ENOENT:
      check.found = "no such device";
      check.advice =
          "load the module, modprobe kvm_intel or modprobe kvm_amd; in a container "
          "pass the device in, --device=/dev/kvm";
      return check;
    case ENODEV:
    case ENXIO:
      check.found = "a device file without a driver behind it";
      check.advice = "load the module: modprobe kvm_intel or modprobe kvm_amd";
      return check;
    default:
      check.found = fmt::format("cannot be opened: {}", std::strerror(error));
      check.advice = "make open(\"/dev/kvm\", O_RDWR) work";
      return check;
  }
}

}  // namespace

Check CheckKvmDevice(const Host& host) {
  const int device = host.kvm->OpenDevice();
  if (device < 0) return UnopenableDevice(host, -device);
  const int version = host.kvm->Ioctl(device, KVM_GET_API_VERSION, std::uintptr_t{0});
  host.kvm->Close(device);
  Check check{.name = "/dev/kvm"};
  if (version == kStableKvmApi) {
    check.found = fmt::format("usable, KVM API version {}", version);
    return check;
  }
  check.state = State::kMissing;
  check.found = version < 0
                    ? fmt::format("does not answer as KVM does: {}", std::strerror(-version))
                    : fmt::format("KVM API version {}", version);
  check.advice = fmt::format("Dunebox needs KVM API version {}: use a newer kernel", kStableKvmApi);
  return check;
}

Check CheckKvmProbe(const absl::StatusOr<kvm::Probe>& probe) {
  Check check{.name = "engine kvm"};
  if (!probe.ok()) {
    check.state = State::kMissing;
    check.found = fmt::format("cannot run: {}", std::string(probe.status().message()));
    const bool device_is_why =
        absl::IsNotFound(probe.status()) || absl::IsPermissionDenied(probe.status());
    check.advice = device_is_why ? "make /dev/kvm usable, see above"
                                 : "use a newer kernel, or one whose KVM works";
    return check;
  }
  check.found = fmt::format("{}: {}", probe->verdict(), probe->reason());
  if (!probe->is_hardware()) {
    check.state = State::kWarning;
    check.advice =
        "programs run, but every system call and page fault is slow; use a machine "
        "with VT-x or AMD-V for speed";
  }
  return check;
}

Check CheckJitEngine(const absl::Status& translation) {
  Check check{.name = "engine jit"};
  if (!translation.ok()) {
    check.state = State::kMissing;
    check.found = fmt::format("cannot run: {}", std::string(translation.message()));
    check.advice =
        absl::IsUnavailable(translation)
            ? "use a processor with FSGSBASE and SSE4.2, and Linux 5.9 or newer without "
              "'nofsgsbase'"
            : "allow memory that is written through one mapping and executed through another: a "
              "security module or vm.memfd_noexec may forbid it";
    return check;
  }
  check.found = "runs";
  return check;
}

EngineDecision DecideEngine(const Check& virtualization, const Check& device,
                            const absl::StatusOr<kvm::Probe>& probe,
                            const absl::Status& translation) {
  const process::EngineKind kind =
      runtime::ChooseEngine({.has_virtualization = virtualization.state == State::kOk,
                             .can_open_kvm = device.state != State::kMissing,
                             .can_translate = translation.ok()});
  if (kind == process::EngineKind::kJit) {
    return {.engine = "jit",
            .reason = device.state == State::kMissing
                          ? fmt::format("/dev/kvm: {}", device.found)
                          : "there is a /dev/kvm, but no virtualization hardware: translating is "
                            "faster"};
  }
  const std::string also =
      translation.ok() ? "--engine=jit can be asked for"
                       : fmt::format("engine jit: {}", std::string(translation.message()));
  if (device.state == State::kMissing) {
    return {.engine = "", .reason = fmt::format("/dev/kvm: {}; {}", device.found, also)};
  }
  if (!probe.ok()) {
    return {.engine = "",
            .reason = fmt::format("the probe of /dev/kvm failed: {}; {}",
                                  std::string(probe.status().message()), also)};
  }
  if (probe->is_hardware()) return {.engine = "kvm", .reason = "/dev/kvm is hardware"};
  return {.engine = "kvm",
          .reason = fmt::format("/dev/kvm works, although it is not hardware; {}", also)};
}

}  // namespace dunebox::doctor
