#include "thrower.h"

#include <cstdio>

namespace {
struct Noisy {
  int level;
  ~Noisy() {
    if (level % 10 == 0) std::printf("unwound %d\n", level);
  }
};
}  // namespace

void ThrowAt(int level) {
  Noisy noisy{level};
  if (level == 0) {
    Refusal refusal("at the bottom");
    refusal.level = 17;
    throw refusal;  // NOLINT(misc-throw-by-value-catch-by-reference): it has a level by now
  }
  ThrowAt(level - 1);
}

void CallBack(void (*function)()) {
  try {
    function();
  } catch (int number) {
    std::printf("the library caught %d\n", number);
    throw;
  }
}
