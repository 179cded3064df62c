#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <vector>

#include "tests/jit/arena.h"
#include "tests/jit/emitted.h"
#include "tests/jit/runner.h"

namespace dunebox::jit {
namespace {

constexpr std::size_t kPresentOffset = 512, kAvxOffset = 576, kAvxSize = 256;
constexpr std::uint64_t kAvx = 4, kUpperHalvesOfZmm = 0x40;

// Some processors count AVX as in use after a legacy SSE instruction if upper halves of ZMM
// registers are; XSAVEOPT then leaves what is in the area, and XRSTOR would load it.
TEST(VectorState, WhatIsInitialStaysSoWhateverIsInTheArea) {
  if ((VectorLayout().mask & kUpperHalvesOfZmm) == 0) GTEST_SKIP() << "no AVX-512";
  const std::unique_ptr<Arena> arena = Arena::Map(kLayouts[0]);
  ASSERT_NE(arena, nullptr);
  Runner runner(*arena, {});
  // Twice through the runtime with an SSE instruction between: maxps xmm0, xmm1; hlt
  const std::vector<std::uint8_t> code = FromHex("0f 5f c1 f4");
  arena->WriteCode(arena->code(), code);
  Random random(1);
  Machine start;
  Randomize(random, start);
  start.rip = arena->code();
  const std::uint64_t present = VectorLayout().mask & ~kAvx;
  std::memcpy(start.extended.data() + kPresentOffset, &present, sizeof(present));
  std::memset(start.extended.data() + kAvxOffset, 0x22, kAvxSize);

  Machine native = start, translated = start;
  runner.RunNative(native);
  runner.RunTranslated(translated);
  EXPECT_EQ(Difference(native, translated), "");
}

}  // namespace
}  // namespace dunebox::jit
