// dunebox_document_syscalls: docs/syscalls.md, written from the system-call table. [generated_page.h]
#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <string_view>

#include "absl/strings/str_replace.h"
#include "hostcalls/generated_page.h"
#include "hostcalls/table/table.h"

namespace dunebox::hostcalls {
namespace {

constexpr Route kRoutes[] = {Route::kForwarded, Route::kHandled, Route::kDenied, Route::kAbsent};
constexpr Family kFamilies[] = {
    Family::kFiles,   Family::kDescriptors, Family::kMemory, Family::kProcess,
    Family::kSignals, Family::kTime,        Family::kFutex,  Family::kSockets,
    Family::kIpc,     Family::kIdentity,    Family::kSystem,
};

std::string_view Meaning(Route route) {
  switch (route) {
    case Route::kForwarded:
      return "The arguments are checked and the host's kernel carries the call out.";
    case Route::kHandled:
      return "The runtime carries it out: with calls of its own, or after a closer look.";
    case Route::kDenied:
      return "`EPERM`, whoever asks: it would give power over the runtime or the machine.";
    case Route::kAbsent:
      return "`ENOSYS`, as on a kernel built without it.";
  }
  return "";
}

std::string_view Title(Family family) {
  switch (family) {
    case Family::kFiles:
      return "Files and directories";
    case Family::kDescriptors:
      return "Descriptors, pipes and polling";
    case Family::kMemory:
      return "Memory";
    case Family::kProcess:
      return "Processes, threads and limits";
    case Family::kSignals:
      return "Signals";
    case Family::kTime:
      return "Clocks and timers";
    case Family::kFutex:
      return "Futexes";
    case Family::kSockets:
      return "Sockets";
    case Family::kIdentity:
      return "Users, groups, capabilities and keys";
    case Family::kIpc:
      return "System V and POSIX inter-process communication";
    case Family::kSystem:
      return "The system as a whole";
  }
  return "";
}

// What the kernel does with the memory behind an argument.
std::string_view Direction(ArgumentKind kind) {
  switch (FactsOf(kind).access) {
    case KernelAccess::kNone:
      return "";
    case KernelAccess::kUnknown:
      return "*";
    case KernelAccess::kIn:
      return "in ";
    case KernelAccess::kOut:
      return "out ";
    case KernelAccess::kInOut:
      return "inout ";
  }
  return "";
}

std::string Signature(const Row& row) {
  std::string text = fmt::format("{}(", row.name);
  for (int i = 0; i < row.argument_count(); ++i) {
    const Argument& argument = row.arguments[static_cast<std::size_t>(i)];
    text += fmt::format("{}{}{}", i == 0 ? "" : ", ", Direction(argument.kind), argument.name);
  }
  return text + ")";
}

constexpr std::string_view kIntroduction =
    R"(<!-- Written by dunebox_document_syscalls from hostcalls/table/syscalls.inc: edit that file and build
     the target `docs`. -->

# System calls

What Dunebox does with each of the {} system calls of Linux 6.18 on x86-64. A number without a row,
the x32 numbers among them, gives `ENOSYS`. A policy can refuse more than this table does, never less.

In the column *call*, `in` is memory that the kernel reads, `out` memory that it writes, `inout`
both; `*` marks an address of which only the runtime's handler knows the meaning. Memory outside the
program's own gives `EFAULT`, a descriptor of the runtime's `EBADF`. When the last column is empty,
nothing is known to be missing.

)";

std::string Totals() {
  std::string text = "| route | calls | meaning |\n|---|---:|---|\n";
  for (const Route route : kRoutes) {
    const auto count =
        std::ranges::count_if(AllRows(), [&](const Row& row) { return row.route == route; });
    text += fmt::format("| {} | {} | {} |\n", ToString(route), count, Meaning(route));
  }
  return text;
}

std::string FamilyTable(Family family) {
  const auto in_family = [&](const Row& row) { return row.family == family; };
  std::string text = fmt::format("\n## {}\n\n{} calls of the family `{}`.\n\n", Title(family),
                                 std::ranges::count_if(AllRows(), in_family), ToString(family));
  text += "| number | call | route | missing or different |\n|---:|---|---|---|\n";
  for (const Row& row : AllRows()) {
    if (!in_family(row)) continue;
    text += fmt::format("| {} | `{}` | {} | {} |\n", row.number, Signature(row),
                        ToString(row.route), absl::StrReplaceAll(row.note, {{"*", "\\*"}}));
  }
  return text;
}

std::string Document() {
  std::string text = fmt::format(kIntroduction, AllRows().size()) + Totals();
  for (const Family family : kFamilies) text += FamilyTable(family);
  return text;
}

}  // namespace
}  // namespace dunebox::hostcalls

int main(int argc, char** argv) {
  return dunebox::WriteGeneratedPage(dunebox::hostcalls::Document(), {argv, static_cast<std::size_t>(argc)});
}
