// Checks of programs that the lab runs: what was wrong goes to stdout, and the program ends with 1.
#ifndef DUNEBOX_TESTS_LIBDUNE_RING0_EXPECT_H_
#define DUNEBOX_TESTS_LIBDUNE_RING0_EXPECT_H_

#include <unistd.h>

#include <cstdio>
#include <string>

#include "absl/status/status.h"
#include "dune/dune.h"

inline void Expect(bool condition, const char* what) {
  if (condition) return;
  std::printf("FAILED: %s\n", what);
  std::fflush(stdout);
  _exit(1);
}

// For the whole program: what it is about is ring 0.
inline void EnterRing0(dune::EnterOptions options = {}) {
  options.backend = dune::Wanted::kRing0;
  const absl::Status entered = dune::Enter(options);
  Expect(entered.ok(), std::string(entered.message()).c_str());
}

#endif  // DUNEBOX_TESTS_LIBDUNE_RING0_EXPECT_H_
