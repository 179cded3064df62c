#include "sandbox/cli/oci_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <optional>

#include "runtime/limits/session_limits.h"

namespace dunebox::cli {
namespace {

using oci::Action;
using oci::Command;

constexpr std::uint64_t kMostPreserved = 1024;

std::string RefuseSystemd(Command&, const std::string&) {
  return "systemd's control groups are not supported; use the engine's cgroupfs manager";
}

std::string SetPreserved(Command& command, const std::string& value) {
  const std::optional<std::uint64_t> number = runtime::ParseCount(value);
  if (!number || *number > kMostPreserved) {
    return fmt::format("'{}' is not a number from 0 to {}", value, kMostPreserved);
  }
  command.preserved_descriptors = static_cast<int>(*number);
  return {};
}

std::string SetCgroupManager(Command& command, const std::string& value) {
  command.no_cgroups = value == "disabled";
  return {};
}

template <std::string Command::*member>
std::string SetText(Command& command, const std::string& value) {
  command.*member = value;
  return {};
}

template <bool Command::*member>
std::string SetFlag(Command& command, const std::string&) {
  command.*member = true;
  return {};
}

std::string Accept(Command&, const std::string&) { return {}; }

struct OptionSetter {
  std::string_view name;
  std::string (*set)(Command&, const std::string&);
};
constexpr OptionSetter kSetters[] = {
    {"--root", SetText<&Command::root>},
    {"--log", SetText<&Command::log>},
    {"--log-format",
     [](Command& command, const std::string& value) {
       command.log_format = value == "json" ? oci::LogFormat::kJson : oci::LogFormat::kText;
       return std::string();
     }},
    {"--cgroup-manager", SetCgroupManager},
    {"--systemd-cgroup", RefuseSystemd},
    {"--debug", Accept},
    {"--bundle", SetText<&Command::bundle>},
    {"--pid-file", SetText<&Command::pid_file>},
    {"--console-socket", SetText<&Command::console_socket>},
    {"--preserve-fds", SetPreserved},
    {"--no-pivot",
     [](Command&, const std::string&) {
       return std::string("not supported: without pivot_root the old root could be reached");
     }},
    {"--no-new-keyring", Accept},
    {"--all", SetFlag<&Command::all>},
    {"--force", SetFlag<&Command::force>},
    {"--format",
     [](Command& command, const std::string& value) {
       command.json = value == "json";
       return std::string();
     }},
};

struct ActionRow {
  std::string_view name;
  Action action;
  std::size_t least, most;  // operands
};
constexpr ActionRow kActions[] = {
    {"oci create", Action::kCreate, 1, 1}, {"oci start", Action::kStart, 1, 1},
    {"oci state", Action::kState, 1, 1},   {"oci kill", Action::kKill, 1, 2},
    {"oci delete", Action::kDelete, 1, 1}, {"oci run", Action::kRun, 1, 1},
    {"oci list", Action::kList, 0, 0},     {"oci features", Action::kFeatures, 0, 0},
};

}  // namespace

std::string SetOciOption(std::string_view name, const std::string& value, Command& command) {
  const auto* const row = std::ranges::find(kSetters, name, &OptionSetter::name);
  const std::string error = row->set(command, value);
  return error.empty() ? "" : fmt::format("{}: {}", name, error);
}

std::string SetOciOperands(std::string_view name, std::span<const std::string> words,
                           Command& command) {
  const auto* const row = std::ranges::find(kActions, name, &ActionRow::name);
  command.action = row->action;
  if (words.size() < row->least) return "no container's id given";
  if (words.size() > row->most) return fmt::format("unexpected argument '{}'", words[row->most]);
  if (!words.empty()) command.id = words[0];
  if (words.size() > 1) command.signal = words[1];
  return {};
}

std::string OciVersionText() {
  return fmt::format("dunebox version {}\nspec: {}\n", DUNEBOX_VERSION, oci::kSpecVersion);
}

}  // namespace dunebox::cli
