#include "sandbox/bench/bench.h"

#include <fcntl.h>
#include <signal.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "hostcalls/errors/message.h"
#include "runtime/file_descriptor.h"
#include "sandbox/bench/operations.h"

namespace dunebox::bench {
namespace {

using runtime::FileDescriptor;
using Words = std::vector<std::string>;

constexpr int kFailed = 125;
constexpr std::string_view kNative = "native";

// A way to run a command: the words in front of it.
struct Way {
  std::string name;
  Words words;
};

struct Run {
  int status = 0;      // as waitpid gives it
  double wall_ns = 0, cpu_ns = 0;
  std::string output;  // what it wrote to standard output, when that is wanted
};

enum class Output : unsigned char { kKeep, kDiscard };

double Nanoseconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) * 1e9 + static_cast<double>(time.tv_usec) * 1e3;
}

absl::StatusOr<Run> RunCommand(const Words& words, Output output) {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) return absl::ErrnoToStatus(errno, "cannot make a pipe");
  const FileDescriptor from(ends[0]);
  FileDescriptor to(ends[1]);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  if (output == Output::kKeep) {
    posix_spawn_file_actions_adddup2(&actions, to.get(), STDOUT_FILENO);
  } else {
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  }
  std::vector<char*> argv;
  for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  const auto begin = std::chrono::steady_clock::now();
  pid_t child = -1;
  const int error = posix_spawnp(&child, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return absl::ErrnoToStatus(error, absl::StrCat("cannot run ", words.front()));
  to = FileDescriptor();
  Run run;
  std::array<char, 4096> buffer;
  for (;;) {
    const ssize_t count = read(from.get(), buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) break;
    run.output.append(buffer.data(), static_cast<std::size_t>(count));
  }
  rusage used{};
  while (wait4(child, &run.status, 0, &used) < 0) {
    if (errno != EINTR) return absl::ErrnoToStatus(errno, absl::StrCat("cannot wait for ", words.front()));
  }
  run.wall_ns = std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - begin).count();
  run.cpu_ns = Nanoseconds(used.ru_utime) + Nanoseconds(used.ru_stime);
  return run;
}

// What is measured: a command, and which number of its run counts.
struct Row {
  std::string name, what;
  Words command;
  Output output = Output::kDiscard;
  std::optional<double> (*value)(const Run&) = nullptr;
};

std::optional<double> PrintedNumber(const Run& run) {
  double number = 0;
  const auto [end, error] = std::from_chars(run.output.data(), run.output.data() + run.output.size(), number);
  if (error != std::errc() || number <= 0) return std::nullopt;
  return number;
}

std::optional<double> WallTime(const Run& run) { return run.wall_ns; }
std::optional<double> CpuTime(const Run& run) { return run.cpu_ns; }

std::vector<Row> RowsOf(const BenchOptions& options, const std::string& self) {
  if (!options.program.empty()) {
    return {{"wall", "elapsed time", options.program, Output::kDiscard, WallTime},
            {"cpu", "processor time", options.program, Output::kDiscard, CpuTime}};
  }
  std::vector<Row> rows;
  for (const Operation& operation : Operations()) {
    rows.push_back({std::string(operation.name), std::string(operation.what),
                    {self, absl::StrCat("--operation=", std::string(operation.name))},
                    Output::kKeep, PrintedNumber});
  }
  rows.push_back({"start", "start and end of a program", {self, "--operation=nothing"}, Output::kDiscard, WallTime});
  return rows;
}

// [row][way] is a sample each time.
using Samples = std::map<std::pair<std::size_t, std::size_t>, std::vector<double>>;

