// C++ exceptions across a shared library, nested, rethrown, from a signal handler's siglongjmp-free code, and thread-local objects.
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "thrower.h"

namespace {

struct Counted {
  static thread_local int alive;
  Counted() { ++alive; }
  ~Counted() { --alive; }
};
thread_local int Counted::alive = 0;

void ThrowNumber() { throw 5; }

int Nested(int depth) {
  Counted counted;
  try {
    if (depth == 0) throw std::string("deep");
    return Nested(depth - 1) + 1;
  } catch (const std::string& text) {
    if (depth < 30) throw text + ".";
    std::printf("%s\n", text.c_str());
    return depth;
  }
}

}  // namespace

int main() {
  try {
    ThrowAt(40);
  } catch (const std::exception& error) {
    std::printf("%s, %d\n", error.what(), dynamic_cast<const Refusal&>(error).level);
  }
  try {
    CallBack(ThrowNumber);
  } catch (...) {
    std::printf("and passed it on\n");
  }
  std::printf("nested %d, alive %d\n", Nested(30), Counted::alive);
  long sum = 0;
  for (int i = 0; i < 2000; ++i) {
    try {
      auto owned = std::make_unique<Counted>();
      if (i % 3 == 0) throw static_cast<long>(i);
    } catch (long number) {
      sum += number;
    }
  }
  std::printf("sum %ld, alive %d\n", sum, Counted::alive);
  try {
    (void)std::vector<int>().at(3);
  } catch (const std::out_of_range&) {
    std::printf("out of range\n");
  }
  return 0;
}
