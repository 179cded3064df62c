#include "sandbox/policy/denial_log.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <tuple>
#include <utility>

#include "absl/status/status.h"
#include "sandbox/policy/json_document.h"

namespace dunebox::policy {
namespace {

using nlohmann::json;

struct Field {
  const char* name;
  std::string LoggedDenial::*text;
  bool is_needed;
};
constexpr Field kFields[] = {
    {"program", &LoggedDenial::program, false}, {"call", &LoggedDenial::call, false},
    {"action", &LoggedDenial::action, true},    {"object", &LoggedDenial::object, true},
    {"cure", &LoggedDenial::cure, false},
};

absl::StatusOr<LoggedDenial> ReadLine(std::string_view line, const std::string& place) {
  absl::StatusOr<json> value = ParseJson(line, place);
  if (!value.ok()) return value.status();
  if (!value->is_object()) {
    return absl::InvalidArgumentError(fmt::format("{}: an object is expected", place));
  }
  LoggedDenial denial;
  for (const Field& field : kFields) {
    const auto found = value->find(field.name);
    if (found == value->end() && !field.is_needed) continue;
    if (found == value->end() || !found->is_string()) {
      return absl::InvalidArgumentError(
          fmt::format("{}: a string \"{}\" is expected", place, field.name));
    }
    denial.*field.text = found->get<std::string>();
  }
  return denial;
}

}  // namespace

absl::StatusOr<std::vector<LoggedDenial>> ReadDenials(std::string_view text,
                                                      std::string_view file) {
  std::vector<LoggedDenial> denials;
  std::map<std::tuple<std::string, std::string, std::string, std::string>, std::size_t> known;
  for (int number = 1; !text.empty(); ++number) {
    const std::size_t end = text.find('\n');
    if (end == std::string_view::npos) break;
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end + 1);
    if (line.empty()) continue;
    absl::StatusOr<LoggedDenial> denial = ReadLine(line, fmt::format("{}:{}", file, number));
    if (!denial.ok()) return denial.status();
    const auto [place, is_new] = known.try_emplace(
        {denial->program, denial->call, denial->action, denial->object}, denials.size());
    if (is_new) {
      denials.push_back(*std::move(denial));
    } else {
      ++denials[place->second].count;
    }
  }
  return denials;
}

}  // namespace dunebox::policy
