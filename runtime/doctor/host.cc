#include "runtime/doctor/host.h"

#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "runtime/confinement/namespaces.h"
#include "runtime/jit/isolation_choice.h"
#include "runtime/jit/prepared_file.h"
#include "runtime/jit/jit_engine.h"

namespace dunebox::doctor {
namespace {

KernelIdentity ReadKernelIdentity() {
  utsname names{};
  if (uname(&names) != 0) return {};
  return {.release = names.release, .machine = names.machine};
}

int TryProtectionKey() {
  const int key = pkey_alloc(0, 0);
  if (key < 0) return -errno;
  pkey_free(key);
  return 0;
}

int ReadLandlockAbi() {
  const long abi =
      syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION);
  return abi < 0 ? -errno : static_cast<int>(abi);
}

// In a child, because a process cannot leave the namespace again.
int TryUserNamespace() {
  const pid_t child = fork();
  if (child < 0) return -errno;
  if (child == 0) _exit(unshare(CLONE_NEWUSER) == 0 ? 0 : errno);
  int status = 0;
  while (waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return -errno;
  }
  return WIFEXITED(status) ? -WEXITSTATUS(status) : -ECHILD;
}

int TrySeccompAction(std::uint32_t action) {
  return syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0 ? 0 : -errno;
}

rlimit ReadLimit(int resource) {
  rlimit limit{};
  getrlimit(static_cast<__rlimit_resource>(resource), &limit);
  return limit;
}

std::uint32_t ReadPersonality() {
  constexpr unsigned long kOnlyAsk = 0xffffffff;
  return static_cast<std::uint32_t>(personality(kOnlyAsk));
}

}  // namespace

Host ThisHost() {
  Host host;
  host.kernel = ReadKernelIdentity;
  host.kvm = &kvm::HostKvmApi();
  host.probe = [api = host.kvm] { return kvm::RunProbe(*api); };
  host.translation = runtime::JitEngine::TryHost;
  host.isolation = runtime::CheckIsolation;
  host.prepared = [](jit::Isolation isolation) -> absl::StatusOr<std::uint32_t> {
    const auto blocks = runtime::MapPrepared(runtime::kPreparedDirectory, isolation);
    if (!blocks.ok()) return blocks.status();
    return (*blocks)->size();
  };
  host.protection_key = TryProtectionKey;
  host.landlock_abi = ReadLandlockAbi;
  host.user_namespace = TryUserNamespace;
  host.namespaces = confinement::ProbeNamespaces;
  host.seccomp_action = TrySeccompAction;
  host.limit = ReadLimit;
  host.personality = ReadPersonality;
  return host;
}

}  // namespace dunebox::doctor
