// What the collector manages: a header, then fields that point to other objects (or are null), then fields that do not.
//
//   Object* pair = heap.New({.pointers = 2});
//   heap.Store(pair, 0, first);
#ifndef DUNEBOX_EXAMPLES_GC_OBJECT_H_
#define DUNEBOX_EXAMPLES_GC_OBJECT_H_

#include <cstddef>
#include <cstdint>

namespace gc {

struct Shape {
  std::uint32_t pointers = 0;
  std::uint32_t numbers = 0;

  constexpr std::size_t size() const { return 8 * (1 + std::size_t{pointers} + numbers); }
};

class Object {
 public:
  explicit Object(Shape shape) : shape_(shape) {}

  Shape shape() const { return shape_; }
  Object*& pointer(std::size_t index) { return reinterpret_cast<Object**>(this + 1)[index]; }
  std::uint64_t& number(std::size_t index) {
    return reinterpret_cast<std::uint64_t*>(this + 1)[shape_.pointers + index];
  }

 private:
  Shape shape_;
};
static_assert(sizeof(Object) == 8);

}  // namespace gc

#endif  // DUNEBOX_EXAMPLES_GC_OBJECT_H_
