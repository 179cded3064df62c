// A host whose callback throws: that ends the process where it is thrown, and does not go through the sandbox.
//
//   plugin_throwing_host PLUGIN-CASES.so one-wall|two-walls
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <exception>
#include <string_view>

#include "dunebox/sandbox.h"

int main(int argc, char** argv) {
  using namespace dunebox;
  if (argc != 3) return 2;
  const bool has_two = std::string_view(argv[2]) == "two-walls";
  absl::StatusOr<std::unique_ptr<Sandbox>> sandbox =
      Sandbox::Create({.demand = has_two ? Demand::kTwoWalls : Demand::kOneWall, .deadline = absl::Minutes(2)});
  if (!sandbox.ok() || !(*sandbox)->Load(argv[1]).ok()) return 2;
  auto call_back = (*sandbox)->Function<int(int (*)(int), int)>("call_back");
  const auto throws = (*sandbox)->Export<int(int)>([](Tainted<int> number) -> int { throw number.UnverifiedValue(); });
  if (!call_back.ok() || !throws.ok()) return 2;
  std::set_terminate([] { _exit(0); });
  try {
    (void)(*call_back)(*throws, 7);
    fputs("the callback has returned\n", stderr);
  } catch (int) {
    fputs("the exception went through the sandbox\n", stderr);
  }
  return 1;
}
