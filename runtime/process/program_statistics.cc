#include "runtime/process/program_statistics.h"

#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "hostcalls/trace/json.h"
#include "hostcalls/trace/pending_call.h"
#include "hostcalls/trace/text.h"

namespace dunebox::process {
namespace {

using hostcalls::Beginning;
using hostcalls::Caller;
using hostcalls::JsonObject;
using hostcalls::Request;
using hostcalls::Row;
using hostcalls::SyscallResult;

// Shares of a line's PIPE_BUF bytes; the rest is numbers.
constexpr std::size_t kMostProgramBytes = 768;
constexpr std::size_t kRoomForCalls = 2000;
constexpr std::size_t kBytesBesideName = 24;  // quotes, colon, comma and the number

constexpr hostcalls::Route kRoutes[] = {hostcalls::Route::kForwarded, hostcalls::Route::kHandled,
                                        hostcalls::Route::kDenied, hostcalls::Route::kAbsent};

rusage UsageNow() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  return usage;
}

std::uint64_t Microseconds(const timeval& from, const timeval& to) {
  timeval elapsed = {};
  timersub(&to, &from, &elapsed);
  return static_cast<std::uint64_t>(elapsed.tv_sec) * 1'000'000 +
         static_cast<std::uint64_t>(elapsed.tv_usec);
}

void Add(std::atomic<std::uint64_t>& count) { count.fetch_add(1, std::memory_order_relaxed); }

struct CountOfRow {
  const Row* row;
  std::uint64_t count;
};

}  // namespace

void ProgramStatistics::Restart() {
  for (Count& count : calls_) count = 0;
  unknown_calls_ = 0;
  failed_calls_ = 0;
  signals_ = 0;
  start_ = hostcalls::MonotonicNow();
  usage_at_start_ = UsageNow();
}

void ProgramStatistics::OnEnter(Caller& /*caller*/, const Row* row, const Request& /*request*/) {
  Add(row == nullptr ? unknown_calls_ : calls_[row->number]);
}

void ProgramStatistics::OnExit(Caller& /*caller*/, const Row* /*row*/, const Request& /*request*/,
                               SyscallResult result) {
  if (result.error() != 0 && !result.is_restart() && !result.is_registers_set()) {
    Add(failed_calls_);
  }
}

void ProgramStatistics::OnSignal(const siginfo_t& /*info*/) { Add(signals_); }

void ProgramStatistics::OnBegin(Beginning what, std::string_view /*program*/) {
  if (what == Beginning::kProgram || what == Beginning::kForkedChild) Restart();
}

std::string ProgramStatistics::CallsByRoute(std::uint64_t& others) const {
  std::vector<CountOfRow> made;
  for (const Row& row : hostcalls::AllRows()) {
    const std::uint64_t count = calls_[row.number].load(std::memory_order_relaxed);
    if (count != 0) made.push_back({&row, count});
  }
  std::ranges::stable_sort(made, std::ranges::greater(), &CountOfRow::count);
  std::array<JsonObject, std::size(kRoutes)> by_route;
  std::size_t room = kRoomForCalls;
  others = 0;
  for (const auto& [row, count] : made) {
    const std::size_t bytes = std::string_view(row->name).size() + kBytesBesideName;
    if (bytes > room) {
      others += count;
      continue;
    }
    room -= bytes;
    by_route[static_cast<std::size_t>(row->route)].Number(row->name, count);
  }
  JsonObject calls;
  for (const hostcalls::Route route : kRoutes) {
    calls.Value(hostcalls::ToString(route), by_route[static_cast<std::size_t>(route)].Take());
  }
  return calls.Take();
}

namespace {

// What the session's limits have refused so far.
std::string RefusedBy(const hostcalls::LimitNotes* limits) {
  std::vector<std::string> names;
  for (const hostcalls::RefusedLimit limit : hostcalls::kRefusedLimits) {
    if (limits == nullptr || !limits->Has(limit)) continue;
    names.push_back(absl::StrCat("\"", hostcalls::ToString(limit), "\""));
  }
  return absl::StrCat("[", absl::StrJoin(names, ","), "]");
}

}  // namespace

std::string ProgramStatistics::ToJson(const Frame& frame) const {
  const rusage now = UsageNow();
  std::uint64_t others = 0;
  const std::string calls = CallsByRoute(others);
  JsonObject counters;
  for (const runtime::Counter& counter : frame.counters) {
    counters.Number(counter.name, counter.value);
  }
  JsonObject object;
  object.Number("pid", getpid())
      .Value("program", hostcalls::JsonText(hostcalls::Escape(frame.program), kMostProgramBytes))
      .Text("engine", frame.engine)
      .Number("wall_ns", hostcalls::MonotonicNow() - start_)
      .Number("user_us", Microseconds(usage_at_start_.ru_utime, now.ru_utime))
      .Number("system_us", Microseconds(usage_at_start_.ru_stime, now.ru_stime))
      .Number("minor_faults", now.ru_minflt - usage_at_start_.ru_minflt)
      .Number("major_faults", now.ru_majflt - usage_at_start_.ru_majflt)
      .Number("peak_memory_kib", now.ru_maxrss)
      .Value("limits_hit", RefusedBy(frame.limits))
      .Number("signals", signals_.load())
      .Value("calls", calls)
      .Number("other_calls", others)
      .Number("unknown_calls", unknown_calls_.load())
      .Number("failed_calls", failed_calls_.load())
      .Value("counters", counters.Take());
  return object.Take() + "\n";
}

}  // namespace dunebox::process
