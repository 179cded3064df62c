#include "sandbox/statistics/summary.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "absl/status/status.h"
#include "sandbox/policy/json_document.h"

namespace dunebox::statistics {
namespace {

using nlohmann::json;

struct Field {
  const char* name;
  std::uint64_t Summary::*sum;
};
constexpr Field kSums[] = {
    {"minor_faults", &Summary::minor_faults}, {"major_faults", &Summary::major_faults},
    {"signals", &Summary::signals},           {"failed_calls", &Summary::failed_calls},
};

std::uint64_t NumberOf(const json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_number_unsigned() ? found->get<std::uint64_t>() : 0;
}

void Add(const json& object, Counts& counts) {
  if (!object.is_object()) return;
  for (const auto& [name, value] : object.items()) {
    if (value.is_number_unsigned()) counts[name] += value.get<std::uint64_t>();
  }
}

// A process has a line for each program that it was; its times and its peak go on over them.
struct Process {
  std::uint64_t user_us = 0, system_us = 0, peak_memory_kib = 0;
};

void AddLine(const json& line, Summary& summary, std::map<std::uint64_t, Process>& processes) {
  ++summary.programs;
  if (const auto engine = line.find("engine"); engine != line.end() && engine->is_string()) {
    summary.engine = engine->get<std::string>();
  }
  for (const Field& field : kSums) summary.*field.sum += NumberOf(line, field.name);
  Process& process = processes[NumberOf(line, "pid")];
  process.user_us += NumberOf(line, "user_us");
  process.system_us += NumberOf(line, "system_us");
  process.peak_memory_kib = std::max(process.peak_memory_kib, NumberOf(line, "peak_memory_kib"));
  if (const auto calls = line.find("calls"); calls != line.end() && calls->is_object()) {
    for (const auto& [route, counts] : calls->items()) Add(counts, summary.calls[route]);
  }
  if (const std::uint64_t others = NumberOf(line, "other_calls"); others > 0) {
    summary.calls["other"]["other"] += others;
  }
  if (const std::uint64_t unknown = NumberOf(line, "unknown_calls"); unknown > 0) {
    summary.calls["absent"]["unknown"] += unknown;
  }
  if (const auto counters = line.find("counters"); counters != line.end()) Add(*counters, summary.counters);
  if (const auto limits = line.find("limits_hit"); limits != line.end() && limits->is_array()) {
    for (const json& limit : *limits) {
      if (limit.is_string()) summary.limits_hit.insert(limit.get<std::string>());
    }
  }
}

}  // namespace

std::uint64_t Summary::CallsOf(const std::string& route) const {
  const auto found = calls.find(route);
  if (found == calls.end()) return 0;
  return std::accumulate(found->second.begin(), found->second.end(), std::uint64_t{0},
                         [](std::uint64_t sum, const auto& call) { return sum + call.second; });
}

std::uint64_t Summary::AllCalls() const {
  std::uint64_t sum = 0;
  for (const auto& [route, counts] : calls) sum += CallsOf(route);
  return sum;
}

absl::StatusOr<Summary> Summarize(std::string_view lines) {
  Summary summary;
  std::map<std::uint64_t, Process> processes;
  for (int number = 1; !lines.empty(); ++number) {
    const std::size_t end = lines.find('\n');
    if (end == std::string_view::npos) {
      return absl::InvalidArgumentError(fmt::format("statistics:{}: a line is cut short", number));
    }
    const absl::StatusOr<json> line =
        policy::ParseJson(lines.substr(0, end), fmt::format("statistics:{}", number));
    if (!line.ok()) return line.status();
    if (!line->is_object()) {
      return absl::InvalidArgumentError(fmt::format("statistics:{}: an object is expected", number));
    }
    AddLine(*line, summary, processes);
    lines.remove_prefix(end + 1);
  }
  summary.processes = processes.size();
  for (const auto& [pid, process] : processes) {
    summary.user_us += process.user_us;
    summary.system_us += process.system_us;
    summary.peak_memory_kib = std::max(summary.peak_memory_kib, process.peak_memory_kib);
  }
  return summary;
}

}  // namespace dunebox::statistics
