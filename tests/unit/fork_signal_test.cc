#include "runtime/process/fork_signal.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <unistd.h>

#include <array>
#include <cstddef>

namespace dunebox::process {
namespace {

// The kernel writes to what is found: half a pointer changed so was a child without thread-local storage.
TEST(ForkSignal, AThreadsIdIsNotTakenForHalfAPointer) {
  constexpr pid_t kId = 0x555c;
  std::array<std::uint64_t, 6> descriptor = {0x555c'9295'e4c0, 0x7f00'0000'555c, 0, 0x555c'0000'555c, kId, kId};
  EXPECT_EQ(ThreadIdIn(descriptor, kId), reinterpret_cast<pid_t*>(&descriptor[4]));
  EXPECT_EQ(ThreadIdIn(descriptor, kId + 1), nullptr);
}

TEST(ForkSignal, TheCLibrarysDescriptorHasIt) {
  constexpr std::size_t kWords = 0x500 / sizeof(std::uint64_t);
  auto* const descriptor = reinterpret_cast<std::uint64_t*>(pthread_self());
  EXPECT_NE(ThreadIdIn(std::span(descriptor, kWords), gettid()), nullptr);
}

}  // namespace
}  // namespace dunebox::process
