#include "hostcalls/trace/text_trace.h"

#include <errno.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "hostcalls/trace/format.h"
#include "hostcalls/trace/text.h"

namespace dunebox::hostcalls {
namespace {

// The call that this thread is in. A forked child inherits it and writes its own line for it. A
// vforked one shares it with its parent, so OnExit asks whether it is the one it means.
struct PendingCall {
  const Caller* caller;
  Request request;
  CallText text;

  bool IsFor(const Caller& other, const Request& other_request) const {
    return caller == &other && request.number == other_request.number &&
           request.arguments == other_request.arguments;
  }
};
thread_local std::optional<PendingCall> pending_call;

bool NeverReturns(const Row* row) {
  return row != nullptr && (row->number == SYS_exit || row->number == SYS_exit_group);
}

// Keeps SIGPIPE of a write from reaching the program, which did not do it.
class SigpipeGuard {
 public:
  SigpipeGuard() {
    sigemptyset(&sigpipe_);
    sigaddset(&sigpipe_, SIGPIPE);
    sigset_t pending;
    was_pending_ = sigpending(&pending) == 0 && sigismember(&pending, SIGPIPE) == 1;
    pthread_sigmask(SIG_BLOCK, &sigpipe_, &previous_mask_);
  }
  ~SigpipeGuard() { pthread_sigmask(SIG_SETMASK, &previous_mask_, nullptr); }
  SigpipeGuard(const SigpipeGuard&) = delete;
  SigpipeGuard& operator=(const SigpipeGuard&) = delete;

  // The signal of a broken pipe goes to the thread that wrote: take it back, unless one was
  // waiting before, which is the program's.
  void Discard() const {
    const timespec now = {};
    if (!was_pending_) sigtimedwait(&sigpipe_, nullptr, &now);
  }

 private:
  sigset_t sigpipe_;
  sigset_t previous_mask_;
  bool was_pending_;
};

void WriteLine(int fd, std::string_view line) {
  const int saved_errno = errno;
  const SigpipeGuard guard;
  ssize_t written;
  do {
    written = write(fd, line.data(), line.size());
  } while (written < 0 && errno == EINTR);
  if (written < 0 && errno == EPIPE) guard.Discard();
  errno = saved_errno;
}

std::string Prefix() { return absl::StrCat("dunebox: [", gettid(), "] "); }

}  // namespace

void TextTrace::WriteCall(const std::string& call, const std::string& result) const {
  WriteLine(fd_, absl::StrCat(Prefix(), call, " = ", result, "\n"));
}

void TextTrace::OnEnter(Caller& caller, const Row* row, const Request& request) {
  pending_call.emplace(PendingCall{&caller, request, CallText(caller.memory, row, request)});
  if (NeverReturns(row)) OnNoReturn();
}

void TextTrace::OnExit(Caller& caller, const Row* row, const Request& request,
                       SyscallResult result) {
  std::optional<PendingCall> pending = std::exchange(pending_call, std::nullopt);
  CallText text = pending && pending->IsFor(caller, request)
                      ? std::move(pending->text)
                      : CallText(caller.memory, row, request);
  text.AddOutputs(caller.memory, row, request, result);
  WriteCall(text.ToString(), ResultText(row, result));
}

void TextTrace::OnNoReturn() {
  const std::optional<PendingCall> pending = std::exchange(pending_call, std::nullopt);
  if (pending) WriteCall(pending->text.ToString(), "?");
}

void TextTrace::OnSignal(const siginfo_t& info) {
  WriteLine(fd_, absl::StrCat(Prefix(), FormatSignal(info), "\n"));
}

}  // namespace dunebox::hostcalls
