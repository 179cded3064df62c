// The shared library of cxx_exceptions: throws what the program catches.
#ifndef DUNEBOX_TESTS_DIFFERENTIAL_THROWER_H_
#define DUNEBOX_TESTS_DIFFERENTIAL_THROWER_H_

#include <stdexcept>

struct Refusal : std::runtime_error {
  using std::runtime_error::runtime_error;
  int level = 0;
};

void ThrowAt(int level);
void CallBack(void (*function)());

#endif  // DUNEBOX_TESTS_DIFFERENTIAL_THROWER_H_
