#include "runtime/process/denial_report.h"

#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "hostcalls/trace/format.h"
#include "hostcalls/trace/json.h"
#include "hostcalls/trace/text.h"
#include "hostcalls/trace/write_line.h"
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

// Where the call was made: the address, and the place in a file when it is one's.
std::string PlaceOf(GuestThread& thread) {
  const std::uint64_t at = thread.registers.rip - kSyscallLength;
  std::string text = absl::StrFormat("0x%x", at);
  thread.owner.space().WithVma(GuestVirt{at}, [&](const memory::Vma* vma) {
    if (vma == nullptr || vma->backing == nullptr || vma->backing->name.empty()) return;
    const std::uint64_t offset = at - vma->range.start.value + vma->offset;
    absl::StrAppend(&text, " ", Escape(LastName(vma->backing->name)),
                    absl::StrFormat("+0x%x", offset));
  });
  return text;
}

// Origin 0 is also what has no rule at all.
std::string RuleText(const hostcalls::policy::Rules& rules, const Denial& denial) {
  if (denial.origin == 0) return "none allows it";
  return absl::StrCat("forbidden by ", Escape(rules.OriginText(denial.origin)));
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
  const std::uint64_t hash =
      std::hash<std::string_view>{}(denial.object) * 31 +
      std::hash<std::string_view>{}(denial.action) + 1;
  return told_[hash % told_.size()].exchange(hash) != hash;
}

void DenialReport::OnDenial(hostcalls::Caller& caller, const Denial& denial, bool audited) {
  GuestThread& thread = GuestThread::From(caller);
  const hostcalls::policy::Rules& rules = session_.rules;
  const std::string object = Escape(denial.object);
  const std::string rule = RuleText(rules, denial);
  const std::string program = thread.owner.executable_path();
  const std::string call = CallOf(thread);
  caller.denied_by = absl::StrCat(audited ? "audit: " : "", "policy: ", rule);
  if (session_.denials_fd >= 0) {
    const std::string line = hostcalls::JsonObject()
                                 .Number("pid", getpid())
                                 .Text("program", Escape(program))
                                 .Text("call", call.substr(0, call.find('(')))
                                 .Text("action", denial.action)
                                 .Text("object", object)
                                 .Text("arguments", call)
                                 .Text("rule", rule)
                                 .Text("cure", Escape(denial.cure))
                                 .Value("audited", audited ? "true" : "false")
                                 .Take();
    hostcalls::WriteLine(session_.denials_fd, line + "\n");
  }
  if (session_.report_fd < 0 || !IsNew(denial)) return;
  if (!limit_.Take(Now())) {
    left_out_.fetch_add(1);
    return;
  }
  std::string block;
  if (const std::uint64_t others = left_out_.exchange(0); others != 0) {
    absl::StrAppend(&block, "dunebox: denied: ", others, " more, not told one by one\n");
  }
  absl::StrAppend(&block, "dunebox: ", audited ? "audit: would deny: " : "denied: ",
                  Escape(LastName(program)), " (pid ", getpid(), ") ", call, "\n");
  absl::StrAppend(&block, "  ", std::string(denial.action), " ", object, "; rule: ", rule, "\n");
  absl::StrAppend(&block, "  at ", PlaceOf(thread), "\n");
  if (!denial.cure.empty()) {
    absl::StrAppend(&block, "  to allow it: ", Escape(denial.cure), "\n");
  }
  hostcalls::WriteLine(session_.report_fd, block);
}

}  // namespace dunebox::process
