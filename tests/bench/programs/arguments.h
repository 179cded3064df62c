// How much a program is to do: its first argument, a number.
#ifndef TESTS_BENCH_PROGRAMS_ARGUMENTS_H_
#define TESTS_BENCH_PROGRAMS_ARGUMENTS_H_

#include <stdio.h>
#include <stdlib.h>

static inline long amount_of_work(int argc, char** argv) {
  char* end = NULL;
  const long amount = argc == 2 ? strtol(argv[1], &end, 10) : 0;
  if (amount <= 0 || *end != '\0') {
    fprintf(stderr, "usage: %s AMOUNT\n", argv[0]);
    exit(2);
  }
  return amount;
}

#endif  // TESTS_BENCH_PROGRAMS_ARGUMENTS_H_
