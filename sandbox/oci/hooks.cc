#include "sandbox/oci/hooks.h"

#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "hostcalls/errors/message.h"
#include "runtime/file_descriptor.h"

namespace dunebox::oci {
namespace {

using runtime::FileDescriptor;

constexpr int kMillisecondsPerSecond = 1000;
constexpr int kCannotExecute = 126;

std::vector<char*> Pointers(const std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  pointers.reserve(texts.size() + 1);
  for (const std::string& text : texts) pointers.push_back(const_cast<char*>(text.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

// A file and no pipe: a hook need not read it.
FileDescriptor Input(const std::string& state) {
  FileDescriptor file(memfd_create("state", MFD_CLOEXEC));
  const auto size = static_cast<ssize_t>(state.size());
  if (!file.valid() || pwrite(file.get(), state.data(), state.size(), 0) != size) return {};
  return file;
}

[[noreturn]] void BecomeHook(const Hook& hook, int input) {
  const std::vector<std::string> only_name = {hook.path};
  const std::vector<char*> args = Pointers(hook.args.empty() ? only_name : hook.args);
  const std::vector<char*> env = Pointers(hook.env);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  setpgid(0, 0);  // it is ended with all that it has started
  if (dup2(input, STDIN_FILENO) == STDIN_FILENO) execve(hook.path.c_str(), args.data(), env.data());
  errors::Say(errors::Id::kContainer,
              absl::ErrnoToStatus(errno, fmt::format("cannot execute {}", hook.path)));
  _exit(kCannotExecute);
}

// OK: it has ended by itself within its time, or it will.
absl::Status WaitFor(pid_t child, const Hook& hook) {
  if (!hook.timeout || *hook.timeout >= INT32_MAX / kMillisecondsPerSecond) return absl::OkStatus();
  const FileDescriptor process(static_cast<int>(syscall(SYS_pidfd_open, child, 0)));
  if (!process.valid()) return absl::ErrnoToStatus(errno, "its time cannot be watched");
  pollfd end{.fd = process.get(), .events = POLLIN, .revents = 0};
  int ready = 0;
  do {
    ready = poll(&end, 1, *hook.timeout * kMillisecondsPerSecond);
  } while (ready < 0 && errno == EINTR);
  if (ready > 0) return absl::OkStatus();
  return absl::DeadlineExceededError(fmt::format("has not ended after {} s", *hook.timeout));
}

absl::Status RunHook(const Hook& hook, const std::string& state) {
  const FileDescriptor input = Input(state);
  if (!input.valid()) return absl::InternalError("cannot make a file for the state");
  const pid_t child = fork();
  if (child < 0) return absl::ErrnoToStatus(errno, "cannot fork");
  if (child == 0) BecomeHook(hook, input.get());
  setpgid(child, child);  // as it does itself: whoever comes first
  absl::Status waited = WaitFor(child, hook);
  if (!waited.ok()) kill(-child, SIGKILL);  // and whatever it has started
  int status = 0;
  while (waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return absl::ErrnoToStatus(errno, "cannot tell how it ended");
  }
  if (!waited.ok()) return waited;
  if (WIFSIGNALED(status)) {
    return absl::AbortedError(fmt::format("was ended by signal {}", WTERMSIG(status)));
  }
  if (WEXITSTATUS(status) == 0) return absl::OkStatus();
  return absl::AbortedError(fmt::format("exit status {}", WEXITSTATUS(status)));
}

}  // namespace

absl::Status RunHooks(const Hooks& hooks, HookPoint point, const std::string& state) {
  for (const Hook& hook : hooks.At(point)) {
    if (absl::Status status = RunHook(hook, state); !status.ok()) {
      return absl::Status(status.code(), fmt::format("hook {} ({}): {}", NameOf(point), hook.path,
                                                     std::string(status.message())));
    }
  }
  return absl::OkStatus();
}

}  // namespace dunebox::oci
