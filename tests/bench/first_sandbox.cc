// What a process's first sandbox costs: nothing is translated, nothing in any cache of the runtime's.
//
//   first_sandbox [LIBRARY [DIR]]  # prints nanoseconds of real time for Create, and for Load of the library, with the
//                                  # prepared translations in DIR
#include <time.h>

#include <cstdio>
#include <cstdlib>

#include "dunebox/sandbox.h"

namespace {

long long Now() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1'000'000'000LL + now.tv_nsec;
}

}  // namespace

int main(int argc, char** argv) {
  const long long begin = Now();
  const char* const prepared = argc > 2 ? argv[2] : "none";
  auto sandbox = dunebox::Sandbox::Create({.engine = dunebox::Engine::kJit, .prepared_translations = prepared});
  if (!sandbox.ok()) std::abort();
  const long long created = Now();
  if (argc > 1 && !(*sandbox)->Load(argv[1]).ok()) std::abort();
  std::printf("%lld %lld\n", created - begin, Now() - created);
  std::fflush(stdout);
  std::_Exit(0);
}
