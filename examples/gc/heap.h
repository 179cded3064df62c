// A generational mark-sweep collector that moves nothing: what has survived a collection keeps its mark and is old. A
// minor collection marks from the roots and from the old objects that were written to since the last one, and is as
// short as those are few; a full one forgets the marks first, when the old objects have become twice as many. One thread.
// How written objects are found is the template's argument (barriers.h).
//
//   auto heap = gc::Heap<gc::DuneBarrier>::Create({});
//   gc::Local list(*heap, nullptr);                    // a root, for as long as its scope
//   gc::Object* cell = heap->New({.pointers = 1, .numbers = 1});   // may collect: what is not rooted may go
//   heap->Store(cell, 0, list.get());
#ifndef DUNEBOX_EXAMPLES_GC_HEAP_H_
#define DUNEBOX_EXAMPLES_GC_HEAP_H_

#include <time.h>

#include <memory>
#include <type_traits>
#include <unordered_set>
#include <utility>
#include <vector>

#include "examples/gc/barriers.h"
#include "examples/gc/object.h"
#include "examples/gc/space.h"

namespace gc {

// Of the processor, which other processes' work does not change as much as that of the clock.
inline double Milliseconds() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) * 1e3 + static_cast<double>(time.tv_nsec) / 1e6;
}

struct Statistics {
  unsigned minor = 0;
  unsigned full = 0;
  std::size_t bytes_written = 0;  // that minor collections were told of
  double paused = 0;              // milliseconds
};

template <typename Barrier>
class Heap {
 public:
  struct Options {
    std::size_t capacity = std::size_t{256} << 20;
    std::size_t young_size = 8 << 20;  // as much is made between two collections
    // After each collection it is looked at whether every object that can be reached is a live one: for tests.
    bool is_verified = false;
  };
  // Null: no such amount of addresses.
  static std::unique_ptr<Heap> Create(const Options& options) {
    std::unique_ptr<Space> space = Space::Create(options.capacity);
    if (space == nullptr) return nullptr;
    return std::unique_ptr<Heap>(new Heap(std::move(space), options));
  }

  Object* New(Shape shape) {
    if (young_ >= young_limit_) Collect();
    Object* object = space_->Allocate(shape);
    if (object == nullptr) {
      CollectFully();
      object = space_->Allocate(shape);
    }
    if (object == nullptr) Die("the heap is full");
    young_ += shape.size();
    return object;
  }

  void Store(Object* object, std::size_t index, Object* value) {
    Object*& field = object->pointer(index);
    field = value;
    barrier_.Stored(&field);
  }

  void Collect();
  void CollectFully();

  // False once a verified collection had freed what can be reached.
  bool is_sound() const { return is_sound_; }
  const Statistics& statistics() const { return statistics_; }

  // Of Local.
  std::vector<Object*>& roots() { return roots_; }

 private:
  Heap(std::unique_ptr<Space> space, const Options& options)
      : options_(options),
        space_(std::move(space)),
        barrier_(dune::Range{space_->extent().begin, options.capacity}),
        young_limit_(options.young_size) {}

  void MarkObject(Object* object) {
    if (object == nullptr || space_->IsMarked(object)) return;
    space_->Mark(object);
    waiting_.push_back(object);
  }
  void MarkFields(Object* object, dune::Range part);
  void MarkFromRoots();
  void Finish();
  bool IsSound();

  const Options options_;
  std::unique_ptr<Space> space_;
  Barrier barrier_;
  std::vector<Object*> roots_;
  std::vector<Object*> waiting_;  // marked, and their fields not looked at yet
  std::size_t young_ = 0;         // bytes made since the last collection
  std::size_t young_limit_;
  std::size_t old_after_full_ = 0;
  bool is_sound_ = true;
  Statistics statistics_;
};

// A root on the stack: the heap's own, so that it is known exactly. They end in the reverse order of their beginning.
template <typename Barrier>
class Local {
 public:
  Local(Heap<Barrier>& heap, Object* object) : roots_(heap.roots()), index_(roots_.size()) {
    roots_.push_back(object);
  }
  Local(const Local&) = delete;
  Local& operator=(const Local&) = delete;
  ~Local() { roots_.pop_back(); }

  Object* get() const { return roots_[index_]; }
  Object* operator->() const { return get(); }
  void set(Object* object) { roots_[index_] = object; }

 private:
  std::vector<Object*>& roots_;
  const std::size_t index_;
};

// Of the object, the pointers that lie in `part`.
template <typename Barrier>
void Heap<Barrier>::MarkFields(Object* object, dune::Range part) {
  const auto first = reinterpret_cast<std::uintptr_t>(&object->pointer(0));
  const std::size_t count = object->shape().pointers;
  constexpr std::size_t kPointerBytes = sizeof(void*);
  const std::size_t from = part.begin <= first ? 0 : (part.begin - first) / kPointerBytes;
  const std::size_t to = part.end() <= first ? 0 : (part.end() - first) / kPointerBytes;
  for (std::size_t index = from; index < std::min(to, count); ++index) {
    MarkObject(object->pointer(index));
  }
}

template <typename Barrier>
void Heap<Barrier>::MarkFromRoots() {
  for (Object* const root : roots_) MarkObject(root);
  while (!waiting_.empty()) {
    Object* const object = waiting_.back();
    waiting_.pop_back();
    for (std::size_t index = 0; index < object->shape().pointers; ++index) {
      MarkObject(object->pointer(index));
    }
  }
}

template <typename Barrier>
void Heap<Barrier>::Collect() {
  constexpr bool kIsGenerational = !std::is_same_v<Barrier, NoBarrier>;
  if (!kIsGenerational || space_->used() > 2 * std::max(old_after_full_, options_.young_size)) {
    return CollectFully();
  }
  const double begin = Milliseconds();
  barrier_.TakeWritten([&](dune::Range written) {
    statistics_.bytes_written += written.size;
    space_->ForEachMarked(written,
                          [&](Object* old, dune::Range part) { MarkFields(old, part); });
  });
  MarkFromRoots();
  Finish();
  ++statistics_.minor;
  statistics_.paused += Milliseconds() - begin;
  is_sound_ = is_sound_ && (!options_.is_verified || IsSound());
}

template <typename Barrier>
void Heap<Barrier>::CollectFully() {
  const double begin = Milliseconds();
  barrier_.TakeWritten([](dune::Range) {});
  space_->ClearMarks();
  MarkFromRoots();
  Finish();
  old_after_full_ = space_->used();
  // Without generations each collection costs as much as there is: then as much may be made before the next.
  if (std::is_same_v<Barrier, NoBarrier>) young_limit_ = std::max(options_.young_size, old_after_full_);
  ++statistics_.full;
  statistics_.paused += Milliseconds() - begin;
  is_sound_ = is_sound_ && (!options_.is_verified || IsSound());
}

template <typename Barrier>
void Heap<Barrier>::Finish() {
  space_->Sweep();
  barrier_.Cover(space_->old());
  young_ = 0;
}

template <typename Barrier>
bool Heap<Barrier>::IsSound() {
  std::unordered_set<Object*> seen;
  std::vector<Object*> to_see(roots_);
  while (!to_see.empty()) {
    Object* const object = to_see.back();
    to_see.pop_back();
    if (object == nullptr || !seen.insert(object).second) continue;
    if (!space_->IsCell(object) || !space_->IsMarked(object)) return false;
    for (std::size_t index = 0; index < object->shape().pointers; ++index) {
      to_see.push_back(object->pointer(index));
    }
  }
  return true;
}

}  // namespace gc

#endif  // DUNEBOX_EXAMPLES_GC_HEAP_H_
