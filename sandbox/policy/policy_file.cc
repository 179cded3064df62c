#include "sandbox/policy/policy_file.h"

#include <algorithm>
#include <optional>
#include <sstream>
#include <utility>
#include <vector>

#define TOML_HEADER_ONLY 1
#define TOML_EXCEPTIONS 0
#define TOML_ENABLE_FORMATTERS 0
#include <toml++/toml.h>

#include "absl/strings/str_cat.h"
#include "hostcalls/table/table.h"
#include "runtime/text_file.h"
#include "sandbox/policy/oci_seccomp.h"
#include "sandbox/policy/quoted.h"
#include "sandbox/policy/settings.h"
#include "sandbox/policy/suggestion.h"
#include "sandbox/policy/toml_characters.h"

namespace dunebox::policy {
namespace {

constexpr std::string_view kOciEnding = ".json";

// Keys, and tables of them.
std::vector<std::string> AllNames() {
  std::vector<std::string> names;
  for (const SettingRow& row : Settings()) {
    if (row.shape == Shape::kAlias) continue;
    names.emplace_back(row.key);
    if (const std::size_t dot = row.key.find('.'); dot != std::string_view::npos) {
      names.emplace_back(row.key.substr(0, dot));
    }
  }
  return names;
}

// Somebody who knows the flags may write their names.
std::string Suggestion(const std::string& key) {
  const SettingRow* const row = FindSettingOfFlag("--" + key.substr(key.rfind('.') + 1));
  if (row == nullptr) return DidYouMean(key, AllNames());
  return absl::StrCat("; did you mean '", std::string(row->key), "'?");
}

// Is `name` a table with keys of settings in it?
bool IsTableOfKeys(const std::string& name) {
  return std::ranges::any_of(Settings(), [&](const SettingRow& row) {
    return row.key.size() > name.size() && row.key.starts_with(name) && row.key[name.size()] == '.';
  });
}

std::string_view ExpectedBy(Shape shape) {
  switch (shape) {
    case Shape::kBoolean:
      return "true or false";
    case Shape::kText:
      return "a string";
    case Shape::kNumber:
      return "a whole number";
    case Shape::kSize:
      return "a whole number or a string as \"64M\"";
    case Shape::kList:
    case Shape::kAlias:
      return "a string or an array of strings";
  }
  __builtin_unreachable();
}

std::string_view NameOf(toml::node_type type) {
  switch (type) {
    case toml::node_type::table:
      return "a table";
    case toml::node_type::array:
      return "an array";
    case toml::node_type::string:
      return "a string";
    case toml::node_type::integer:
      return "a whole number";
    case toml::node_type::floating_point:
      return "a number with a fraction";
    case toml::node_type::boolean:
      return "true or false";
    case toml::node_type::none:
    case toml::node_type::date:
    case toml::node_type::time:
    case toml::node_type::date_time:
      return "a date or time";
  }
  __builtin_unreachable();
}

// What a setting is told; nothing when the value is of another type.
std::optional<std::string> WordOf(const toml::node& node, Shape shape) {
  const bool takes_text = shape == Shape::kText || shape == Shape::kSize || shape == Shape::kList;
  const bool takes_number = shape == Shape::kNumber || shape == Shape::kSize;
  if (const auto* text = node.as_string(); text != nullptr && takes_text) return text->get();
  if (const auto* number = node.as_integer(); number != nullptr && takes_number) {
    return absl::StrCat(number->get());
  }
  if (const auto* boolean = node.as_boolean(); boolean != nullptr && shape == Shape::kBoolean) {
    return std::string(boolean->get() ? kTrue : kFalse);
  }
  return std::nullopt;
}

class Reader {
 public:
  Reader(Policy& policy, const std::string& name) : policy_(policy), name_(name) {}

  absl::Status ReadTable(const toml::table& table, const std::string& prefix) {
    for (const toml::node* node : InOrder(table)) {
      const auto item = std::ranges::find_if(
          table, [&](const auto& candidate) { return &candidate.second == node; });
      const std::string key = absl::StrCat(prefix, std::string(item->first.str()));
      if (absl::Status status = ReadKey(key, item->first.source(), *node); !status.ok()) {
        return status;
      }
    }
    return absl::OkStatus();
  }

  absl::Status Error(const toml::source_region& place, std::string_view reason) const {
    return absl::InvalidArgumentError(absl::StrCat(name_, ":", place.begin.line, ":",
                                                   place.begin.column, ": ", std::string(reason)));
  }

