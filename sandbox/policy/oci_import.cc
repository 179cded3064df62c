#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <optional>
#include <span>
#include <utility>

#include "absl/status/status.h"
#include "hostcalls/table/table.h"
#include "sandbox/policy/json_document.h"
#include "sandbox/policy/oci_seccomp.h"
#include "sandbox/policy/quoted.h"

namespace dunebox::policy {
namespace {

using hostcalls::policy::ArgumentCondition;
using hostcalls::policy::CallAction;
using hostcalls::policy::CallRule;
using hostcalls::policy::Comparison;
using nlohmann::json;

constexpr std::string_view kArchitecture = "SCMP_ARCH_X86_64";
constexpr std::string_view kArchitectureOfEngines = "amd64";
constexpr std::uint64_t kGreatestErrno = 4095;
constexpr std::uint16_t kEperm = 1;
constexpr std::uint64_t kGreatestArgument = 5;

// ---- Words --------------------------------------------------------------------------------------

struct ActionName {
  std::string_view name;
  CallAction action;
  std::string_view note;
};
constexpr ActionName kActions[] = {
#define OCI_ACTION(name, action, note) {name, CallAction::action, note},
#include "sandbox/policy/oci_names.inc"
};

constexpr std::pair<std::string_view, std::string_view> kRefusedActions[] = {
#define OCI_REFUSED_ACTION(name, reason) {name, reason},
#include "sandbox/policy/oci_names.inc"
};

constexpr std::pair<std::string_view, Comparison> kComparisons[] = {
#define OCI_COMPARISON(name, comparison) {name, Comparison::comparison},
#include "sandbox/policy/oci_names.inc"
};

constexpr std::string_view kSectionNames[] = {
    "defaultAction", "defaultErrnoRet", "architectures",    "archMap",
    "flags",         "listenerPath",    "listenerMetadata", "syscalls"};
constexpr std::string_view kEntryNames[] = {"names", "name",     "action",   "errnoRet",
                                            "args",  "includes", "excludes", "comment"};
constexpr std::string_view kArgumentNames[] = {"index", "value", "valueTwo", "op"};
constexpr std::string_view kConditionNames[] = {"caps", "arches", "minKernel"};

// What an action is with its error number.
struct Verdict {
  CallAction action = CallAction::kAllow;
  std::uint16_t error = kEperm;

  bool operator==(const Verdict& other) const {
    return action == other.action && (action != CallAction::kError || error == other.error);
  }
};

// ---- Values -------------------------------------------------------------------------------------

// A value and the path of names and numbers that leads to it.
struct Place {
  const json& value;
  std::string path;

  Place At(std::size_t index) const { return {value[index], fmt::format("{}/{}", path, index)}; }
};

class Importer {
 public:
  Importer(std::string_view file, const OciContext& context) : file_(file), context_(context) {}

  absl::StatusOr<CallRules> Import(const json& document);

 private:
  absl::Status Error(const Place& place, std::string_view reason) const {
    return absl::InvalidArgumentError(fmt::format("{}: {}", Named(place), reason));
  }
  void Note(const Place& place, std::string_view what) {
    result_.notes.push_back(fmt::format("{}: {}", Named(place), what));
  }
  std::string Named(const Place& place) const {
    return fmt::format("{}{}{}", file_, place.path.empty() ? "" : ": ", place.path);
  }
  void NoteUnknownNames(const Place& object, std::span<const std::string_view> known);

  std::optional<Place> Find(const Place& object, std::string_view name) const;
  absl::StatusOr<Place> Need(const Place& object, std::string_view name) const;
  absl::StatusOr<std::string> Text(const Place& place) const;
  absl::StatusOr<std::uint64_t> Number(const Place& place, std::uint64_t greatest) const;
  // None where `name` is not there.
  absl::StatusOr<std::vector<std::string>> Texts(const Place& object, std::string_view name) const;

