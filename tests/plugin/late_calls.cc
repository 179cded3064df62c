// A host that makes calls to the very end: from destructors of objects of a thread, and of static ones, made before the
// library's own. Calls that run into their deadline, as that takes a signal.
//
//   plugin_late_calls PLUGIN-CASES.so
#include <stdio.h>
#include <unistd.h>

#include <memory>
#include <thread>

#include "dunebox/sandbox.h"

namespace {

using namespace dunebox;

std::unique_ptr<Sandbox>& sandbox() {
  static auto* const one = new std::unique_ptr<Sandbox>;
  return *one;
}

bool SpinsUntilItsDeadline() {
  auto spin = sandbox()->Function<void()>("spin");
  absl::Status status = spin.ok() ? (*spin)() : spin.status();
  const std::optional<Failure> failure = FailureOf(status);
  if (failure && failure->kind == Failure::Kind::kTimeout) status = sandbox()->Reset();
  if (!status.ok()) fprintf(stderr, "a late call: %s\n", status.ToString().c_str());
  return status.ok();
}

bool is_good = true;

struct AtThreadEnd {
  ~AtThreadEnd() {
    is_good = SpinsUntilItsDeadline() && is_good;
  }
  int touched = 0;
};
thread_local AtThreadEnd at_thread_end;

struct AtExit {
  ~AtExit() {
    if (sandbox() == nullptr) return;
    is_good = SpinsUntilItsDeadline() && is_good;
    _exit(is_good ? 0 : 1);
  }
} at_exit;

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  absl::StatusOr<std::unique_ptr<Sandbox>> made = Sandbox::Create({.deadline = absl::Milliseconds(300)});
  if (!made.ok() || !(*made)->Load(argv[1]).ok()) return 2;
  sandbox() = *std::move(made);
  std::thread([] {
    at_thread_end.touched = 1;
    is_good = SpinsUntilItsDeadline();
  }).join();
  is_good = SpinsUntilItsDeadline() && is_good;
  return 1;  // the destructor's is another
}
