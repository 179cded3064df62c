// AMOUNT million virtual calls of one call site over 64 objects of eight types in random order: the
// processor learns an order of that length, so that no misprediction hides what a call costs.
#include <cstdint>
#include <cstdio>
#include <memory>
#include <random>
#include <vector>

#include "arguments.h"

namespace {

class Shape {
 public:
  virtual ~Shape() = default;
  virtual std::uint64_t Step(std::uint64_t value) = 0;
};

template <int kind>
class ShapeOf final : public Shape {
 public:
  std::uint64_t Step(std::uint64_t value) override {
    count_ += value & 1;
    return value * (2 * kind + 3) + count_;
  }

 private:
  std::uint64_t count_ = kind;
};

std::unique_ptr<Shape> Make(unsigned kind) {
  switch (kind % 8) {  // NOLINT(bugprone-branch-clone): their numbers differ
    case 0:
      return std::make_unique<ShapeOf<0>>();
    case 1:
      return std::make_unique<ShapeOf<1>>();
    case 2:
      return std::make_unique<ShapeOf<2>>();
    case 3:
      return std::make_unique<ShapeOf<3>>();
    case 4:
      return std::make_unique<ShapeOf<4>>();
    case 5:
      return std::make_unique<ShapeOf<5>>();
    case 6:
      return std::make_unique<ShapeOf<6>>();
    default:
      return std::make_unique<ShapeOf<7>>();
  }
}

}  // namespace

int main(int argc, char** argv) {
  constexpr long kShapes = 64;
  const long rounds = amount_of_work(argc, argv) * 1'000'000 / kShapes + 1;
  std::mt19937 random(4711);
  std::vector<std::unique_ptr<Shape>> shapes;
  for (long i = 0; i < kShapes; ++i) shapes.push_back(Make(random()));
  std::uint64_t value = 1;
  for (long round = 0; round < rounds; ++round) {
    for (const auto& shape : shapes) value = shape->Step(value);
  }
  std::printf("%016lx\n", value);
}
