#include "hostcalls/trace/text_trace.h"

#include <unistd.h>

#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "hostcalls/trace/format.h"
#include "hostcalls/trace/pending_call.h"
#include "hostcalls/trace/text.h"

namespace dunebox::hostcalls {
namespace {

std::string Prefix() { return absl::StrCat("dunebox: [", gettid(), "] "); }

}  // namespace

void TextTrace::WriteCall(const std::string& call, const std::string& result) {
  file_.Write(absl::StrCat(Prefix(), call, " = ", result, "\n"));
}

void TextTrace::OnEnter(Caller& caller, const Row* row, const Request& request) {
  EnterCall({&caller, request, CallText(caller.memory, row, request), 0});
  if (NeverReturns(row)) OnNoReturn();
}

void TextTrace::OnExit(Caller& caller, const Row* row, const Request& request,
                       SyscallResult result) {
  std::optional<PendingCall> pending = LeaveCall(caller, request);
  CallText text = pending ? std::move(pending->text) : CallText(caller.memory, row, request);
  text.AddOutputs(caller.memory, row, request, result);
  std::string shown = ResultText(row, result);
  if (!caller.denied_by.empty()) {
    absl::StrAppend(&shown, " <", std::exchange(caller.denied_by, {}), ">");
  }
  WriteCall(text.ToString(), shown);
}

void TextTrace::OnNoReturn() {
  const std::optional<PendingCall> pending = AbandonCall();
  if (pending) WriteCall(pending->text.ToString(), "?");
}

void TextTrace::OnSignal(const siginfo_t& info) {
  file_.Write(absl::StrCat(Prefix(), FormatSignal(info), "\n"));
}

void TextTrace::OnBegin(Beginning /*what*/, std::string_view /*program*/) {}

}  // namespace dunebox::hostcalls
