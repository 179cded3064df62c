// Calls without end: N of them, of which one in a hundred crashes its sandbox. Then it is reset, to a
// snapshot or to its beginning, or a clone or a new one takes its place. At the end the process has no more
// descriptors, mappings and threads than at first, and not more memory to speak of.
//
//   plugin_soak PLUGIN-CASES.so CALLS [two-walls]
//
// By hand with 10,000,000 calls; the suite makes some thousands.
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "dunebox/sandbox.h"

namespace dunebox {
namespace {

// What a leak would show in.
struct Holdings {
  long descriptors = 0, mappings = 0, threads = 0;
  long resident = 0;  // KiB
};

long EntriesOf(const char* directory) {
  return std::distance(std::filesystem::directory_iterator(directory), {});
}

Holdings Look() {
  std::ifstream maps("/proc/self/maps");
  std::ifstream sizes("/proc/self/statm");
  long total = 0, resident = 0;
  sizes >> total >> resident;
  return {.descriptors = EntriesOf("/proc/self/fd"),
          .mappings = std::count(std::istreambuf_iterator<char>(maps), {}, '\n'),
          .threads = EntriesOf("/proc/self/task"),
          .resident = resident * (sysconf(_SC_PAGESIZE) / 1024)};
}

void Print(const char* when, const Holdings& holdings) {
  std::printf("%-8s %ld descriptors, %ld mappings, %ld threads, %ld KiB resident\n", when,
              holdings.descriptors, holdings.mappings, holdings.threads, holdings.resident);
  std::fflush(stdout);
}

absl::StatusOr<std::unique_ptr<Sandbox>> Make(const std::string& plugin, Demand demand) {
  absl::StatusOr<std::unique_ptr<Sandbox>> sandbox =
      Sandbox::Create({.demand = demand, .deadline = absl::Minutes(2)});
  if (!sandbox.ok()) return sandbox;
  if (absl::Status status = (*sandbox)->Load(plugin); !status.ok()) return status;
  return sandbox;
}

// Crashes of several kinds in turn; a thread of the plugin's is left behind now and then.
absl::Status Crash(Sandbox& sandbox, std::uint64_t number) {
  if (number % 4 == 0) {
    auto start = sandbox.Function<void()>("start_endless_thread");
    if (!start.ok() || !(*start)().ok()) return absl::InternalError("no thread could be started");
  }
  constexpr const char* kKinds[] = {"write_at", "call_address", "leave", "end"};
  auto crash = sandbox.Function<void(unsigned long)>(kKinds[number % std::size(kKinds)]);
  if (!crash.ok()) return crash.status();
  const absl::Status crashed = (*crash)(0x10);
  return FailureOf(crashed).has_value() ? absl::OkStatus()
                                        : absl::InternalError("a crash was none");
}

// Calls with callbacks, allocations and copies among them. Leaves no sandbox behind.
class Soak {
 public:
  Soak(std::string plugin, Demand demand) : plugin_(std::move(plugin)), demand_(demand) {}

  absl::Status Run(std::uint64_t calls) {
    for (std::uint64_t number = 1; number <= calls; ++number) {
      if (!sandbox_) {
        if (absl::Status status = Begin(); !status.ok()) return status;
      }
      const auto result = number % 10 == 0 ? (*call_back_)(doubled_, 20) : (*add_)(20, 21);
      if (!result.ok()) return result.status();
      if (result->UnverifiedValue() != 41) return absl::InternalError("a wrong result");
      if (number % 10 == 5) {
        auto text = sandbox_->MakeString("some text");
        if (!text.ok()) return text.status();
        if (auto copy = sandbox_->CopyString(text->guest(), 20); !copy.ok()) return copy.status();
      }
      if (number % 100 == 0) {
        if (absl::Status status = StartOver(number / 100); !status.ok()) return status;
      }
    }
    sandbox_.reset();
    return absl::OkStatus();
  }

 private:
  absl::Status Begin() {
    absl::StatusOr<std::unique_ptr<Sandbox>> made = Make(plugin_, demand_);
    if (!made.ok()) return made.status();
    sandbox_ = *std::move(made);
    if (absl::Status status = Bind(); !status.ok()) return status;
    // Every second one starts over the other way.
    has_snapshots_ = !has_snapshots_;
    return has_snapshots_ ? sandbox_->Snapshot() : absl::OkStatus();
  }

  absl::Status Bind() {
    auto doubled =
        sandbox_->Export<int(int)>([](Tainted<int> n) { return n.UnverifiedValue() * 2; });
    auto add = sandbox_->Function<int(int, int)>("add");
    auto call_back = sandbox_->Function<int(int (*)(int), int)>("call_back");
    if (!doubled.ok()) return doubled.status();
    if (!add.ok()) return add.status();
    if (!call_back.ok()) return call_back.status();
    doubled_ = *doubled;
    add_.emplace(*add);
    call_back_.emplace(*call_back);
    return absl::OkStatus();
  }

  absl::Status StartOver(std::uint64_t crash) {
    if (absl::Status status = Crash(*sandbox_, crash); !status.ok()) return status;
    if (crash % 15 == 0) {
      sandbox_.reset();
      return absl::OkStatus();
    }
    if (!has_snapshots_ || crash % 5 != 0) return sandbox_->Reset();
    absl::StatusOr<std::unique_ptr<Sandbox>> clone = sandbox_->Clone();
    if (!clone.ok()) return clone.status();
    sandbox_ = *std::move(clone);
    return Bind();
  }

  const std::string plugin_;
  const Demand demand_;
  std::unique_ptr<Sandbox> sandbox_;
  bool has_snapshots_ = false;
  FunctionPointer<int(int)> doubled_;
  std::optional<Function<int(int, int)>> add_;
  std::optional<Function<int(int (*)(int), int)>> call_back_;
};

int Main(const char* plugin, std::uint64_t calls, Demand demand) {
  Soak soak(plugin, demand);
  // Caches fill, and libc keeps stacks of threads.
  absl::Status status = soak.Run(calls / 4);
  const Holdings first = Look();
  Print("first", first);
  if (status.ok()) status = soak.Run(calls - calls / 4);
  if (!status.ok()) {
    std::fprintf(stderr, "plugin_soak: %s\n", std::string(status.message()).c_str());
    return 1;
  }
  const Holdings last = Look();
  Print("last", last);
  // A few for threads that are just ending, and what malloc does with its memory.
  constexpr long kFewThreads = 3, kFewMappings = 16, kSomeMemory = 16 << 10;
  const bool grows =
      last.descriptors > first.descriptors || last.threads > first.threads + kFewThreads ||
      last.mappings > first.mappings + kFewMappings || last.resident > first.resident + kSomeMemory;
  if (grows) std::fprintf(stderr, "plugin_soak: the process has grown\n");
  return grows ? 1 : 0;
}

}  // namespace
}  // namespace dunebox

int main(int argc, char** argv) {
  const bool has_two_walls = argc == 4 && std::string_view(argv[3]) == "two-walls";
  const std::uint64_t calls =
      argc == 3 || has_two_walls ? std::strtoull(argv[2], nullptr, 10) : 0;
  if (calls < 400) {
    std::fprintf(stderr, "usage: %s PLUGIN-CASES.so CALLS (at least 400) [two-walls]\n", argv[0]);
    return 2;
  }
  return dunebox::Main(argv[1], calls,
                       has_two_walls ? dunebox::Demand::kTwoWalls : dunebox::Demand::kOneWall);
}
