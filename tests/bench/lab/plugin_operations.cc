// What a plugin under engine kvm costs: exits of the machine and instructions, in the lab with --icount, where the clock
// counts instructions. A table in Markdown; fails where a call is not exactly one exit.
//
//   plugin_operations PLUGIN-CASES.so
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "dunebox/sandbox.h"

namespace dunebox {
namespace {

[[noreturn]] void Fail(const std::string& what) {
  std::fprintf(stderr, "plugin_operations: %s\n", what.c_str());
  std::exit(1);
}

template <typename T>
T Must(absl::StatusOr<T> value, const char* what) {
  if (!value.ok()) Fail(std::string(what) + ": " + value.status().ToString());
  return *std::move(value);
}
void Must(const absl::Status& status, const char* what) {
  if (!status.ok()) Fail(std::string(what) + ": " + status.ToString());
}

std::uint64_t Now() {
  std::timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
         static_cast<std::uint64_t>(now.tv_nsec);
}

// To user space, which a gate and a system call of the plugin's are; and of all kinds.
struct Exits {
  std::uint64_t to_user = 0, all = 0;
  static std::uint64_t Read(const char* name) {
    std::ifstream file(std::string("/sys/kernel/debug/kvm/") + name);
    std::uint64_t count = 0;
    if (!(file >> count)) Fail("this kernel counts no exits");
    return count;
  }
  static Exits Now() { return {.to_user = Read("io_exits"), .all = Read("exits")}; }
};

struct Cost {
  double instructions, to_user, all;
};

// Of one of `times`, after a tenth as many that meet everything for the first time.
Cost CostOf(const char* name, int times, const std::function<void()>& operation) {
  for (int i = 0; i <= times / 10; ++i) operation();
  const Exits exits = Exits::Now();
  const std::uint64_t start = Now();
  for (int i = 0; i < times; ++i) operation();
  const auto spent = static_cast<double>(Now() - start);
  const Exits after = Exits::Now();
  const Cost cost{.instructions = spent / times,
                  .to_user = static_cast<double>(after.to_user - exits.to_user) / times,
                  .all = static_cast<double>(after.all - exits.all) / times};
  // The kernel forgets what a machine has done when that is gone.
  if (after.all < exits.all || after.to_user == exits.to_user) {
    std::printf("| %s | %.0f | | |\n", name, cost.instructions);
  } else {
    std::printf("| %s | %.0f | %.2f | %.2f |\n", name, cost.instructions, cost.to_user, cost.all);
  }
  std::fflush(stdout);
  return cost;
}

int Main(const std::string& plugin) {
  constexpr int kTimes = 500, kFewTimes = 10;
  auto sandbox = Must(Sandbox::Create({.engine = Engine::kKvm}), "create");
  Must(sandbox->Load(plugin), "load");
  auto nothing = Must(sandbox->Function<void()>("nothing"), "nothing");
  auto call_back = Must(sandbox->Function<int(int (*)(int), int)>("call_back"), "call_back");
  const auto callback = Must(
      sandbox->Export<int(int)>([](Tainted<int> value) { return value.UnverifiedValue(); }), "export");
  std::printf("| operation | instructions | exits to user space | exits |\n|---|---|---|---|\n");
  CostOf("getppid, natively", kTimes, [] { (void)getppid(); });
  const Cost call = CostOf("a call that does nothing", kTimes, [&] { Must(nothing(), "call"); });
  const Cost back = CostOf("a call with a callback", kTimes,
                           [&] { Must(call_back(callback, 1).status(), "callback"); });
  Must(sandbox->Snapshot(), "snapshot");
  CostOf("`Reset` and a call", kFewTimes, [&] {
    Must(sandbox->Reset(), "reset");
    Must(nothing(), "call");
  });
  CostOf("`Clone`, a call, and its end", kFewTimes, [&] {
    auto clone = Must(sandbox->Clone(), "clone");
    Must(clone->CounterpartOf(nothing)(), "call");
  });
  // Interrupts of the machine's own come on top, now and then.
  constexpr double kInterrupts = 0.2;
  if (call.to_user != 1 || back.to_user != 2) Fail("a call is not one exit, a callback another");
  if (call.all > 1 + kInterrupts) Fail("a call has exits besides");
  return 0;
}

}  // namespace
}  // namespace dunebox

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s PLUGIN-CASES.so\n", argv[0]);
    return 2;
  }
  return dunebox::Main(argv[1]);
}
