#include "hostcalls/trace/text_trace.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "hostcalls/trace/format.h"
#include "hostcalls/trace/text.h"
#include "hostcalls/trace/write_line.h"

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
