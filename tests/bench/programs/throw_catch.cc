// AMOUNT thousand exceptions, each thrown six frames deep and caught at the top; a destructor runs
// in every frame between.
#include <cstdint>
#include <cstdio>
#include <stdexcept>

#include "arguments.h"

namespace {

std::uint64_t unwound = 0;

struct Counter {
  int depth;
  ~Counter() { unwound += static_cast<std::uint64_t>(depth); }
};

[[gnu::noinline]] long Descend(int depth, long value) {
  const Counter counter{depth};
  if (depth == 6) throw std::runtime_error(value % 3 == 0 ? "fizz" : "none");
  return Descend(depth + 1, value) + depth;
}

}  // namespace

int main(int argc, char** argv) {
  std::uint64_t sum = 0;
  for (long left = 1000 * amount_of_work(argc, argv); left > 0; --left) {
    try {
      sum += static_cast<std::uint64_t>(Descend(0, left));
    } catch (const std::runtime_error& error) {
      sum = sum * 33 + static_cast<unsigned char>(error.what()[0]);
    }
  }
  std::printf("%016lx %lu\n", sum, unwound);
}
