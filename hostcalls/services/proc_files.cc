#include "hostcalls/services/proc_files.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>

#include "absl/strings/str_cat.h"
#include "hostcalls/policy/object_name.h"
#include "hostcalls/services/file_rules.h"
#include "hostcalls/services/limits.h"
#include "hostcalls/services/reserved_fd.h"
#include "hostcalls/services/support.h"

namespace dunebox::hostcalls {
namespace {

using policy::kGone;

struct ProcRule {
  std::string_view name;
  ProcAnswer own;
  ProcAnswer other;
};

constexpr ProcRule kProcessRules[] = {
#define PROC_RULE(name, own, other, why) {name, ProcAnswer::own, ProcAnswer::other},
#include "hostcalls/services/proc_rules.inc"
#undef PROC_RULE
};

// Files outside the directories of processes that show physical memory, the runtime's included.
constexpr std::string_view kPhysicalMemory[] = {"kcore", "vmcore", "kpagecount", "kpageflags",
                                                "kpagecgroup"};

constexpr std::string_view kBelowProc = "/proc/";

// Takes "name" off the front of "name/rest".
std::string_view TakeComponent(std::string_view& path) {
  const std::string_view component = path.substr(0, path.find('/'));
  path.remove_prefix(std::min(path.size(), component.size() + 1));
  return component;
}

}  // namespace

int ParseProcNumber(std::string_view text) {
  int number = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  // The kernel knows no other spelling ("+5", "05") of its entries.
  const bool plain = error == std::errc() && end == text.data() + text.size() && number >= 0 &&
                     (text.size() == 1 || text.front() != '0');
  return plain ? number : -1;
}

std::string_view ProcLocation::name() const {
  std::string_view rest = entry;
  return TakeComponent(rest);
}

int ProcLocation::descriptor() const {
  std::string_view rest = entry;
  const std::string_view directory = TakeComponent(rest);
  return directory == "fd" || directory == "fdinfo" ? ParseProcNumber(rest) : -1;
}

ProcLocation ParseProcPath(std::string_view path) {
  ProcLocation location{.on_proc = true};
  // An entry of a process that has gone; the name in front of this is still what it was.
  if (path.ends_with(kGone)) path.remove_suffix(kGone.size());
  if (path == "/proc") {
    location.known = true;
    return location;
  }
  if (!path.starts_with(kBelowProc)) return location;
  path.remove_prefix(kBelowProc.size());
  location.known = true;
  std::string_view rest = path;
  const int process = ParseProcNumber(TakeComponent(rest));
  if (process < 0) {
    location.entry = std::string(path);
    return location;
  }
  location.id = process;
  std::string_view below_task = rest;
  if (TakeComponent(below_task) == "task") {
    const int thread = ParseProcNumber(TakeComponent(below_task));
    if (thread >= 0) {
      location.id = thread;
      rest = below_task;
    }
  }
  location.entry = std::string(rest);
  return location;
}

namespace {

CopyResult<bool> IsOnProc(int fd) {
  struct statfs file_system {};
  if (fstatfs(fd, &file_system) != 0) return LastErrno();
  return file_system.f_type == PROC_SUPER_MAGIC;
}

}  // namespace

CopyResult<ProcLocation> LocateByName(int fd, std::string_view name) {
  const CopyResult<bool> on_proc = IsOnProc(fd);
  if (!on_proc.ok()) return on_proc.error();
  return *on_proc ? ParseProcPath(name) : ProcLocation{};
}

CopyResult<ProcLocation> Locate(const Caller& caller, int fd) {
  const CopyResult<bool> on_proc = IsOnProc(fd);
  if (!on_proc.ok()) return on_proc.error();
  if (!*on_proc) return ProcLocation{};
  CopyResult<std::string> name = ObjectName(caller.reserved, fd);
  if (!name.ok() || name->empty()) return Errno{EACCES};
  return ParseProcPath(*name);
}

ProcAnswer DecideProc(const ProcLocation& location, bool own) {
  if (!location.on_proc) return ProcAnswer::kPass;
  if (!location.known) return ProcAnswer::kRefuse;
  const std::string_view name = location.name();
  if (location.id == 0) {
    const bool physical = std::ranges::find(kPhysicalMemory, name) != std::end(kPhysicalMemory);
    if (physical) return ProcAnswer::kRefuse;
    return location.entry == "cpuinfo" ? ProcAnswer::kProcessors : ProcAnswer::kPass;
  }
  if (name.empty()) return ProcAnswer::kPass;  // the directory of the process
  for (const ProcRule& rule : kProcessRules) {
    if (rule.name == name) return own ? rule.own : rule.other;
  }
  return ProcAnswer::kRefuse;
}

std::string ProcText(const ProcessView& process, ProcAnswer answer) {
  switch (answer) {
    case ProcAnswer::kMaps:
      return process.FormatMaps();
    case ProcAnswer::kEnvironment:
      return process.Environment();
    case ProcAnswer::kAuxiliaryVector:
      return process.AuxiliaryVector();
    case ProcAnswer::kCommandLine:
      return process.CommandLine();
    case ProcAnswer::kPass:
    case ProcAnswer::kRefuse:
    case ProcAnswer::kStatus:
    case ProcAnswer::kProcessors:
      break;
  }
  return "";
}

// The fields of /proc/<pid>/stat that hold addresses, counted from 1. [proc(5)]
enum StatField : int {
  kStartCode = 26,
  kEndCode = 27,
  kStartStack = 28,
  kStackPointer = 29,
  kProgramCounter = 30,
  kStartData = 45,
  kEndEnvironment = 51,  // all between these two: data, heap, arguments, environment
};

// The last address of the mapping called [stack], where a garbage collector starts to look.
std::uint64_t StackStart(std::string_view maps) {
  while (!maps.empty()) {
    const std::string_view line = maps.substr(0, maps.find('\n'));
    maps.remove_prefix(std::min(maps.size(), line.size() + 1));
    const std::size_t dash = line.find('-');
    if (!line.ends_with("[stack]") || dash == std::string_view::npos) continue;
    std::uint64_t end = 0;
    const std::string_view digits = line.substr(dash + 1, line.find(' ') - dash - 1);
    std::from_chars(digits.data(), digits.data() + digits.size(), end, 16);
    return end < sizeof(std::uint64_t) ? 0 : end - sizeof(std::uint64_t);
  }
  return 0;
}

std::string HideAddresses(std::string_view text, std::string_view maps) {
  // The second field is a name in brackets with anything in it.
  const std::size_t name_end = text.rfind(')');
  if (name_end == std::string_view::npos) return "";
  std::string shown(text.substr(0, name_end + 1));
  int field = 2;
  std::string_view rest = text.substr(name_end + 1);
  while (!rest.empty()) {
    rest.remove_prefix(1);  // the blank, or the end of the line
    const std::string_view value = rest.substr(0, rest.find_first_of(" \n"));
    if (value.empty()) break;
    rest.remove_prefix(value.size());
    ++field;
    const bool address = (field >= kStartCode && field <= kProgramCounter) ||
                         (field >= kStartData && field <= kEndEnvironment);
    if (!address) {
      absl::StrAppend(&shown, " ", absl::string_view(value.data(), value.size()));
    } else {
      absl::StrAppend(&shown, " ", field == kStartStack ? StackStart(maps) : 0);
    }
  }
  return shown + "\n";
}

// "flags\t\t: fpu vme ..." and "vmx flags\t: ...".
std::string HideFlags(std::string_view text, std::span<const std::string> hidden) {
  std::string shown;
  shown.reserve(text.size());
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    const std::size_t colon = line.find(':');
    const bool has_flags = colon != std::string_view::npos && line.substr(0, colon).find("flags") != std::string_view::npos;
    std::string_view words = has_flags ? line.substr(colon + 1) : std::string_view();
    shown += line.substr(0, line.size() - words.size());
    while (!words.empty()) {
      words.remove_prefix(1);  // the blank
      const std::string_view word = words.substr(0, words.find(' '));
      words.remove_prefix(word.size());
      if (std::ranges::find(hidden, word) != hidden.end()) continue;
      shown += ' ';
      shown += word;
    }
    shown += '\n';
  }
  return shown;
}