  absl::StatusOr<Verdict> ReadVerdict(const Place& object, std::string_view action_name,
                                      std::string_view error_name);
  absl::Status ReadArchitectures(const Place& section);
  absl::StatusOr<bool> IsKernelAtLeast(const Place& version) const;
  absl::StatusOr<bool> Applies(const Place& entry);
  absl::StatusOr<ArgumentCondition> ReadCondition(const Place& argument);
  absl::StatusOr<std::vector<ArgumentCondition>> ReadConditions(const Place& entry);
  absl::StatusOr<std::vector<std::uint16_t>> ReadCalls(const Place& entry);
  absl::Status ReadEntry(const Place& entry);
  absl::Status ReadSection(const Place& section);
  void LetUnconditionalDecide();

  const std::string_view file_;
  const OciContext& context_;
  Verdict default_;
  CallRules result_;
};

std::optional<Place> Importer::Find(const Place& object, std::string_view name) const {
  const auto found = object.value.find(std::string(name));
  // Encoders of the format write null for what is not set.
  if (found == object.value.end() || found->is_null()) return std::nullopt;
  return Place{*found, fmt::format("{}/{}", object.path, name)};
}

absl::StatusOr<Place> Importer::Need(const Place& object, std::string_view name) const {
  const std::optional<Place> found = Find(object, name);
  if (!found) return Error(object, fmt::format("\"{}\" is missing", name));
  return *found;
}

absl::StatusOr<std::string> Importer::Text(const Place& place) const {
  if (!place.value.is_string()) return Error(place, "a string is expected");
  return place.value.get<std::string>();
}

absl::StatusOr<std::uint64_t> Importer::Number(const Place& place, std::uint64_t greatest) const {
  if (!place.value.is_number_unsigned()) return Error(place, "a whole number is expected");
  const auto number = place.value.get<std::uint64_t>();
  if (number > greatest) return Error(place, fmt::format("{} is more than {}", number, greatest));
  return number;
}

absl::StatusOr<std::vector<std::string>> Importer::Texts(const Place& object,
                                                         std::string_view name) const {
  std::vector<std::string> texts;
  const std::optional<Place> list = Find(object, name);
  if (!list) return texts;
  if (!list->value.is_array()) return Error(*list, "a list is expected");
  for (std::size_t i = 0; i < list->value.size(); ++i) {
    absl::StatusOr<std::string> text = Text(list->At(i));
    if (!text.ok()) return text.status();
    texts.push_back(*std::move(text));
  }
  return texts;
}

void Importer::NoteUnknownNames(const Place& object, std::span<const std::string_view> known) {
  for (const auto& item : object.value.items()) {
    if (std::ranges::find(known, std::string_view(item.key())) != known.end()) continue;
    Note(object, fmt::format("unknown name {}, without effect", Quoted(item.key())));
  }
}

// ---- Actions ------------------------------------------------------------------------------------

absl::StatusOr<Verdict> Importer::ReadVerdict(const Place& object, std::string_view action_name,
                                              std::string_view error_name) {
  const absl::StatusOr<Place> place = Need(object, action_name);
  if (!place.ok()) return place.status();
  const absl::StatusOr<std::string> name = Text(*place);
  if (!name.ok()) return name.status();
  for (const auto& [refused, reason] : kRefusedActions) {
    if (*name == refused)
      return Error(*place, fmt::format("{} is not supported: {}", *name, reason));
  }
  const auto* const row = std::ranges::find(kActions, std::string_view(*name), &ActionName::name);
  if (row == std::end(kActions)) {
    return Error(*place, fmt::format("unknown action {}", Quoted(*name)));
  }
  if (!row->note.empty()) Note(*place, fmt::format("{}: {}", *name, row->note));

  Verdict verdict{.action = row->action};
  const std::optional<Place> error = Find(object, error_name);
  if (!error) return verdict;
  if (row->action != CallAction::kError) {
    return Error(*error, fmt::format("only SCMP_ACT_ERRNO takes an error, not {}", *name));
  }
  const absl::StatusOr<std::uint64_t> number = Number(*error, kGreatestErrno);
  if (!number.ok()) return number.status();
  if (*number == 0) return Error(*error, "0 would report success for a call that is not made");
  verdict.error = static_cast<std::uint16_t>(*number);
  return verdict;
}

// ---- Which entries count ------------------------------------------------------------------------

absl::Status Importer::ReadArchitectures(const Place& section) {
  absl::StatusOr<std::vector<std::string>> names = Texts(section, "architectures");
  if (!names.ok()) return names.status();
  if (const std::optional<Place> map = Find(section, "archMap")) {
    if (!names->empty()) return Error(*map, "only one of archMap and architectures may be there");
    if (!map->value.is_array()) return Error(*map, "a list is expected");
    for (std::size_t i = 0; i < map->value.size(); ++i) {
      const Place row = map->At(i);
      if (!row.value.is_object()) return Error(row, "an object is expected");
      const absl::StatusOr<Place> architecture = Need(row, "architecture");
      if (!architecture.ok()) return architecture.status();
      absl::StatusOr<std::string> name = Text(*architecture);
      if (!name.ok()) return name.status();
      names->push_back(*std::move(name));
    }
  }
  // Without a list it is for the machine's own.
  if (names->empty() || std::ranges::find(*names, kArchitecture) != names->end()) {
    return absl::OkStatus();
  }
  return Error(section, fmt::format("not for this machine: {} is not among its architectures",
                                    kArchitecture));
}

absl::StatusOr<bool> Importer::IsKernelAtLeast(const Place& version) const {
  const absl::StatusOr<std::string> text = Text(version);
  if (!text.ok()) return text.status();
  unsigned major_part = 0, minor_part = 0;
  const char* const end = text->data() + text->size();
  const auto [dot, major_error] = std::from_chars(text->data(), end, major_part);
  if (major_error == std::errc{} && dot != end && *dot == '.') {
    const auto [stop, minor_error] = std::from_chars(dot + 1, end, minor_part);
    if (minor_error == std::errc{} && stop == end) {
      return std::pair(context_.kernel_major, context_.kernel_minor) >=
             std::pair(major_part, minor_part);
    }
  }
  return Error(version, "a version such as \"4.8\" is expected");
}

absl::StatusOr<bool> Importer::Applies(const Place& entry) {
  for (const bool include : {false, true}) {
    const std::optional<Place> filter = Find(entry, include ? "includes" : "excludes");
    if (!filter) continue;
    if (!filter->value.is_object()) return Error(*filter, "an object is expected");
    NoteUnknownNames(*filter, kConditionNames);
    const absl::StatusOr<std::vector<std::string>> arches = Texts(*filter, "arches");
    if (!arches.ok()) return arches.status();
    const absl::StatusOr<std::vector<std::string>> caps = Texts(*filter, "caps");
    if (!caps.ok()) return caps.status();

    if (!arches->empty()) {
      const bool is_ours = std::ranges::find(*arches, kArchitectureOfEngines) != arches->end();
      if (is_ours != include) return false;
    }
    // Every included capability has to be there, and none of the excluded ones.
    for (const std::string& capability : *caps) {
      const auto& ours = context_.capabilities;
      const bool has_it = std::ranges::find(ours, capability) != ours.end();
      if (has_it != include) return false;
    }
    if (const std::optional<Place> version = Find(*filter, "minKernel")) {
      const absl::StatusOr<bool> is_new = IsKernelAtLeast(*version);
      if (!is_new.ok()) return is_new.status();
      if (*is_new != include) return false;
    }
  }
  return true;
}

// ---- Entries ------------------------------------------------------------------------------------

absl::StatusOr<ArgumentCondition> Importer::ReadCondition(const Place& argument) {
  if (!argument.value.is_object()) return Error(argument, "an object is expected");
  NoteUnknownNames(argument, kArgumentNames);
  constexpr std::uint64_t kAnyValue = std::numeric_limits<std::uint64_t>::max();
  std::array<std::uint64_t, 2> needed{};  // index, value
  for (const std::size_t i : {0u, 1u}) {
    const absl::StatusOr<Place> place = Need(argument, kArgumentNames[i]);
    if (!place.ok()) return place.status();
    const absl::StatusOr<std::uint64_t> number =
        Number(*place, i == 0 ? kGreatestArgument : kAnyValue);
    if (!number.ok()) return number.status();
    needed[i] = *number;
  }
  std::uint64_t value_two = 0;
  if (const std::optional<Place> place = Find(argument, "valueTwo")) {
    const absl::StatusOr<std::uint64_t> number = Number(*place, kAnyValue);
    if (!number.ok()) return number.status();
    value_two = *number;
  }
  const absl::StatusOr<Place> place = Need(argument, "op");
  if (!place.ok()) return place.status();
  const absl::StatusOr<std::string> name = Text(*place);
  if (!name.ok()) return name.status();
  const auto* const row = std::ranges::find(kComparisons, std::string_view(*name),
                                            &std::pair<std::string_view, Comparison>::first);
  if (row == std::end(kComparisons)) {
    return Error(*place, fmt::format("unknown comparison {}", Quoted(*name)));
  }
  ArgumentCondition condition{.argument = static_cast<std::uint8_t>(needed[0]),
                              .comparison = row->second,
                              .value = needed[1]};
  if (row->second == Comparison::kMaskedEqual) {
    condition.mask = needed[1];
    condition.value = value_two;
  }
  return condition;
}

absl::StatusOr<std::vector<ArgumentCondition>> Importer::ReadConditions(const Place& entry) {
  std::vector<ArgumentCondition> conditions;
  const std::optional<Place> arguments = Find(entry, "args");
  if (!arguments) return conditions;
  if (!arguments->value.is_array()) return Error(*arguments, "a list is expected");
  for (std::size_t i = 0; i < arguments->value.size(); ++i) {
    const absl::StatusOr<ArgumentCondition> condition = ReadCondition(arguments->At(i));
    if (!condition.ok()) return condition.status();
    conditions.push_back(*condition);
  }
  return conditions;
}

absl::StatusOr<std::vector<std::uint16_t>> Importer::ReadCalls(const Place& entry) {
  absl::StatusOr<std::vector<std::string>> names = Texts(entry, "names");
  if (!names.ok()) return names.status();
  if (const std::optional<Place> name = Find(entry, "name")) {
    if (!names->empty()) return Error(*name, "only one of name and names may be there");
    absl::StatusOr<std::string> text = Text(*name);
    if (!text.ok()) return text.status();
    names->push_back(*std::move(text));
  }
  if (names->empty()) return Error(entry, "it names no call");

  std::vector<std::uint16_t> numbers;
  std::vector<std::string> unknown;
  for (const std::string& name : *names) {
    const hostcalls::Row* const row = hostcalls::FindRow(std::string_view(name));
    if (row != nullptr) {
      numbers.push_back(row->number);
    } else {
      unknown.push_back(Escaped(name));
    }
  }
  if (!unknown.empty()) {
    Note(entry, fmt::format("no calls of this machine, left out: {}", fmt::join(unknown, ", ")));
  }
  return numbers;
}

// Two conditions on one argument are alternatives: a habit of the engines, kept since profiles
// that list the allowed values of an argument rely on it.
std::vector<std::vector<ArgumentCondition>> Alternatives(
    const std::vector<ArgumentCondition>& conditions) {
  std::array<bool, kGreatestArgument + 1> is_used{};
  bool has_twice = false;
  for (const ArgumentCondition& condition : conditions) {
    has_twice |= std::exchange(is_used[condition.argument], true);
  }
  if (!has_twice) return {conditions};
  std::vector<std::vector<ArgumentCondition>> alternatives;
  alternatives.reserve(conditions.size());
  for (const ArgumentCondition& condition : conditions) alternatives.push_back({condition});
  return alternatives;
}

absl::Status Importer::ReadEntry(const Place& entry) {
  if (!entry.value.is_object()) return Error(entry, "an object is expected");
  NoteUnknownNames(entry, kEntryNames);
  // All of it is checked, also where it turns out to be without effect here.
  const absl::StatusOr<std::vector<std::uint16_t>> calls = ReadCalls(entry);
  if (!calls.ok()) return calls.status();
  const absl::StatusOr<Verdict> verdict = ReadVerdict(entry, "action", "errnoRet");
  if (!verdict.ok()) return verdict.status();
  const absl::StatusOr<std::vector<ArgumentCondition>> conditions = ReadConditions(entry);
  if (!conditions.ok()) return conditions.status();
  const absl::StatusOr<bool> applies = Applies(entry);
  if (!applies.ok()) return applies.status();

  if (!*applies) return absl::OkStatus();
  if (*verdict == default_) {
    Note(entry, "its action is the default's: without effect");
    return absl::OkStatus();
  }
  if (result_.origins.size() > std::numeric_limits<hostcalls::policy::Origin>::max()) {
    return Error(entry, "too many entries");
  }
  const auto origin = static_cast<hostcalls::policy::Origin>(result_.origins.size());
  result_.origins.push_back(Named(entry));
  for (const std::uint16_t number : *calls) {
    for (auto& alternative : Alternatives(*conditions)) {
      result_.rules.push_back({.number = number,
                               .action = verdict->action,
                               .error = verdict->error,
                               .conditions = std::move(alternative),
                               .origin = origin});
    }
  }
  return absl::OkStatus();
}

// Of each call: the first rule without conditions makes the others meaningless.
void Importer::LetUnconditionalDecide() {
  std::ranges::stable_sort(result_.rules, {}, &CallRule::number);
  std::vector<CallRule> kept;
  for (auto begin = result_.rules.begin(); begin != result_.rules.end();) {
    const auto end = std::find_if(begin, result_.rules.end(), [&](const CallRule& rule) {
      return rule.number != begin->number;
    });
    const auto whole =
        std::find_if(begin, end, [](const CallRule& rule) { return rule.conditions.empty(); });
    if (whole == end) {
      std::move(begin, end, std::back_inserter(kept));
    } else {
      kept.push_back(std::move(*whole));
    }
    begin = end;
  }
  result_.rules = std::move(kept);
}

absl::Status Importer::ReadSection(const Place& section) {
  NoteUnknownNames(section, kSectionNames);
  const absl::StatusOr<Verdict> verdict = ReadVerdict(section, "defaultAction", "defaultErrnoRet");
  if (!verdict.ok()) return verdict.status();
  default_ = *verdict;
  result_.default_action = default_.action;
  result_.default_error = default_.error;
  if (absl::Status status = ReadArchitectures(section); !status.ok()) return status;
  for (const std::string_view name : {"flags", "listenerPath", "listenerMetadata"}) {
    if (const std::optional<Place> place = Find(section, name)) Note(*place, "has no effect here");
  }
  const std::optional<Place> entries = Find(section, "syscalls");
  if (!entries) return absl::OkStatus();
  if (!entries->value.is_array()) return Error(*entries, "a list is expected");
  for (std::size_t i = 0; i < entries->value.size(); ++i) {
    if (absl::Status status = ReadEntry(entries->At(i)); !status.ok()) return status;
  }
  LetUnconditionalDecide();
  return absl::OkStatus();
}

absl::StatusOr<CallRules> Importer::Import(const json& document) {
  const Place root{document, ""};
  if (!document.is_object()) {
    return absl::InvalidArgumentError(fmt::format("{}: an object is expected", file_));
  }
  // A whole configuration, or the section alone.
  if (const std::optional<Place> linux_part = Find(root, "linux")) {
    if (!linux_part->value.is_object()) return Error(*linux_part, "an object is expected");
    const absl::StatusOr<Place> seccomp = Need(*linux_part, "seccomp");
    if (!seccomp.ok()) return seccomp.status();
    if (!seccomp->value.is_object()) return Error(*seccomp, "an object is expected");
    if (absl::Status status = ReadSection(*seccomp); !status.ok()) return status;
    return std::move(result_);
  }
  if (absl::Status status = ReadSection(root); !status.ok()) return status;
  return std::move(result_);
}

}  // namespace

absl::StatusOr<CallRules> ImportOciSeccomp(std::string_view text, std::string_view file,
                                           const OciContext& context) {
  const absl::StatusOr<json> document = ParseJson(text, file);
  if (!document.ok()) return document.status();
  return Importer(file, context).Import(*document);
}

}  // namespace dunebox::policy
