#include "runtime/jit/key_probe.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "hostcalls/memory/protection_keys.h"
#include "jit-fallback/dispatch/thread_context.h"

extern "C" {
// Sends itself `signal` with PKRU as guest code has it. Returns PKRU as it is afterwards.
std::uint32_t dunebox_probe_shut_key(int pid, int tid, int signal);
// The signal's handler; sets dunebox_probe_pkru.
void dunebox_probe_handler(int);
extern std::uint32_t dunebox_probe_pkru;
}

namespace dunebox::runtime {
namespace {

// What the child exits with.
enum Answer : int { kWorks = 10, kNoKeys, kHandlerShut, kNotRestored };

constexpr std::size_t kStackSize = 64 * 1024;

int TryInChild() {
  const rlimit no_core{.rlim_cur = 0, .rlim_max = 0};
  setrlimit(RLIMIT_CORE, &no_core);
  void* stack =
      mmap(nullptr, kStackSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (stack == MAP_FAILED || !hostcalls::OpenProtectionKeys().ok()) return kNoKeys;
  jit::UnregisterRseq();
  const stack_t alternate{.ss_sp = stack, .ss_flags = 0, .ss_size = kStackSize};
  struct sigaction action {};
  action.sa_handler = dunebox_probe_handler;
  action.sa_flags = SA_ONSTACK;
  signal(SIGSEGV, SIG_DFL);
  sigset_t only;
  sigemptyset(&only);
  sigaddset(&only, SIGUSR1);
  if (sigaltstack(&alternate, nullptr) != 0 || sigaction(SIGUSR1, &action, nullptr) != 0 ||
      sigprocmask(SIG_UNBLOCK, &only, nullptr) != 0) {
    return kNoKeys;
  }
  const std::uint32_t after = dunebox_probe_shut_key(getpid(), gettid(), SIGUSR1);
  if ((dunebox_probe_pkru & 3) != 0 || dunebox_probe_pkru == 0) return kHandlerShut;
  return after == DUNE_PKRU_GUEST ? kWorks : kNotRestored;
}

}  // namespace

absl::Status ProbeKeys() {
  if (absl::Status status = hostcalls::CheckProtectionKeys(); !status.ok()) return status;
  const pid_t child = fork();
  if (child < 0) return absl::UnavailableError(absl::StrCat("fork: ", strerror(errno)));
  if (child == 0) _exit(TryInChild());
  int status = 0;
  while (waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return absl::UnavailableError(absl::StrCat("waitpid: ", strerror(errno)));
  }
  if (WIFSIGNALED(status)) {
    return absl::UnavailableError(
        "the kernel cannot deliver a signal while protection key 0 is shut (needs Linux 6.12)");
  }
  switch (WEXITSTATUS(status)) {
    case kWorks:
      return absl::OkStatus();
    case kNoKeys:
      return absl::UnavailableError("the kernel gives this process no protection keys");
    case kHandlerShut:
      return absl::UnavailableError("signal handlers do not start with protection key 0 open");
    default:
      return absl::UnavailableError("the end of a signal handler does not restore PKRU");
  }
}

}  // namespace dunebox::runtime
