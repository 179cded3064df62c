#include "sandbox/policy/settings.h"

#include <algorithm>
#include <charconv>
#include <iterator>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "hostcalls/errors/message.h"
#include "runtime/limits/session_limits.h"
#include "sandbox/policy/call_rule_text.h"
#include "sandbox/policy/mechanisms.h"
#include "sandbox/policy/presets.h"
#include "sandbox/policy/quoted.h"
#include "sandbox/policy/suggestion.h"

namespace dunebox::policy {
namespace {

using hostcalls::policy::FileRights;
using hostcalls::policy::kAllRights;
using hostcalls::policy::kReadFile;
using hostcalls::policy::kReadOnly;
using hostcalls::policy::kWriteFile;

using Words = std::span<const std::string>;

absl::Status Bad(const std::string& word, std::string_view what_it_is_not) {
  return errors::Named(errors::Id::kBadRule, absl::InvalidArgumentError(absl::StrCat(
                                                 "'", Escaped(word), "' ", std::string(what_it_is_not))));
}

absl::Status NotOneOf(const std::string& word, const std::vector<std::string_view>& names) {
  const std::vector<std::string> known(names.begin(), names.end());
  return Bad(word,
             absl::StrCat("is not one of ", absl::StrJoin(known, ", "), DidYouMean(word, known)));
}

absl::Status SetFlag(std::optional<OriginText>& flag, const std::string& word,
                     const OriginText& origin) {
  flag = word == kTrue ? std::optional(origin) : std::nullopt;
  return absl::OkStatus();
}

// ---- Files --------------------------------------------------------------------------------------

absl::Status AddFile(Policy& policy, FileRule rule) {
  if (rule.source.empty()) return Bad(rule.source, "is no path");
  if (!rule.target.empty() && rule.target.front() != '/') {
    return Bad(rule.target, "is not an absolute path");
  }
  policy.files.push_back(std::move(rule));
  return absl::OkStatus();
}

// "PATH" or "PATH:AT"; AT begins with a slash. A path with ":/" in it needs --ro-bind or --bind.
absl::Status AddTree(Policy& policy, const std::string& word, FileRights rights,
                     const OriginText& origin) {
  FileRule rule{.source = word, .rights = rights, .origin = origin};
  if (const std::size_t colon = word.rfind(":/"); colon != std::string::npos) {
    rule.source = word.substr(0, colon);
    rule.target = word.substr(colon + 1);
  }
  return AddFile(policy, std::move(rule));
}

absl::Status AddRead(Policy& policy, Words words, const OriginText& origin) {
  return AddTree(policy, words[0], kReadOnly, origin);
}

absl::Status AddWrite(Policy& policy, Words words, const OriginText& origin) {
  return AddTree(policy, words[0], kAllRights, origin);
}

absl::Status AddBind(Policy& policy, Words words, FileRights rights, const OriginText& origin) {
  if (words[1].empty()) return Bad(words[1], "is not an absolute path");
  return AddFile(policy,
                 {.source = words[0], .target = words[1], .rights = rights, .origin = origin});
}

absl::Status AddReadBind(Policy& policy, Words words, const OriginText& origin) {
  return AddBind(policy, words, kReadOnly, origin);
}

absl::Status AddWriteBind(Policy& policy, Words words, const OriginText& origin) {
  return AddBind(policy, words, kAllRights, origin);
}

// "SRC:DEST[:ro|:rw]"
absl::Status AddVolume(Policy& policy, Words words, const OriginText& origin) {
  std::string word = words[0];
  FileRights rights = kAllRights;
  if (absl::EndsWith(word, ":ro")) rights = kReadOnly;
  if (absl::EndsWith(word, ":ro") || absl::EndsWith(word, ":rw")) word.resize(word.size() - 3);
  if (word.find(":/") == std::string::npos) return Bad(words[0], "is not SRC:DEST[:ro]");
  return AddTree(policy, word, rights, origin);
}

absl::Status AddTmpfs(Policy& policy, Words words, const OriginText& origin) {
  const std::string& word = words[0];
  FileRule rule{.kind = TreeKind::kTmpfs, .target = word, .rights = kAllRights, .origin = origin};
  if (const std::size_t colon = word.rfind(':'); colon != std::string::npos) {
    const std::optional<std::uint64_t> size = runtime::ParseSize(word.substr(colon + 1));
    if (!size || *size == 0) return Bad(word.substr(colon + 1), "is not a size, as in 64M");
    rule.target = word.substr(0, colon);
    rule.size = *size;
  }
  if (rule.target.empty() || rule.target.front() != '/') {
    return Bad(rule.target, "is not an absolute path");
  }
  policy.files.push_back(std::move(rule));
  return absl::OkStatus();
}

absl::Status AddHidden(Policy& policy, Words words, const OriginText& origin) {
  return AddFile(policy, {.kind = TreeKind::kHidden, .source = words[0], .origin = origin});
}

absl::Status AddDevice(Policy& policy, Words words, const OriginText& origin) {
  const bool leads_out = absl::StrContains(absl::StrCat(words[0], "/"), "/../");
  if (!absl::StartsWith(words[0], "/dev/") || leads_out) return Bad(words[0], "is not a file of /dev");
  return AddFile(policy, {.source = words[0], .rights = kReadFile | kWriteFile, .origin = origin});
}

// ---- Network ------------------------------------------------------------------------------------

constexpr std::pair<std::string_view, NetworkKind> kNetworkWords[] = {
    {"none", NetworkKind::kNone},
    {"loopback", NetworkKind::kLoopback},
    {"host", NetworkKind::kHost},
    {"unix", NetworkKind::kUnix},
};

std::optional<std::uint16_t> ParsePort(std::string_view text) {
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (error != std::errc() || end != text.data() + text.size() || port == 0) return std::nullopt;
  return port;
}

// "443", "8000-8010", "*"
bool ParsePorts(std::string_view text, NetworkRule& rule) {
  if (text == "*") {
    rule.first_port = 0;
    rule.last_port = 65535;
    return true;
  }
  const std::size_t dash = text.find('-');
  const std::optional<std::uint16_t> first = ParsePort(text.substr(0, dash));
  const std::optional<std::uint16_t> last =
      dash == std::string_view::npos ? first : ParsePort(text.substr(dash + 1));
  if (!first || !last || *first > *last) return false;
  rule.first_port = *first;
  rule.last_port = *last;
  return true;
}

absl::Status AddEndpoint(Policy& policy, const std::string& word, NetworkRule rule) {
  const std::string rest = word.substr(word.find(':') + 1);
  const std::size_t colon = rest.rfind(':');
  if (colon == std::string::npos && rule.kind == NetworkKind::kConnect) {
    return Bad(word, "is not tcp:HOST:PORT");
  }
  rule.host = colon == std::string::npos ? std::string("*") : rest.substr(0, colon);
  if (rule.host.size() > 2 && rule.host.front() == '[' && rule.host.back() == ']') {
    rule.host = rule.host.substr(1, rule.host.size() - 2);
  } else if (rule.host.find(':') != std::string::npos) {
    return Bad(word, "needs brackets around an address with colons: [::1]");
  }
  if (rule.host.empty()) return Bad(word, "names no host");
  const std::string ports = colon == std::string::npos ? rest : rest.substr(colon + 1);
  if (!ParsePorts(ports, rule)) {
    return Bad(ports, "is not a port from 1 to 65535, a range N-M or *");
  }
  policy.network.push_back(std::move(rule));
  return absl::OkStatus();
}

absl::Status AddNetwork(Policy& policy, Words words, const OriginText& origin) {
  const std::string& word = words[0];
  for (const auto& [name, kind] : kNetworkWords) {
    if (name != word) continue;
    // Takes back what was said before: a flag can shut what a file opens.
    if (kind == NetworkKind::kNone) policy.network.clear();
    policy.network.push_back({.kind = kind, .origin = origin});
    return absl::OkStatus();
  }
  if (absl::StartsWith(word, "tcp:")) {
    return AddEndpoint(policy, word, {.kind = NetworkKind::kConnect, .origin = origin});
  }
  if (absl::StartsWith(word, "listen:")) {
    return AddEndpoint(policy, word, {.kind = NetworkKind::kListen, .origin = origin});
  }
  return Bad(word, "is not one of none, loopback, host, unix, tcp:HOST:PORT, listen:PORT");
}

// ---- System calls -------------------------------------------------------------------------------

absl::Status AddCall(Policy& policy, Words words, const OriginText& origin) {
  absl::StatusOr<CallRuleText> rule = ParseCallRule(words[0]);
  if (!rule.ok()) return rule.status();
  for (const std::string& calls : rule->calls) {
    policy.calls.push_back({.calls = calls,
                            .action = rule->verdict.action,
                            .error = rule->verdict.error,
                            .conditions = rule->conditions,
                            .origin = origin});
  }
  return absl::OkStatus();
}

absl::Status SetDefaultCall(Policy& policy, Words words, const OriginText& origin) {
  absl::StatusOr<CallVerdict> verdict = ParseVerdict(words[0]);
  if (!verdict.ok()) return verdict.status();
  policy.default_call = {verdict->action, origin};
  policy.default_call_error = verdict->error;
  return absl::OkStatus();
}

// ---- Surroundings -------------------------------------------------------------------------------

absl::Status AddEnvironment(Policy& policy, Words words, const OriginText& origin) {
  const std::string& entry = words[0];
  if (entry.empty() || entry.front() == '=') return Bad(entry, "has no name of a variable");
  policy.environment.push_back({entry, origin});
  return absl::OkStatus();
}

absl::Status ClearEnvironment(Policy& policy, Words words, const OriginText& origin) {
  return SetFlag(policy.clear_environment, words[0], origin);
}

absl::Status SetDirectory(Policy& policy, Words words, const OriginText& origin) {
  if (words[0].empty()) return Bad(words[0], "is not a directory");
  policy.directory = {words[0], origin};
  return absl::OkStatus();
}

constexpr std::size_t kMostHostname = 64;  // [linux] __NEW_UTS_LEN

absl::Status SetHostname(Policy& policy, Words words, const OriginText& origin) {
  const std::string& name = words[0];
  const bool printable = std::ranges::all_of(name, [](char c) { return c > ' ' && c < '\x7f'; });
  if (name.empty() || name.size() > kMostHostname || !printable) {
    return Bad(name, "is not a host name of 1 to 64 characters");
  }
  policy.hostname = {name, origin};
  return absl::OkStatus();
}

constexpr runtime::LimitRange<std::uint64_t> kIdRange{0, 0xFFFF'FFFE};  // -1 means "no change"

absl::Status SetId(MaybeStated<std::uint32_t>& id, const std::string& word,
                   const OriginText& origin) {
  const std::optional<std::uint64_t> number = runtime::ParseCount(word);
  if (!number || !kIdRange.Contains(*number)) {
    return Bad(word, absl::StrCat("is not a number from 0 to ", kIdRange.most));
  }
  id = {static_cast<std::uint32_t>(*number), origin};
  return absl::OkStatus();
}

absl::Status SetUid(Policy& policy, Words words, const OriginText& origin) {
  return SetId(policy.uid, words[0], origin);
}

absl::Status SetGid(Policy& policy, Words words, const OriginText& origin) {
  return SetId(policy.gid, words[0], origin);
}

// ---- Limits -------------------------------------------------------------------------------------

absl::Status SetDuration(MaybeStated<std::chrono::milliseconds>& limit, const std::string& word,
                         const OriginText& origin) {
  const std::optional<std::chrono::milliseconds> time = runtime::ParseDuration(word);
  if (!time || !runtime::kTimeRange.Contains(*time)) {
    return Bad(word, "is not a whole number with ms, s, m or h, from 1ms to 8760h");
  }
  limit = {*time, origin};
  return absl::OkStatus();
}

using CountRange = runtime::LimitRange<std::uint64_t>;

absl::Status SetSize(MaybeStated<std::uint64_t>& limit, const std::string& word,
                     const CountRange& range, const OriginText& origin) {
  const std::optional<std::uint64_t> size = runtime::ParseSize(word);
  if (!size || !range.Contains(*size)) {
    return Bad(word, absl::StrCat("is not a whole number of bytes, or of K, M or G, from ",
                                  runtime::FormatSize(range.least), " to ",
                                  runtime::FormatSize(range.most)));
  }
  limit = {*size, origin};
  return absl::OkStatus();
}

absl::Status SetCount(MaybeStated<std::uint64_t>& limit, const std::string& word,
                      const CountRange& range, const OriginText& origin) {
  const std::optional<std::uint64_t> count = runtime::ParseCount(word);
  if (!count || !range.Contains(*count)) {
    return Bad(word, absl::StrCat("is not a number from ", range.least, " to ", range.most));
  }
  limit = {*count, origin};
  return absl::OkStatus();
}

absl::Status SetTime(Policy& policy, Words words, const OriginText& origin) {
  return SetDuration(policy.limits.wall_time, words[0], origin);
}

absl::Status SetCpuTime(Policy& policy, Words words, const OriginText& origin) {
  return SetDuration(policy.limits.cpu_time, words[0], origin);
}

absl::Status SetMemory(Policy& policy, Words words, const OriginText& origin) {
  return SetSize(policy.limits.memory, words[0], runtime::kMemoryRange, origin);
}

absl::Status SetPids(Policy& policy, Words words, const OriginText& origin) {
  return SetCount(policy.limits.tasks, words[0], runtime::kTaskRange, origin);
}

absl::Status SetNofile(Policy& policy, Words words, const OriginText& origin) {
  return SetCount(policy.limits.open_files, words[0], runtime::kOpenFilesRange, origin);
}

absl::Status SetFsize(Policy& policy, Words words, const OriginText& origin) {
  return SetSize(policy.limits.file_size, words[0], runtime::kFileSizeRange, origin);
}

constexpr CountRange kOutputRange{1, std::uint64_t{1} << 40};

absl::Status SetOutput(Policy& policy, Words words, const OriginText& origin) {
  return SetSize(policy.limits.output, words[0], kOutputRange, origin);
}

// ---- Engine and walls ---------------------------------------------------------------------------

constexpr std::pair<std::string_view, runtime::EngineChoice> kEngineWords[] = {
    {"auto", runtime::EngineChoice::kAuto},
    {"kvm", runtime::EngineChoice::kKvm},
    {"jit", runtime::EngineChoice::kJit},
};

absl::Status SetEngine(Policy& policy, Words words, const OriginText& origin) {
  const auto* row = std::ranges::find(kEngineWords, std::string_view(words[0]),
                                      &std::pair<std::string_view, runtime::EngineChoice>::first);
  if (row == std::end(kEngineWords)) return NotOneOf(words[0], {"auto", "kvm", "jit"});
  policy.engine = {row->second, origin};
  return absl::OkStatus();
}

absl::Status SetIsolation(Policy& policy, Words words, const OriginText& origin) {
  const std::optional<jit::Isolation> isolation = jit::IsolationNamed(words[0]);
  if (!isolation && words[0] != "auto") {
    std::vector<std::string_view> names = {"auto"};
    for (const jit::IsolationName& row : jit::kIsolationNames) names.push_back(row.name);
    return NotOneOf(words[0], names);
  }
  policy.isolation = {isolation, origin};
  return absl::OkStatus();
}

// One name, or several with commas between.
absl::Status AddRequired(Policy& policy, Words words, const OriginText& origin) {
  for (const std::string& name : std::vector<std::string>(absl::StrSplit(words[0], ','))) {
    if (name == kSecondWall) {
      policy.required.push_back({.mechanism = std::nullopt, .origin = origin});
      continue;
    }
    const std::optional<confinement::Mechanism> mechanism = MechanismNamed(name);
    if (!mechanism) {
      std::vector<std::string_view> names = {kSecondWall};
      for (const MechanismRow& row : kMechanisms) names.push_back(row.name);
      return NotOneOf(name, names);
    }
    policy.required.push_back({.mechanism = mechanism, .origin = origin});
  }
  return absl::OkStatus();
}

absl::Status SetNoDefaults(Policy& policy, Words words, const OriginText& origin) {
  return SetFlag(policy.no_defaults, words[0], origin);
}

absl::Status SetAudit(Policy& policy, Words words, const OriginText& origin) {
  return SetFlag(policy.audit, words[0], origin);
}

absl::Status SetDieWithParent(Policy& policy, Words words, const OriginText& origin) {
  return SetFlag(policy.die_with_parent, words[0], origin);
}

absl::Status AddPreset(Policy& policy, Words words, const OriginText& origin) {
  if (words[0] == kAllowAll) {
    policy.allow_all = origin;
    return absl::OkStatus();
  }
  return policy::AddPreset(policy, words[0]) ? absl::OkStatus() : NotOneOf(words[0], PresetNames());
}

// ---- The table ----------------------------------------------------------------------------------

using Setter = absl::Status (*)(Policy&, Words, const OriginText&);

constexpr SettingRow kSettings[] = {
#define SETTING(id, flag, key, shape, set) {Setting::id, flag, key, Shape::shape},
#include "sandbox/policy/settings.inc"
#undef SETTING
};

constexpr Setter kSetters[] = {
#define SETTING(id, flag, key, shape, set) set,
#include "sandbox/policy/settings.inc"
#undef SETTING
};

}  // namespace

std::span<const SettingRow> Settings() { return kSettings; }

const SettingRow* FindSettingOfFlag(std::string_view flag) {
  const auto* row = std::ranges::find(kSettings, flag, &SettingRow::flag);
  return row == std::end(kSettings) ? nullptr : row;
}

const SettingRow* FindSettingOfKey(std::string_view key) {
  for (const SettingRow& row : kSettings) {
    if (row.key == key && row.shape != Shape::kAlias) return &row;
  }
  return nullptr;
}

absl::Status Set(Policy& policy, Setting id, std::span<const std::string> words,
                 const OriginText& origin) {
  return kSetters[static_cast<std::size_t>(id)](policy, words, origin);
}

}  // namespace dunebox::policy