 private:
  // The library sorts by name; of two rules the later counts.
  static std::vector<const toml::node*> InOrder(const toml::table& table) {
    std::vector<const toml::node*> nodes;
    for (const auto& [key, node] : table) nodes.push_back(&node);
    std::ranges::sort(nodes, [](const toml::node* a, const toml::node* b) {
      const toml::source_position& left = a->source().begin;
      const toml::source_position& right = b->source().begin;
      return left.line != right.line ? left.line < right.line : left.column < right.column;
    });
    return nodes;
  }

  absl::Status ReadKey(const std::string& key, const toml::source_region& place,
                       const toml::node& node) {
    const SettingRow* const row = FindSettingOfKey(key);
    if (row != nullptr) return ReadSetting(*row, node);
    if (!IsTableOfKeys(key)) {
      return Error(place, absl::StrCat("unknown key '", Escaped(key), "'", Suggestion(key)));
    }
    const toml::table* const table = node.as_table();
    if (table != nullptr) return ReadTable(*table, key + ".");
    return Error(node.source(), absl::StrCat(key, " is a table, as in [", key, "], and not ",
                                             std::string(NameOf(node.type()))));
  }

  absl::Status ReadSetting(const SettingRow& row, const toml::node& node) {
    const toml::array* const array = node.as_array();
    if (array == nullptr || row.shape != Shape::kList) return ReadValue(row, node);
    for (const toml::node& element : *array) {
      if (absl::Status status = ReadValue(row, element); !status.ok()) return status;
    }
    return absl::OkStatus();
  }

  absl::Status ReadValue(const SettingRow& row, const toml::node& node) {
    const std::string key(row.key);
    const std::optional<std::string> word = WordOf(node, row.shape);
    if (!word) {
      return Error(node.source(), absl::StrCat(key, " is ", std::string(ExpectedBy(row.shape)),
                                               ", and not ", std::string(NameOf(node.type()))));
    }
    if (word->find('\0') != std::string::npos) {
      return Error(node.source(), absl::StrCat(key, ": has a NUL in it"));
    }
    const OriginText origin = absl::StrCat(name_, ":", node.source().begin.line);
    const absl::Status status = Set(policy_, row.id, {&*word, 1}, origin);
    if (status.ok()) return status;
    return Error(node.source(), absl::StrCat(key, ": ", status.message()));
  }

  Policy& policy_;
  const std::string& name_;
};

}  // namespace

absl::Status AddPolicyText(Policy& policy, std::string_view text, const std::string& name) {
  if (text.size() > kMostPolicyBytes) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": is larger than 1 MiB"));
  }
  if (const std::optional<TextPlace> stray = FindStrayCharacter(text)) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ":", stray->line, ":", stray->column,
                     ": a character that is not ASCII stands only in strings and comments"));
  }
  const toml::parse_result result = toml::parse(text, std::string_view(name));
  Reader reader(policy, name);
  if (!result) {
    return reader.Error(result.error().source(), Escaped(result.error().description()));
  }
  return reader.ReadTable(result.table(), "");
}

absl::Status AddOciText(Policy& policy, std::string_view text, const std::string& name,
                        std::vector<std::string>* notes) {
  absl::StatusOr<CallRules> imported = ImportOciSeccomp(text, name, OciContext{});
  if (!imported.ok()) return imported.status();
  policy.default_call = {imported->default_action, name};
  policy.default_call_error = imported->default_error;
  for (hostcalls::policy::CallRule& rule : imported->rules) {
    policy.calls.push_back({.calls = hostcalls::FindRow(std::uint64_t{rule.number})->name,
                            .action = rule.action,
                            .error = rule.error,
                            .conditions = std::move(rule.conditions),
                            .origin = imported->origins[rule.origin]});
  }
  if (notes != nullptr) *notes = std::move(imported->notes);
  return absl::OkStatus();
}

absl::Status AddPolicyFile(Policy& policy, const std::string& path,
                           std::vector<std::string>* notes) {
  absl::StatusOr<std::string> text = runtime::ReadTextFile(path);
  if (!text.ok()) return text.status();
  if (path.ends_with(kOciEnding)) return AddOciText(policy, *text, path, notes);
  return AddPolicyText(policy, *text, path);
}

}  // namespace dunebox::policy
