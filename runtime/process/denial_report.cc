#include "runtime/process/denial_report.h"

#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <optional>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "hostcalls/errors/message.h"
#include "hostcalls/trace/format.h"
#include "hostcalls/trace/json.h"
#include "hostcalls/trace/text.h"
#include "hostcalls/trace/write_line.h"
#include "runtime/process/code_names.h"
#include "runtime/process/guest_thread.h"
#include "runtime/process/process.h"

namespace dunebox::process {
namespace {

using hostcalls::Escape;
using hostcalls::policy::Denial;

constexpr std::uint64_t kSyscallLength = 2;  // 0f 05
constexpr std::size_t kMostCallBytes = 1024;

std::chrono::nanoseconds Now() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
}

std::string_view LastName(std::string_view path) { return path.substr(path.rfind('/') + 1); }

std::string CallOf(const GuestThread& thread) {
  const runtime::Registers& registers = thread.registers;
  const hostcalls::Request request{.number = registers.rax,
                                   .arguments = {registers.rdi, registers.rsi, registers.rdx,
                                                 registers.r10, registers.r8, registers.r9}};
  std::string text =
      hostcalls::CallText(thread.memory, hostcalls::FindRow(request.number), request).ToString();
  if (text.size() > kMostCallBytes) text = text.substr(0, kMostCallBytes) + "...";
  return text;
}

// Origin 0 is also what has no rule at all.
std::string RuleText(const hostcalls::policy::Rules& rules, const Denial& denial) {
  if (denial.origin == 0) return "none allows it";
  return absl::StrCat("forbidden by ", std::string(rules.OriginText(denial.origin)));
}

}  // namespace

bool RateLimit::Take(std::chrono::nanoseconds now) {
  std::int64_t next = next_.load();
  for (;;) {
    if (next - now.count() > room_.count()) return false;
    const std::int64_t after = std::max(next, now.count()) + interval_.count();
    if (next_.compare_exchange_weak(next, after)) return true;
  }
}

// Two denials of one hash are taken for the same: one of them is not told.
bool DenialReport::IsNew(const Denial& denial) {
  const std::uint64_t hash = std::hash<std::string_view>{}(denial.object) * 31 +
                             std::hash<std::string_view>{}(denial.action) + 1;
  return told_[hash % told_.size()].exchange(hash) != hash;
}

std::string DenialBlock(const DenialText& denial, std::uint64_t left_out) {
  std::string block;
  if (left_out != 0) {
    absl::StrAppend(&block, errors::LineOf(errors::Id::kDenied,
                                           absl::StrCat("denied: ", left_out,
                                                        " more, not told one by one")));
  }
  absl::StrAppend(
      &block, errors::LineOf(errors::Id::kDenied,
                             absl::StrCat(denial.audited ? "audit: would deny: " : "denied: ",
                                          Escape(LastName(denial.program)), " (pid ", denial.process,
                                          ") ", denial.call)));
  absl::StrAppend(&block, "  ", denial.action, " ", Escape(denial.object),
                  "; rule: ", Escape(denial.rule), "\n");
  absl::StrAppend(&block, "  at ", Escape(denial.place), "\n");
  if (!denial.cure.empty()) {
    absl::StrAppend(&block, "  to allow it: ", Escape(denial.cure), "\n");
  }
  return block;
}

std::string DenialLine(const DenialText& denial) {
  return hostcalls::JsonObject()
             .Number("pid", denial.process)
             .Text("program", Escape(denial.program))
             .Text("call", denial.call.substr(0, denial.call.find('(')))
             .Text("action", denial.action)
             .Text("object", Escape(denial.object))
             .Text("arguments", denial.call)
             .Text("rule", Escape(denial.rule))
             .Text("cure", Escape(denial.cure))
             .Value("audited", denial.audited ? "true" : "false")
             .Take() +
         "\n";
}

void DenialReport::OnDenial(hostcalls::Caller& caller, const Denial& denial, bool audited) {
  GuestThread& thread = GuestThread::From(caller);
  DenialText text{.process = getpid(),
                  .program = thread.owner.executable_path(),
                  .call = CallOf(thread),
                  .place = "",
                  .action = std::string(denial.action),
                  .object = denial.object,
                  .rule = RuleText(session_.rules, denial),
                  .cure = denial.cure,
                  .audited = audited};
  caller.denied_by = absl::StrCat(audited ? "audit: " : "", "policy: ", Escape(text.rule));
  if (session_.denials_fd >= 0) record_.Write(DenialLine(text));
  // Who has asked for the lines of an audit reads them instead.
  if (audited && session_.denials_fd >= 0) return;
  if (session_.report_fd < 0 || !IsNew(denial)) return;
  if (!limit_.Take(Now())) {
    left_out_.fetch_add(1);
    return;
  }
  text.place = CodeNames(thread).TextAt(thread.registers.rip - kSyscallLength);
  hostcalls::WriteLine(session_.report_fd, DenialBlock(text, left_out_.exchange(0)));
}

}  // namespace dunebox::process
