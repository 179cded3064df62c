#include "runtime/limits/cpu_time.h"

#include <dirent.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "runtime/text_file.h"

namespace dunebox::runtime {
namespace {

std::vector<std::string> TasksOf(pid_t process) {
  std::vector<std::string> tasks;
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(
      opendir(absl::StrCat("/proc/", process, "/task").c_str()), closedir);
  if (directory == nullptr) return tasks;
  while (const dirent* entry = readdir(directory.get())) {
    if (entry->d_name[0] != '.') tasks.emplace_back(entry->d_name);
  }
  return tasks;
}

std::vector<pid_t> ChildrenOf(pid_t process) {
  std::vector<pid_t> found;
  for (const std::string& task : TasksOf(process)) {
    const absl::StatusOr<std::string> children =
        ReadTextFile(absl::StrCat("/proc/", process, "/task/", task, "/children"));
    if (!children.ok()) continue;
    for (absl::string_view word : absl::StrSplit(*children, ' ', absl::SkipEmpty())) {
      pid_t child = 0;
      if (absl::SimpleAtoi(word, &child)) found.push_back(child);
    }
  }
  return found;
}

// Nothing when it has ended meanwhile.
std::optional<ProcessTimes> TimesOf(pid_t process) {
  const absl::StatusOr<std::string> stat = ReadTextFile(absl::StrCat("/proc/", process, "/stat"));
  return stat.ok() ? ProcessTimes::Parse(*stat) : std::nullopt;
}

std::uint64_t ReapedByUs() {
  rusage usage{};
  getrusage(RUSAGE_CHILDREN, &usage);
  const auto ticks = static_cast<std::uint64_t>(sysconf(_SC_CLK_TCK));
  const auto in_ticks = [&](const timeval& time) {
    return static_cast<std::uint64_t>(time.tv_sec) * ticks +
           static_cast<std::uint64_t>(time.tv_usec) * ticks / 1'000'000;
  };
  return in_ticks(usage.ru_utime) + in_ticks(usage.ru_stime);
}

}  // namespace

std::optional<ProcessTimes> ProcessTimes::Parse(std::string_view stat) {
  // Counted from behind the name, which may have anything in it. [proc(5)]
  constexpr std::size_t kUser = 11, kSystem = 12, kReapedUser = 13, kReapedSystem = 14, kStart = 19;
  const std::size_t name_end = stat.rfind(") ");
  if (name_end == std::string_view::npos) return std::nullopt;
  const std::string rest(stat.substr(name_end + 2));
  const std::vector<std::string> words = absl::StrSplit(rest, ' ');
  const auto number = [&](std::size_t index) {
    std::uint64_t value = 0;
    return absl::SimpleAtoi(words[index], &value) ? value : 0;
  };
  if (words.size() <= kStart) return std::nullopt;
  return ProcessTimes{.own = number(kUser) + number(kSystem),
                      .reaped = number(kReapedUser) + number(kReapedSystem),
                      .start = number(kStart)};
}

// As long a chain as the program likes: not by recursion.
std::uint64_t TreeCpuTime::VisitTree(std::map<Key, std::uint64_t>& living) {
  std::uint64_t accounted = 0;
  std::vector<pid_t> parents = {getpid()};
  while (!parents.empty()) {
    const pid_t parent = parents.back();
    parents.pop_back();
    for (const pid_t child : ChildrenOf(parent)) {
      const std::optional<ProcessTimes> times = TimesOf(child);
      if (!times || !living.emplace(Key{child, times->start}, times->own).second) continue;
      accounted += times->own + times->reaped;
      parents.push_back(child);
    }
  }
  return accounted;
}

std::chrono::milliseconds TreeCpuTime::Read() {
  std::map<Key, std::uint64_t> living;
  // Before the tree: who is reaped in between is missing for once instead of counting twice.
  std::uint64_t accounted = ReapedByUs();
  accounted += VisitTree(living);
  for (const auto& [key, own] : living_) {
    if (living.contains(key)) continue;
    // One that got another parent while we looked is not gone.
    const std::optional<ProcessTimes> times = TimesOf(key.first);
    if (times && times->start == key.second) {
      living.emplace(key, times->own);
    } else {
      gone_ += own;
    }
  }
  living_ = std::move(living);
  std::uint64_t seen = gone_;
  for (const auto& [key, own] : living_) seen += own;
  const auto ticks = static_cast<std::uint64_t>(sysconf(_SC_CLK_TCK));
  return std::chrono::milliseconds(
      static_cast<std::int64_t>(std::max(accounted, seen) * 1000 / ticks));
}

}  // namespace dunebox::runtime
