// A garbage collector four times: how it finds the old objects that were written to is all that differs. With libdune no
// store costs anything, and no signal comes: the dirty bits of the pages say it.
//
//   gc [--check] [--dirty=best|kernel|faults] [--backend=best|ring0|software] [--only=VARIANT]...
//
// Prints for each workload the processor's milliseconds of each variant, and what that is of `protection`. --check: small workloads,
// every heap verified after every collection, the variants' results compared.
#include <algorithm>
#include <cstdio>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "dune/dune.h"
#include "examples/gc/workloads.h"

namespace {

struct Run {
  std::uint64_t result = 0;
  double milliseconds = 0;
  bool is_sound = true;
  gc::Statistics statistics;
};

template <typename Barrier, typename Workload>
Run RunIn(bool is_check, Workload workload) {
  auto heap = is_check
                  ? gc::Heap<Barrier>::Create({.young_size = 512 << 10, .is_verified = true})
                  : gc::Heap<Barrier>::Create({});
  if (heap == nullptr) gc::Die("no addresses for a heap");
  const double begin = gc::Milliseconds();
  Run run;
  run.result = workload(*heap);
  run.milliseconds = gc::Milliseconds() - begin;
  run.is_sound = heap->is_sound();
  run.statistics = heap->statistics();
  return run;
}

template <typename Barrier>
Run Trees(bool is_check) {
  return RunIn<Barrier>(is_check, [&](auto& heap) { return gc::Trees(heap, is_check ? 12 : 16); });
}

template <typename Barrier>
Run LinkedList(bool is_check) {
  return RunIn<Barrier>(
      is_check, [&](auto& heap) { return gc::LinkedList(heap, is_check ? 60'000 : 1'000'000); });
}

template <typename Barrier>
Run HashMap(bool is_check) {
  return RunIn<Barrier>(is_check,
                        [&](auto& heap) { return gc::HashMap(heap, is_check ? 30'000 : 250'000); });
}

struct Variant {
  const char* name;
  Run (*runs[3])(bool is_check);
};

constexpr const char* kWorkloads[] = {"GCBench", "LinkedList", "HashMap"};
// The first that ran is what the others are compared with.
constexpr Variant kVariants[] = {
    {"protection",
     {Trees<gc::ProtectionBarrier>, LinkedList<gc::ProtectionBarrier>,
      HashMap<gc::ProtectionBarrier>}},
    {"libdune", {Trees<gc::DuneBarrier>, LinkedList<gc::DuneBarrier>, HashMap<gc::DuneBarrier>}},
    {"cards", {Trees<gc::CardBarrier>, LinkedList<gc::CardBarrier>, HashMap<gc::CardBarrier>}},
    {"full", {Trees<gc::NoBarrier>, LinkedList<gc::NoBarrier>, HashMap<gc::NoBarrier>}},
};

struct Options {
  bool is_check = false;
  std::vector<std::string_view> only;  // empty: all
  dune::EnterOptions enter;
};

template <typename Value>
struct Word {
  std::string_view word;
  Value value;
};

template <typename Value, std::size_t kCount>
bool Choose(const Word<Value> (&words)[kCount], std::string_view argument, Value& value) {
  for (const Word<Value>& word : words) {
    if (argument != word.word) continue;
    value = word.value;
    return true;
  }
  return false;
}

std::optional<Options> Parse(int argc, char** argv) {
  static constexpr Word<dune::DirtyMethod> kMethods[] = {
      {"--dirty=best", dune::DirtyMethod::kBest},
      {"--dirty=kernel", dune::DirtyMethod::kKernel},
      {"--dirty=faults", dune::DirtyMethod::kFaults}};
  static constexpr Word<dune::Wanted> kBackends[] = {
      {"--backend=best", dune::Wanted::kBest},
      {"--backend=ring0", dune::Wanted::kRing0},
      {"--backend=software", dune::Wanted::kSoftware}};
  constexpr std::string_view kOnly = "--only=";
  Options options;
  for (int index = 1; index < argc; ++index) {
    const std::string_view argument = argv[index];
    if (argument == "--check") {
      options.is_check = true;
    } else if (argument.starts_with(kOnly)) {
      options.only.push_back(argument.substr(kOnly.size()));
    } else if (!Choose(kMethods, argument, options.enter.dirty_method) &&
               !Choose(kBackends, argument, options.enter.backend)) {
      std::fprintf(stderr, "dunebox: gc: unknown argument %s\n", argv[index]);
      return std::nullopt;
    }
  }
  return options;
}

void Print(const char* workload, const Variant& variant, const Run& run, const Run& first) {
  std::printf("%-10s %-10s %8.0f ms %5.2f   paused %7.1f ms, %u minor, %u full, written %zu KiB\n",
              workload, variant.name, run.milliseconds, run.milliseconds / first.milliseconds,
              run.statistics.paused, run.statistics.minor, run.statistics.full,
              run.statistics.bytes_written >> 10);
}

// Whether all went well.
bool RunAll(const Options& options) {
  bool is_right = true;
  for (std::size_t workload = 0; workload < std::size(kWorkloads); ++workload) {
    std::optional<Run> first;
    for (const Variant& variant : kVariants) {
      if (!options.only.empty() && std::ranges::find(options.only, variant.name) == options.only.end()) continue;
      const Run run = variant.runs[workload](options.is_check);
      if (!first) first = run;
      Print(kWorkloads[workload], variant, run, *first);
      if (run.result != first->result || !run.is_sound) {
        std::fprintf(stderr, "dunebox: gc: %s with %s: %s\n", kWorkloads[workload], variant.name,
                     run.is_sound ? "another result" : "an object in use was freed");
        is_right = false;
      }
    }
  }
  return is_right;
}

}  // namespace

int main(int argc, char** argv) {
  const std::optional<Options> options = Parse(argc, argv);
  if (!options) return 2;
  if (const absl::Status entered = dune::Enter(options->enter); !entered.ok()) {
    std::fprintf(stderr, "dunebox: gc: %s\n", std::string(entered.message()).c_str());
    return absl::IsUnavailable(entered) ? 77 : 1;
  }
  return RunAll(*options) ? 0 : 1;
}
