// What the collector is tried on, as in table 6 of the Dune paper: a tree benchmark (GCBench, after Ellis, Kovac and
// Boehm), a long list and a large hash map, of which little changes between two collections. Each returns a number that
// only the right objects give.
//
//   std::uint64_t result = gc::Trees(heap, 16);
#ifndef DUNEBOX_EXAMPLES_GC_WORKLOADS_H_
#define DUNEBOX_EXAMPLES_GC_WORKLOADS_H_

#include <cstdint>

#include "examples/gc/heap.h"

namespace gc {

class Random {  // xorshift
 public:
  std::uint64_t Next() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    return state_ ^= state_ << 17;
  }

 private:
  std::uint64_t state_ = 88172645463325252;
};

// ---- Trees ----------------------------------------------------------------------------------------------------------

inline constexpr Shape kTreeNode{.pointers = 2, .numbers = 2};

template <typename Heap>
Object* MakeTree(Heap& heap, int depth) {
  if (depth == 0) return heap.New(kTreeNode);
  const Local left(heap, MakeTree(heap, depth - 1));
  const Local right(heap, MakeTree(heap, depth - 1));
  Object* const node = heap.New(kTreeNode);
  heap.Store(node, 0, left.get());
  heap.Store(node, 1, right.get());
  return node;
}

// From the root down, so that older nodes are made to point to younger ones.
template <typename Heap>
void Populate(Heap& heap, int depth, Object* node) {
  if (depth == 0) return;
  const Local root(heap, node);
  heap.Store(root.get(), 0, nullptr);
  Object* child = heap.New(kTreeNode);
  heap.Store(root.get(), 0, child);
  child = heap.New(kTreeNode);
  heap.Store(root.get(), 1, child);
  Populate(heap, depth - 1, root->pointer(0));
  Populate(heap, depth - 1, root->pointer(1));
}

inline std::uint64_t CountNodes(Object* node) {
  return node == nullptr ? 0 : 1 + CountNodes(node->pointer(0)) + CountNodes(node->pointer(1));
}

template <typename Heap>
std::uint64_t Trees(Heap& heap, int depth) {
  std::uint64_t nodes = CountNodes(MakeTree(heap, depth + 2));  // stretches the heap
  const Local long_lived(heap, heap.New(kTreeNode));
  Populate(heap, depth, long_lived.get());
  const std::uint32_t count = std::uint32_t{8} << depth;
  const Local numbers(heap, heap.New({.numbers = count}));
  for (std::uint32_t index = 0; index < count; ++index) numbers->number(index) = index;
  for (int small = 4; small <= depth; small += 2) {
    const int trees = 2 << (depth + 2 - small);
    for (int tree = 0; tree < trees; ++tree) {
      const Local top_down(heap, heap.New(kTreeNode));
      Populate(heap, small, top_down.get());
      nodes += CountNodes(top_down.get());
      nodes += CountNodes(MakeTree(heap, small));
    }
  }
  return nodes + CountNodes(long_lived.get()) + numbers->number(count - 1);
}

// ---- A list ---------------------------------------------------------------------------------------------------------

inline constexpr Shape kListNode{.pointers = 1, .numbers = 1};

template <typename Heap>
std::uint64_t LinkedList(Heap& heap, std::uint64_t length) {
  const Local head(heap, nullptr);
  Local first(heap, nullptr);
  for (std::uint64_t value = 0; value < length; ++value) {
    Object* const node = heap.New(kListNode);
    node->number(0) = value;
    heap.Store(node, 0, first.get());
    first.set(node);
  }
  std::uint64_t sum = 0;
  for (int round = 0; round < 20; ++round) {
    // Lists that live for a moment, beside one that stays.
    for (int list = 0; list < 10; ++list) {
      Local passing(heap, nullptr);
      for (std::uint64_t value = 0; value < length / 20; ++value) {
        Object* const node = heap.New(kListNode);
        node->number(0) = value;
        heap.Store(node, 0, passing.get());
        passing.set(node);
      }
      for (Object* node = passing.get(); node != nullptr; node = node->pointer(0)) {
        sum += node->number(0);
      }
    }
    // Now and then a node goes, and a young one comes in its place.
    Local node(heap, first.get());
    for (std::uint64_t place = 0; node->pointer(0) != nullptr; ++place) {
      if (place % 5000 == static_cast<std::uint64_t>(round)) {
        Object* const young = heap.New(kListNode);
        Object* const gone = node->pointer(0);
        young->number(0) = gone->number(0) + 1;
        heap.Store(young, 0, gone->pointer(0));
        heap.Store(node.get(), 0, young);
      }
      node.set(node->pointer(0));
    }
  }
  for (Object* node = first.get(); node != nullptr; node = node->pointer(0)) {
    sum = sum * 31 + node->number(0);
  }
  return sum;
}

// ---- A hash map -----------------------------------------------------------------------------------------------------

inline constexpr Shape kEntry{.pointers = 1, .numbers = 2};

template <typename Heap>
std::uint64_t HashMap(Heap& heap, std::uint32_t buckets) {
  const Local table(heap, heap.New({.pointers = buckets}));
  const auto insert = [&](std::uint64_t key, std::uint64_t value) {
    Object* const entry = heap.New(kEntry);
    entry->number(0) = key;
    entry->number(1) = value;
    heap.Store(entry, 0, table->pointer(key % buckets));
    heap.Store(table.get(), key % buckets, entry);
  };
  for (std::uint64_t key = 0; key < 2 * std::uint64_t{buckets}; ++key) insert(key, key);
  Random random;
  std::uint64_t sum = 0;
  for (std::uint64_t operation = 0; operation < 16 * std::uint64_t{buckets}; ++operation) {
    const std::uint64_t number = random.Next();
    const std::uint64_t key = number % (2 * std::uint64_t{buckets});
    if (operation % 256 == 0) {
      // The newest of the bucket goes, and another comes.
      Object* const entry = table->pointer(key % buckets);
      heap.Store(table.get(), key % buckets, entry->pointer(0));
      insert(entry->number(0), entry->number(1) + 1);
      continue;
    }
    Object* const answer = heap.New({.numbers = 3});  // a caller's copy
    for (Object* entry = table->pointer(key % buckets); entry != nullptr;
         entry = entry->pointer(0)) {
      if (entry->number(0) == key) answer->number(0) = entry->number(1);
    }
    sum = sum * 31 + answer->number(0);
  }
  return sum;
}

}  // namespace gc

#endif  // DUNEBOX_EXAMPLES_GC_WORKLOADS_H_
