#include "sandbox/statistics/report.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>
#include <vector>

namespace dunebox::statistics {
namespace {

constexpr std::size_t kMostCallsShown = 8;

// 1234567 is 1,234,567.
std::string Grouped(std::uint64_t number) {
  std::string text = fmt::format("{}", number);
  for (std::size_t place = text.size(); place > 3; place -= 3) text.insert(place - 3, 1, ',');
  return text;
}

std::string Milliseconds(std::uint64_t ns) { return fmt::format("{:.1f} ms", static_cast<double>(ns) / 1e6); }

std::string Line(const std::string& value, std::string_view meaning, std::string_view remark = {}) {
  std::string line = fmt::format("{:>18}  {}", value, meaning);
  if (!remark.empty()) line += fmt::format("  ({})", remark);
  return line + "\n";
}

// The calls that were made most, whatever became of them.
std::string MostCalls(const Summary& summary) {
  Counts by_name;
  for (const auto& [route, counts] : summary.calls) {
    for (const auto& [name, count] : counts) by_name[name] += count;
  }
  std::vector<std::pair<std::uint64_t, std::string>> ordered;
  for (const auto& [name, count] : by_name) ordered.emplace_back(count, name);
  std::ranges::sort(ordered, [](const auto& a, const auto& b) {
    return a.first != b.first ? a.first > b.first : a.second < b.second;
  });
  std::vector<std::string> shown;
  for (const auto& [count, name] : ordered) {
    if (shown.size() == kMostCallsShown) break;
    shown.push_back(fmt::format("{} {}", name, Grouped(count)));
  }
  return fmt::format("{}", fmt::join(shown, ", "));
}

// With U+FFFD for what is no UTF-8.
std::string ValidText(std::string_view text) {
  using nlohmann::json;
  return json::parse(json(std::string(text)).dump(-1, ' ', false, json::error_handler_t::replace)).get<std::string>();
}

// A metric of the text format: its help, its type, its samples.
struct Metric {
  std::string_view name, type, help;
};

class MetricWriter {
 public:
  explicit MetricWriter(std::string_view command) : command_(Escaped(command)) {}

  void Begin(const Metric& metric) {
    name_ = metric.name;
    text_ += fmt::format("# HELP {} {}\n# TYPE {} {}\n", metric.name, metric.help, metric.name, metric.type);
  }
  void Sample(double value, std::initializer_list<std::pair<std::string_view, std::string_view>> labels = {}) {
    text_ += fmt::format("{}{{command=\"{}\"", name_, command_);
    for (const auto& [label, word] : labels) text_ += fmt::format(",{}=\"{}\"", label, Escaped(word));
    text_ += fmt::format("}} {}\n", value);
  }
  const std::string& text() const { return text_; }

 private:
  static std::string Escaped(std::string_view text) {
    std::string escaped;
    for (const char letter : ValidText(text)) {
      if (letter == '\\' || letter == '"') escaped += '\\';
      escaped += letter == '\n' ? std::string("\\n") : std::string(1, letter);
    }
    return escaped;
  }

