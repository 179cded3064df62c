// Everything the doctor looks at, as parameters: files by path, kernel features by function.
//
// ThisHost() is the machine we run on. A test describes another one: an old kernel, no /dev/kvm,
// a device of mode 0. Functions follow the kernel: a result, or -errno.
//
//   Host host = ThisHost();
//   host.landlock_abi = [] { return -ENOSYS; };
//   Report report = Examine(host);
#ifndef DUNEBOX_RUNTIME_DOCTOR_HOST_H_
#define DUNEBOX_RUNTIME_DOCTOR_HOST_H_

#include <sys/resource.h>

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "runtime/confinement/mechanisms.h"
#include "runtime/kvm/kvm_api.h"
#include "jit-fallback/emit/isolation.h"
#include "runtime/kvm/probe.h"

namespace dunebox::doctor {

struct KernelIdentity {
  std::string release;  // "6.1.0-18-amd64"
  std::string machine;  // "x86_64"
};

struct Host {
  std::string cpuinfo_path = "/proc/cpuinfo";
  std::string sysctl_directory = "/proc/sys";
  std::string maps_path = "/proc/self/maps";
  std::string group_path = "/etc/group";
  std::string kvm_path = "/dev/kvm";  // only its owner and mode; `kvm` opens the real one

  std::function<KernelIdentity()> kernel;
  kvm::KvmApi* kvm = nullptr;
  std::function<absl::StatusOr<kvm::Probe>()> probe;

  std::function<absl::Status()> translation;  // whether engine jit can run, really tried
  // Why translated code cannot be isolated in this way; OK when it can.
  std::function<absl::Status(jit::Isolation)> isolation;
  // How many translations the system has prepared for it. kNotFound: none.
  std::function<absl::StatusOr<std::uint32_t>(jit::Isolation)> prepared;
  std::function<int()> protection_key;  // 0 when one can be allocated
  std::function<int()> landlock_abi;
  std::function<int()> user_namespace;                      // 0 when one can be made
  // The namespaces that a session could have, really made; or why none.
  std::function<absl::StatusOr<confinement::MechanismSet>()> namespaces;
  std::function<int(std::uint32_t action)> seccomp_action;  // 0 when available
  std::function<rlimit(int resource)> limit;
  std::function<std::uint32_t()> personality;
};

Host ThisHost();

}  // namespace dunebox::doctor

#endif  // DUNEBOX_RUNTIME_DOCTOR_HOST_H_