bool IsMagicLink(const ProcLocation& directory, std::string_view name) {
  if (!directory.known || directory.id == 0) return false;
  if (directory.entry.empty()) return name == "exe" || name == "cwd" || name == "root";
  return directory.entry == "fd" || directory.entry == "ns" || directory.entry == "map_files";
}

bool IsOfReserved(const ProcLocation& location, ReservedDescriptors reserved) {
  const int descriptor = location.descriptor();
  return descriptor >= 0 && reserved.Contains(static_cast<std::uint64_t>(descriptor));
}

std::string ExecutableLink(pid_t process, ReservedDescriptors reserved) {
  return absl::StrCat(process, "/fd/", NumberOf(ReservedSlot::kExecutable, reserved));
}

// Without rules hardly anybody asks.
DescriptorPlace PlaceOf(const Caller& caller, int fd) {
  const pid_t thread = HasFileRules(caller) ? caller.LoneThread() : 0;
  const int directory = thread != 0 ? caller.limits.DescriptorsOf(thread) : -1;
  if (directory >= 0) return {.directory = directory, .name = absl::StrCat(fd)};
  return {.directory = NumberOf(ReservedSlot::kProc, caller.reserved), .name = DescriptorLink(fd)};
}

std::string DescriptorLink(int fd) { return absl::StrCat("thread-self/fd/", fd); }

}  // namespace dunebox::hostcalls