double Median(std::vector<double> values) {
  std::ranges::sort(values);
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

// Every way by turns, so that what else the machine does meanwhile comes to all of them.
absl::StatusOr<Samples> Measure(const std::vector<Row>& rows, const std::vector<Way>& ways, int repeat,
                                std::span<const std::string> program) {
  Samples samples;
  for (int round = 0; round < repeat; ++round) {
    for (std::size_t row = 0; row < rows.size(); ++row) {
      for (std::size_t way = 0; way < ways.size(); ++way) {
        // The rows of a program are two numbers of the same run, which are taken with the first.
        if (!program.empty() && row > 0) continue;
        Words words = ways[way].words;
        words.insert(words.end(), rows[row].command.begin(), rows[row].command.end());
        const absl::StatusOr<Run> run = RunCommand(words, rows[row].output);
        if (!run.ok()) return run.status();
        const bool may_fail = !program.empty() && WIFEXITED(run->status) && WEXITSTATUS(run->status) < 124;
        if (run->status != 0 && !may_fail) {
          return absl::InternalError(fmt::format("{} under {} ended with status {:#x}", rows[row].name,
                                                 ways[way].name, run->status));
        }
        for (std::size_t of = row; of < (program.empty() ? row + 1 : rows.size()); ++of) {
          const std::optional<double> value = rows[of].value(*run);
          if (!value) return absl::InternalError(absl::StrCat(rows[of].name, " printed no number"));
          samples[{of, way}].push_back(*value);
        }
      }
    }
  }
  return samples;
}

std::string TimeText(double ns) {
  if (ns < 1e3) return fmt::format("{:.0f} ns", ns);
  if (ns < 1e6) return fmt::format("{:.1f} us", ns / 1e3);
  if (ns < 1e9) return fmt::format("{:.1f} ms", ns / 1e6);
  return fmt::format("{:.2f} s", ns / 1e9);
}

std::string RatioText(double ratio) { return fmt::format("{:.{}f}x", ratio, ratio < 10 ? 2 : 0); }

std::string FormatTable(const std::vector<Row>& rows, const std::vector<Way>& ways, Samples& samples) {
  std::string text = fmt::format("{:44}{:>12}", "", kNative);
  for (std::size_t way = 1; way < ways.size(); ++way) text += fmt::format("{:>20}", ways[way].name);
  text += "\n";
  for (std::size_t row = 0; row < rows.size(); ++row) {
    const double native = Median(samples[{row, 0}]);
    text += fmt::format("{:44}{:>12}", rows[row].what, TimeText(native));
    for (std::size_t way = 1; way < ways.size(); ++way) {
      const double inside = Median(samples[{row, way}]);
      text += fmt::format("{:>20}", fmt::format("{} {:>9}", RatioText(inside / native), TimeText(inside)));
    }
    text += "\n";
  }
  return text;
}

std::string FormatJson(const std::vector<Row>& rows, const std::vector<Way>& ways, Samples& samples) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (std::size_t row = 0; row < rows.size(); ++row) {
    const double native = Median(samples[{row, 0}]);
    nlohmann::ordered_json measured;
    for (std::size_t way = 0; way < ways.size(); ++way) {
      const double median = Median(samples[{row, way}]);
      measured[ways[way].name] = {{"median_ns", median}, {"ratio", median / native}, {"samples_ns", samples[{row, way}]}};
    }
    list.push_back({{"name", rows[row].name}, {"what", rows[row].what}, {"engines", measured}});
  }
  return list.dump() + "\n";
}

std::string ThisMachine(int repeat) {
  utsname system{};
  uname(&system);
  return fmt::format("Linux {}, {} processors; medians of {} runs by turns, ratios to native\n\n", system.release,
                     sysconf(_SC_NPROCESSORS_ONLN), repeat);
}

absl::StatusOr<std::string> OwnFile() {
  std::array<char, 4096> path;
  const ssize_t length = readlink("/proc/self/exe", path.data(), path.size());
  if (length <= 0) return absl::ErrnoToStatus(errno, "cannot read /proc/self/exe");
  return std::string(path.data(), static_cast<std::size_t>(length));
}

// Those that run anything here.
absl::StatusOr<std::vector<Way>> WaysOf(const BenchOptions& options, const std::string& self) {
  std::vector<Way> ways = {{std::string(kNative), {}}};
  const bool was_asked = !options.engines.empty();
  for (const std::string& engine : was_asked ? options.engines : Words{"kvm", "jit"}) {
    const Way way{engine, {self, "run", absl::StrCat("--engine=", engine), "--allow=all", "--"}};
    Words words = way.words;
    words.insert(words.end(), {self, "--operation=nothing"});
    const absl::StatusOr<Run> run = RunCommand(words, Output::kDiscard);
    if (!run.ok()) return run.status();
    if (run->status == 0) {
      ways.push_back(way);
    } else if (was_asked) {
      return absl::UnavailableError(absl::StrCat("engine ", engine, " does not run here"));
    }
  }
  if (ways.size() == 1) return absl::UnavailableError("no engine runs here; see 'dunebox doctor'");
  return ways;
}

int Fail(const absl::Status& status) {
  errors::Say(errors::Id::kCannotMeasure, status);
  return kFailed;
}

}  // namespace

int RunBench(const BenchOptions& options) {
  signal(SIGCHLD, SIG_DFL);  // inherited as ignored it would take away how what is measured ends
  const absl::StatusOr<std::string> self = OwnFile();
  if (!self.ok()) return Fail(self.status());
  const absl::StatusOr<std::vector<Way>> ways = WaysOf(options, *self);
  if (!ways.ok()) return Fail(ways.status());
  const std::vector<Row> rows = RowsOf(options, *self);
  absl::StatusOr<Samples> samples = Measure(rows, *ways, options.repeat, options.program);
  if (!samples.ok()) return Fail(samples.status());
  const std::string text = options.as_json ? FormatJson(rows, *ways, *samples)
                                           : ThisMachine(options.repeat) + FormatTable(rows, *ways, *samples);
  if (std::fputs(text.c_str(), stdout) >= 0 && std::fflush(stdout) == 0) return 0;
  return Fail(absl::ErrnoToStatus(errno, "cannot write to standard output"));
}

}  // namespace dunebox::bench
