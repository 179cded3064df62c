#include "examples/gc/heap.h"

#include <gtest/gtest.h>

#include "examples/gc/workloads.h"

namespace gc {
namespace {

// Loses what was written: what the verification is there to find.
class ForgetfulBarrier {
 public:
  explicit ForgetfulBarrier(dune::Range /*space*/) {}
  void Stored(const void* /*address*/) {}
  void Cover(dune::Range /*extent*/) {}
  void TakeWritten(WrittenVisitor /*visitor*/) {}
};

template <typename Barrier>
std::unique_ptr<Heap<Barrier>> SmallHeap() {
  return Heap<Barrier>::Create(
      {.capacity = 64 << 20, .young_size = 256 << 10, .is_verified = true});
}

// An old object is made to point to a young one, which nothing else points to.
template <typename Barrier>
bool IsSoundAfterAnOldObjectWasWritten() {
  auto heap = SmallHeap<Barrier>();
  const Local old(*heap, heap->New(kListNode));
  heap->Collect();
  heap->Store(old.get(), 0, heap->New(kListNode));
  heap->Collect();
  return heap->is_sound();
}

TEST(GcHeap, AYoungObjectLivesByTheOldOneThatPointsToIt) {
  EXPECT_TRUE(IsSoundAfterAnOldObjectWasWritten<CardBarrier>());
  EXPECT_TRUE(IsSoundAfterAnOldObjectWasWritten<ProtectionBarrier>());
}

TEST(GcHeap, VerifyingFindsABarrierThatForgets) {
  EXPECT_FALSE(IsSoundAfterAnOldObjectWasWritten<ForgetfulBarrier>());
}

TEST(GcHeap, WhatNothingPointsToIsUsedAgain) {
  auto heap = SmallHeap<CardBarrier>();
  const Local kept(*heap, heap->New(kListNode));
  for (int count = 0; count < 8'000'000; ++count) heap->New(kListNode);  // four times what there is room for
  EXPECT_TRUE(heap->is_sound());
  EXPECT_GT(heap->statistics().minor, 100u);
}

TEST(GcHeap, LargeObjectsAreKeptFoundAndFreed) {
  auto heap = SmallHeap<CardBarrier>();
  const Local large(*heap, heap->New({.pointers = 100'000}));
  heap->Collect();
  heap->Store(large.get(), 99'999, heap->New({.numbers = 1}));
  large->pointer(99'999)->number(0) = 5;
  for (int count = 0; count < 400; ++count) heap->New({.numbers = 100'000});
  EXPECT_EQ(large->pointer(99'999)->number(0), 5u);
  EXPECT_TRUE(heap->is_sound());
}

}  // namespace
}  // namespace gc
