// What the programs of this folder share. A program prints only what must be the same in every run (no addresses, times or
// counts) and returns 0; an expectation that fails says where and ends it.
#ifndef DUNEBOX_TESTS_DIFFERENTIAL_EXPECT_H_
#define DUNEBOX_TESTS_DIFFERENTIAL_EXPECT_H_

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPECT(condition)                                                              \
  do {                                                                                 \
    if (!(condition)) {                                                                \
      int error = errno;                                                               \
      printf("%s:%d: not so: %s (errno %s)\n", __FILE__, __LINE__, #condition,         \
             strerror(error));                                                         \
      fflush(stdout);                                                                  \
      exit(1);                                                                         \
    }                                                                                  \
  } while (0)

#define SKIP(reason)              \
  do {                            \
    printf("skip: %s\n", reason); \
    exit(77);                     \
  } while (0)

#endif  // DUNEBOX_TESTS_DIFFERENTIAL_EXPECT_H_
