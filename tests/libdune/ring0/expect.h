// Checks of programs that the lab runs: what was wrong goes to stdout, and the program ends with 1.
#ifndef DUNEBOX_TESTS_LIBDUNE_RING0_EXPECT_H_
#define DUNEBOX_TESTS_LIBDUNE_RING0_EXPECT_H_

#include <unistd.h>

#include <cstdio>

inline void Expect(bool condition, const char* what) {
  if (condition) return;
  std::printf("FAILED: %s\n", what);
  std::fflush(stdout);
  _exit(1);
}

#endif  // DUNEBOX_TESTS_LIBDUNE_RING0_EXPECT_H_
