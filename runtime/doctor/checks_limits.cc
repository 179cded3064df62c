#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/personality.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/doctor/checks.h"
#include "runtime/doctor/host_file.h"
#include "runtime/host_layout.h"

namespace dunebox::doctor {
namespace {

// 4,096 for the program and some for the runtime above them.
constexpr rlim_t kEnoughFiles = 4096 + 64;
// The kernel's default. Program and runtime share it.
constexpr long kUsualMappings = 65530;
// Programs own the user half of the addresses, from here up.
constexpr long kUserHalfBegin = 65536;

std::string LimitText(rlim_t value) {
  return value == RLIM_INFINITY ? "unlimited" : std::to_string(value);
}

struct PersonalityFlag {
  std::uint32_t bit;
  std::string_view name;
};
// Those that move mappings or change their rights. [linux/personality]
constexpr std::array<PersonalityFlag, 5> kDisturbingFlags = {{
    {ADDR_COMPAT_LAYOUT, "ADDR_COMPAT_LAYOUT"},
    {READ_IMPLIES_EXEC, "READ_IMPLIES_EXEC"},
    {MMAP_PAGE_ZERO, "MMAP_PAGE_ZERO"},
    {ADDR_LIMIT_32BIT, "ADDR_LIMIT_32BIT"},
    {ADDR_LIMIT_3GB, "ADDR_LIMIT_3GB"},
}};

}  // namespace

Check CheckOpenFiles(const Host& host) {
  const rlimit files = host.limit(RLIMIT_NOFILE);
  Check check{.name = "open files",
              .found = fmt::format("limit {}, can be raised to {}", LimitText(files.rlim_cur),
                                   LimitText(files.rlim_max))};
  if (files.rlim_max < kEnoughFiles) {
    check.state = State::kWarning;
    check.advice = fmt::format("raise the hard limit to {} or more: ulimit -Hn", kEnoughFiles);
  }
  return check;
}

Check CheckMappingCount(const Host& host) {
  Check check{.name = "mappings"};
  const std::optional<long> count = HostFileNumber(host.sysctl_directory + "/vm/max_map_count");
  if (!count) {
    check.state = State::kWarning;
    check.found = "vm.max_map_count cannot be read";
    check.advice = "mount /proc";
    return check;
  }
  check.found = fmt::format("vm.max_map_count is {}", *count);
  if (*count < kUsualMappings) {
    check.state = State::kWarning;
    check.advice = fmt::format("as root: sysctl -w vm.max_map_count={}", kUsualMappings);
  }
  return check;
}

Check CheckStackLimit(const Host& host) {
  const rlimit stack = host.limit(RLIMIT_STACK);
  Check check{.name = "stack limit", .found = LimitText(stack.rlim_cur)};
  if (stack.rlim_cur == RLIM_INFINITY) {
    check.state = State::kWarning;
    check.found += ": the kernel then lays out addresses from the bottom up";
    check.advice = "ulimit -s 8192; without it a run executes itself again with a finite limit";
  } else {
    check.found = fmt::format("{} KiB", stack.rlim_cur / 1024);
  }
  return check;
}

Check CheckAddressLayout(const Host& host) {
  std::vector<std::string> problems;
  std::vector<std::string> cures;
  const auto note = [&](std::string problem, std::string cure) {
    problems.push_back(std::move(problem));
    if (std::ranges::find(cures, cure) == cures.end()) cures.push_back(std::move(cure));
  };
  const std::uint32_t personality = host.personality();
  for (const PersonalityFlag& flag : kDisturbingFlags) {
    if ((personality & flag.bit) == 0) continue;
    note(fmt::format("personality {}", flag.name), "run it without setarch");
  }
  if (HostFileNumber(host.sysctl_directory + "/vm/legacy_va_layout") == 1) {
    note("vm.legacy_va_layout is 1", "as root: sysctl -w vm.legacy_va_layout=0");
  }
  const long lowest = HostFileNumber(host.sysctl_directory + "/vm/mmap_min_addr").value_or(0);
  if (lowest > kUserHalfBegin) {
    note(fmt::format("vm.mmap_min_addr is {}", lowest),
         fmt::format("as root: sysctl -w vm.mmap_min_addr={}", kUserHalfBegin));
  }
  const std::optional<std::string> intruder =
      runtime::MappingInUserHalf(HostFileText(host.maps_path));
  if (intruder) {
    note(fmt::format("the kernel puts Dunebox where programs live ({})",
                     intruder->substr(0, intruder->find(' '))),
         "a run executes itself again with a finite stack and the usual personality, and says so "
         "when that does not help");
  }
  if (problems.empty()) return {.name = "address layout", .found = "as usual"};
  return {.name = "address layout",
          .state = State::kWarning,
          .found = fmt::format("{}", fmt::join(problems, "; ")),
          .advice = fmt::format("{}", fmt::join(cures, "; "))};
}

}  // namespace dunebox::doctor
