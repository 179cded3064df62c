#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <compare>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/doctor/checks.h"
#include "runtime/doctor/host_file.h"

namespace dunebox::doctor {
namespace {

struct Version {
  int major = 0;
  int minor = 0;
  auto operator<=>(const Version&) const = default;
};

// The kernel of Debian 12, and the oldest one that Dunebox is tested on.
constexpr Version kOldestTestedKernel = {6, 1};

// "6.1.0-18-amd64" -> {6, 1}
std::optional<Version> ParseRelease(std::string_view release) {
  Version version;
  const char* end = release.data() + release.size();
  const auto major = std::from_chars(release.data(), end, version.major);
  if (major.ptr == release.data() || major.ptr == end || *major.ptr != '.') return std::nullopt;
  const auto minor = std::from_chars(major.ptr + 1, end, version.minor);
  if (minor.ptr == major.ptr + 1) return std::nullopt;
  return version;
}

std::string_view Trimmed(std::string_view text) {
  constexpr std::string_view kBlank = " \t";
  const std::size_t first = text.find_first_not_of(kBlank);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlank) - first + 1);
}

// The value of the first "key : value" line; empty when there is none.
std::string CpuinfoValue(const Host& host, std::string_view key) {
  const std::string text = HostFileText(host.cpuinfo_path);
  std::string_view rest = text;
  while (!rest.empty()) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos || Trimmed(line.substr(0, colon)) != key) continue;
    return std::string(Trimmed(line.substr(colon + 1)));
  }
  return {};
}

bool HasFlag(std::string_view flags, std::string_view flag) {
  return fmt::format(" {} ", flags).find(fmt::format(" {} ", flag)) != std::string::npos;
}

}  // namespace

Check CheckKernel(const Host& host) {
  const KernelIdentity kernel = host.kernel();
  Check check{.name = "kernel",
              .found = fmt::format("Linux {} {}", kernel.release, kernel.machine)};
  const std::optional<Version> version = ParseRelease(kernel.release);
  if (kernel.machine != "x86_64") {
    check.state = State::kMissing;
    check.advice = "Dunebox runs x86-64 programs on x86-64 kernels only";
  } else if (!version || *version < kOldestTestedKernel) {
    check.state = State::kWarning;
    check.advice = fmt::format("use Linux {}.{} or newer, the oldest one Dunebox is tested on",
                               kOldestTestedKernel.major, kOldestTestedKernel.minor);
  }
  return check;
}

Check CheckProcessor(const Host& host) {
  Check check{.name = "processor", .found = CpuinfoValue(host, "model name")};
  if (check.found.empty()) {
    check.state = State::kWarning;
    check.found = fmt::format("unknown: no model name in {}", host.cpuinfo_path);
    check.advice = "mount /proc";
  }
  return check;
}

Check CheckProcessorFeatures(const Host& host) {
  constexpr std::array<std::string_view, 4> kWanted = {"fsgsbase", "avx512f", "pku", "ospke"};
  const std::string flags = CpuinfoValue(host, "flags");
  std::vector<std::string_view> present;
  std::vector<std::string_view> absent;
  for (const std::string_view flag : kWanted) {
    (HasFlag(flags, flag) ? present : absent).push_back(flag);
  }
  Check check{.name = "processor features", .found = fmt::format("{}", fmt::join(present, " "))};
  if (!absent.empty()) {
    check.found += fmt::format("{}absent: {}", present.empty() ? "" : "; ", fmt::join(absent, " "));
  }
  if (!HasFlag(flags, "fsgsbase")) {
    check.state = State::kWarning;
    check.advice = "fsgsbase: boot Linux 5.9 or newer without 'nofsgsbase'";
  } else if (HasFlag(flags, "pku") && !HasFlag(flags, "ospke")) {
    check.state = State::kWarning;
    check.advice =
        "the processor has protection keys, the kernel does not use them: boot without "
        "'nopku'";
  }
  return check;
}

Check CheckVirtualizationFlags(const Host& host) {
  Check check{.name = "virtualization"};
  const std::string flags = CpuinfoValue(host, "flags");
  if (HasFlag(flags, "vmx")) {
    check.found = "vmx (Intel VT-x)";
  } else if (HasFlag(flags, "svm")) {
    check.found = "svm (AMD-V)";
  } else {
    check.state = State::kWarning;
    check.found = "neither vmx nor svm: a /dev/kvm here is not hardware virtualization";
    check.advice =
        "on a physical machine turn on VT-x or AMD-V in its firmware; in a virtual "
        "machine turn on nested virtualization on its host";
  }
  return check;
}

}  // namespace dunebox::doctor
