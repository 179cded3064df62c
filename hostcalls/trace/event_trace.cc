#include "hostcalls/trace/event_trace.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "hostcalls/trace/json.h"
#include "hostcalls/trace/text.h"

namespace dunebox::hostcalls {
namespace {

// Of a line's PIPE_BUF bytes, what the values of all arguments may take; the rest is for names and
// the other members. Each argument may have its share, and what those before it left.
constexpr std::size_t kRoomForArguments = 3000;
constexpr std::size_t kShare = kRoomForArguments / kMaxArguments;

EventOrigin OriginAt(std::uint64_t time) { return {getpid(), gettid(), time}; }

bool IsDecimal(ArgumentKind kind) {
  switch (kind) {
    case ArgumentKind::kInt:
    case ArgumentKind::kUnsigned:
    case ArgumentKind::kFd:
    case ArgumentKind::kDirFd:
    case ArgumentKind::kPid:
    case ArgumentKind::kSize:
    case ArgumentKind::kOffset:
      return true;
    default:
      return false;
  }
}

bool IsNumber(std::string_view text) {
  if (text.starts_with('-')) text.remove_prefix(1);
  return !text.empty() && std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
}

// `text` is as the text trace shows it.
std::string ArgumentAsJson(ArgumentKind kind, std::string_view text, std::size_t limit) {
  constexpr std::string_view kMore = "...";  // behind the quote, as Quote() writes it
  if (text == "NULL") return "null";
  if (IsDecimal(kind) && IsNumber(text)) return std::string(text);
  const bool is_string = kind == ArgumentKind::kPath || kind == ArgumentKind::kString;
  const bool is_buffer = kind == ArgumentKind::kBufferIn || kind == ArgumentKind::kBufferOut;
  if (!is_string && !is_buffer) return JsonText(text, limit);
  if (!text.starts_with('"')) return JsonObject().Text("address", text).Take();
  text.remove_prefix(1);
  const bool has_more = text.ends_with(kMore);
  if (has_more) text.remove_suffix(kMore.size());
  text.remove_suffix(1);
  if (!has_more) return JsonText(text, limit);
  // As where the line has no room: with an ellipsis that is no byte of the program's.
  std::string json = JsonText(text, limit - kEllipsisBytes);
  json.pop_back();
  return absl::StrCat(json, json.ends_with("\\u2026") ? "\"" : "\\u2026\"");
}

}  // namespace

std::string ArgumentsAsJson(const Row* row, const CallText& text) {
  JsonObject object;
  const std::span<const std::string> arguments = text.arguments();
  std::size_t room = kRoomForArguments;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const ArgumentKind kind = row == nullptr ? ArgumentKind::kHex : row->arguments[i].kind;
    const std::size_t others = kShare * (arguments.size() - i - 1);
    const std::string value = ArgumentAsJson(kind, arguments[i], room - others);
    room -= std::min(value.size(), room - others);
    object.Value(row == nullptr ? absl::StrCat("arg", i) : row->arguments[i].name, value);
  }
  return object.Take();
}

std::string ResultAsJson(const Row* row, const std::optional<SyscallResult>& result) {
  if (!result || result->is_registers_set() || result->is_restart()) return "null";
  if (!result->ok()) return "-1";
  if (ReturnsAddress(row)) return JsonText(absl::StrFormat("0x%x", result->ToRegister()));
  return absl::StrCat(result->value());
}

void EventTrace::OnEnter(Caller& caller, const Row* row, const Request& request) {
  CallText text(caller.memory, row, request);
  EnterCall({&caller, request, std::move(text), MonotonicNow()});
  if (NeverReturns(row)) OnNoReturn();
}

void EventTrace::OnExit(Caller& caller, const Row* row, const Request& request,
                        SyscallResult result) {
  const std::uint64_t end = MonotonicNow();
  std::optional<PendingCall> pending = LeaveCall(caller, request);
  // An execve that was announced as one without return, and did: its time is not known any more.
  if (!pending) pending = PendingCall{&caller, request, {caller.memory, row, request}, end};
  pending->text.AddOutputs(caller.memory, row, request, result);
  file_.Write(FormatCall({.origin = OriginAt(pending->start),
                             .row = row,
                             .number = request.number,
                             .text = pending->text,
                             .duration = end - pending->start,
                             .result = result,
                             .denied_by = std::exchange(caller.denied_by, {})}));
}

void EventTrace::OnNoReturn() {
  const std::uint64_t end = MonotonicNow();
  const std::optional<PendingCall> pending = AbandonCall();
  if (!pending) return;
  file_.Write(FormatCall({.origin = OriginAt(pending->start),
                             .row = FindRow(pending->request.number),
                             .number = pending->request.number,
                             .text = pending->text,
                             .duration = end - pending->start,
                             .result = std::nullopt,
                             .denied_by = {}}));
}

void EventTrace::OnSignal(const siginfo_t& info) {
  file_.Write(FormatSignal(OriginAt(MonotonicNow()), info));
}

void EventTrace::OnBegin(Beginning what, std::string_view program) {
  file_.Write(FormatBegin(OriginAt(MonotonicNow()), what, program));
}

}  // namespace dunebox::hostcalls
