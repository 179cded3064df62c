#include "runtime/host_layout.h"

#include <sys/personality.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "runtime/maps_line.h"
#include "runtime/text_file.h"

namespace dunebox::runtime {
namespace {

constexpr std::uint64_t kUserHalfEnd = 0x4000'0000'0000;
constexpr rlim_t kFiniteStack = rlim_t{8} << 20;
// Carries the caller's stack limit over the re-execution; its presence says that one was made.
constexpr char kMarker[] = "DUNEBOX_CALLER_STACK_LIMIT";

std::uint64_t caller_stack_limit = 0;

absl::Status Reexecute() {
  rlimit stack;
  if (getrlimit(RLIMIT_STACK, &stack) != 0) return absl::InternalError("getrlimit failed");
  setenv(kMarker, absl::StrCat(stack.rlim_cur).c_str(), 1);
  stack.rlim_cur = std::min(stack.rlim_max, kFiniteStack);
  setrlimit(RLIMIT_STACK, &stack);
  personality(PER_LINUX);

  absl::StatusOr<std::string> command = ReadTextFile("/proc/self/cmdline");
  if (!command.ok()) return command.status();
  std::vector<std::string> words = absl::StrSplit(*command, '\0');
  if (!words.empty()) words.pop_back();  // the text ends with a NUL
  std::vector<char*> argv;
  argv.reserve(words.size() + 1);
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  execv("/proc/self/exe", argv.data());
  return absl::InternalError(absl::StrCat("cannot execute itself again: ", strerror(errno)));
}

}  // namespace

std::optional<std::string> MappingInUserHalf(std::string_view maps) {
  const std::vector<MapsLine> lines = ParseMaps(maps);
  const auto lies_there = [](const MapsLine& line) { return line.start < kUserHalfEnd; };
  const auto found = std::ranges::find_if(lines, lies_there);
  return found != lines.end() ? std::optional<std::string>(found->text) : std::nullopt;
}

absl::Status EnsureUserHalfIsFree() {
  const char* marker = getenv(kMarker);
  const bool reexecuted = marker != nullptr;
  if (reexecuted) {
    if (!absl::SimpleAtoi(marker, &caller_stack_limit)) caller_stack_limit = 0;
    unsetenv(kMarker);
  }
  const absl::StatusOr<std::string> maps = ReadTextFile("/proc/self/maps");
  if (!maps.ok()) return maps.status();
  const std::optional<std::string> mapping = MappingInUserHalf(*maps);
  if (!mapping) return absl::OkStatus();
  if (!reexecuted) return Reexecute();
  return absl::FailedPreconditionError(absl::StrCat(
      "the kernel put this program where guests live (", *mapping,
      "); is vm.legacy_va_layout set, or is this a sanitizer build?"));
}

std::uint64_t CallerStackLimit() {
  if (caller_stack_limit != 0) return caller_stack_limit;
  rlimit stack;
  return getrlimit(RLIMIT_STACK, &stack) == 0 ? stack.rlim_cur : kFiniteStack;
}

}  // namespace dunebox::runtime