  std::string command_, text_;
  std::string_view name_;
};

}  // namespace

std::string FormatTable(const Summary& summary, const Session& session) {
  std::string text = fmt::format("\n Statistics of '{}', engine {}:\n\n", session.command,
                                 summary.engine.empty() ? "unknown" : summary.engine);
  text += Line(Milliseconds(session.elapsed_ns), "elapsed");
  text += Line(Milliseconds(summary.user_us * 1000), "user");
  text += Line(Milliseconds(summary.system_us * 1000), "system");
  text += Line(Grouped(summary.processes), "processes", fmt::format("{} programs", Grouped(summary.programs)));
  text += Line(Grouped(summary.AllCalls()), "system calls",
               fmt::format("{} forwarded, {} handled, {} denied, {} absent; {} failed",
                           Grouped(summary.CallsOf("forwarded")), Grouped(summary.CallsOf("handled")),
                           Grouped(summary.CallsOf("denied")), Grouped(summary.CallsOf("absent")),
                           Grouped(summary.failed_calls)));
  if (summary.AllCalls() > 0) text += Line("", MostCalls(summary));
  text += Line(Grouped(summary.minor_faults), "page faults", fmt::format("{} major", Grouped(summary.major_faults)));
  text += Line(Grouped(summary.signals), "signals");
  text += Line(fmt::format("{:.1f} MiB", static_cast<double>(summary.peak_memory_kib) / 1024),
               "peak memory of the largest process");
  if (!summary.counters.empty()) {
    text += "\n Engine:\n\n";
    for (const auto& [name, count] : summary.counters) text += Line(Grouped(count), name);
  }
  if (!summary.limits_hit.empty()) {
    text += fmt::format("\n Limits that refused something: {}\n", fmt::join(summary.limits_hit, ", "));
  }
  return text + "\n";
}

std::string FormatJson(const Summary& summary, const Session& session) {
  nlohmann::ordered_json object = {
      {"command", session.command},
      {"exit_status", session.exit_status},
      {"engine", summary.engine},
      {"elapsed_ns", session.elapsed_ns},
      {"user_us", summary.user_us},
      {"system_us", summary.system_us},
      {"processes", summary.processes},
      {"programs", summary.programs},
      {"minor_faults", summary.minor_faults},
      {"major_faults", summary.major_faults},
      {"peak_memory_kib", summary.peak_memory_kib},
      {"signals", summary.signals},
      {"failed_calls", summary.failed_calls},
      {"calls", summary.calls},
      {"counters", summary.counters},
      {"limits_hit", summary.limits_hit},
  };
  // Words of a command line may be no UTF-8.
  return object.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace) + "\n";
}

std::string FormatMetrics(const Summary& summary, const Session& session) {
  MetricWriter metrics(session.command);
  const auto single = [&](const Metric& metric, double value) {
    metrics.Begin(metric);
    metrics.Sample(value);
  };
  constexpr double kMicro = 1e-6, kNano = 1e-9, kKibibyte = 1024;
  single({"dunebox_exit_status", "gauge", "Exit status of the session."}, session.exit_status);
  single({"dunebox_elapsed_seconds", "gauge", "Time from the start of the session to its end."},
         static_cast<double>(session.elapsed_ns) * kNano);
  metrics.Begin({"dunebox_cpu_seconds_total", "counter", "Processor time of all processes."});
  metrics.Sample(static_cast<double>(summary.user_us) * kMicro, {{"mode", "user"}});
  metrics.Sample(static_cast<double>(summary.system_us) * kMicro, {{"mode", "system"}});
  single({"dunebox_processes_total", "counter", "Processes that ended and have statistics."},
         static_cast<double>(summary.processes));
  single({"dunebox_programs_total", "counter", "Programs that these processes were."},
         static_cast<double>(summary.programs));
  metrics.Begin({"dunebox_page_faults_total", "counter", "Page faults of the host processes."});
  metrics.Sample(static_cast<double>(summary.minor_faults), {{"kind", "minor"}});
  metrics.Sample(static_cast<double>(summary.major_faults), {{"kind", "major"}});
  single({"dunebox_peak_memory_bytes", "gauge", "Peak memory of the largest process."},
         static_cast<double>(summary.peak_memory_kib) * kKibibyte);
  single({"dunebox_signals_total", "counter", "Signals that came to the programs."},
         static_cast<double>(summary.signals));
  metrics.Begin({"dunebox_system_calls_total", "counter", "System calls by what was done with them."});
  for (const auto& [route, counts] : summary.calls) {
    for (const auto& [name, count] : counts) {
      metrics.Sample(static_cast<double>(count), {{"route", route}, {"name", name}});
    }
  }
  single({"dunebox_failed_system_calls_total", "counter", "System calls that gave an error."},
         static_cast<double>(summary.failed_calls));
  metrics.Begin({"dunebox_engine_events_total", "counter", "What the engine counts."});
  for (const auto& [name, count] : summary.counters) {
    metrics.Sample(static_cast<double>(count), {{"engine", summary.engine}, {"event", name}});
  }
  metrics.Begin({"dunebox_limit_hit", "gauge", "1 for each limit that refused something."});
  for (const std::string& limit : summary.limits_hit) metrics.Sample(1, {{"limit", limit}});
  return metrics.text();
}

}  // namespace dunebox::statistics
