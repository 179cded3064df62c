#include <gtest/gtest.h>

#include <cstdint>
#include <string_view>
#include <variant>
#include <vector>

#include "tests/jit/emitted.h"

namespace dunebox::jit {
namespace {

constexpr std::uint64_t kPc = 0x40'1000;

struct Translated {
  std::vector<std::uint8_t> bytes;
  Block block;
};

Translated Make(std::string_view hex, const Limits& limits = {}, std::uint64_t pc = kPc) {
  Translated result{.bytes = FromHex(hex), .block = {}};
  Translate(pc, result.bytes, limits, result.block);
  return result;
}

template <typename T>
const T& EndOf(const Translated& translated) {
  const T* terminal = std::get_if<T>(&translated.block.terminal);
  EXPECT_NE(terminal, nullptr) << "terminal " << translated.block.terminal.index();
  static const T none{};
  return terminal == nullptr ? none : *terminal;
}

TEST(Translate, AJumpEndsTheBlockAtItsTarget) {
  EXPECT_EQ(EndOf<JumpTo>(Make("90 eb 10")).target, kPc + 3 + 0x10);
  EXPECT_EQ(EndOf<JumpTo>(Make("eb fe")).target, kPc);
  EXPECT_EQ(EndOf<JumpTo>(Make("e9 00 00 00 80")).target, kPc + 5 - 0x8000'0000);
  EXPECT_EQ(EndOf<JumpTo>(Make("e9 ff ff ff 7f")).target, kPc + 5 + 0x7fff'ffff);
}

TEST(Translate, ACallNamesWhereItGoesAndComesBack) {
  const Translated call = Make("90 e8 00 01 00 00 90");
  EXPECT_EQ(EndOf<CallTo>(call).target, kPc + 6 + 0x100);
  EXPECT_EQ(EndOf<CallTo>(call).return_address, kPc + 6);
  EXPECT_EQ(call.block.length, 6u);
  EXPECT_EQ(EndOf<CallThrough>(Make("ff d0")).return_address, kPc + 2);
  EXPECT_EQ(EndOf<CallThrough>(Make("ff 15 00 00 00 00")).return_address, kPc + 6);
}

TEST(Translate, EveryOtherEndHasItsTerminal) {
  EndOf<JumpThrough>(Make("ff e0"));
  EndOf<JumpThrough>(Make("ff 24 25 00 10 00 00"));
  EXPECT_EQ(EndOf<ReturnFrom>(Make("c3")).extra, 0);
  EXPECT_EQ(EndOf<ReturnFrom>(Make("f3 c3")).extra, 0);
  EXPECT_EQ(EndOf<ReturnFrom>(Make("c2 fe ff")).extra, 0xfffe);
  EXPECT_EQ(EndOf<MakeSystemCall>(Make("0f 05")).next, kPc + 2);
  EndOf<EmulateOne>(Make("0f a2"));     // cpuid
  EndOf<EmulateOne>(Make("8e d8"));     // mov ds, eax
  EndOf<EmulateOne>(Make("48 cf"));     // iretq
  EndOf<RaiseTrap>(Make("cc"));         // int3
  EndOf<RaiseTrap>(Make("0f 0b"));      // ud2
  EndOf<RaiseTrap>(Make("cd 80"));      // int 0x80
  EndOf<RaiseTrap>(Make("f4"));         // hlt
  EndOf<RaiseTrap>(Make("06"));         // push es: not in 64-bit mode
  EndOf<RaiseTrap>(Make("0f ff c0"));   // ud0
  EndOf<EmulateOne>(Make("0f 01 ef"));  // wrpkru
}

TEST(Translate, WhatEndsABlockIsItsLastStep) {
  const Translated translated = Make("90 48 01 c8 c3 90");
  ASSERT_EQ(translated.block.steps.size(), 3u);
  EXPECT_EQ(translated.block.steps[1].offset, 1);
  EXPECT_EQ(translated.block.steps[2].instruction.klass, Class::kReturn);
  EXPECT_EQ(translated.block.length, 5u);
}

TEST(Translate, ABlockGoesOnBehindBranchesUntilTheirLimit) {
  const std::string_view four = "74 02 75 02 e2 02 e3 02 90 c3";
  const Translated all = Make(four, {.instructions = 64, .branches = 5});
  EXPECT_EQ(all.block.steps.size(), 6u);
  EndOf<ReturnFrom>(all);
  for (unsigned limit = 1; limit <= 4; ++limit) {
    const Translated some = Make(four, {.instructions = 64, .branches = limit});
    EXPECT_EQ(some.block.steps.size(), limit);
    EXPECT_EQ(EndOf<JumpTo>(some).target, kPc + 2 * limit);
  }
}

TEST(Translate, InstructionsAreLimited) {
  for (unsigned limit = 1; limit < 8; ++limit) {
    const Translated some = Make("90 90 90 90 90 90 90 c3", {.instructions = limit});
    EXPECT_EQ(some.block.length, limit);
    EXPECT_EQ(EndOf<JumpTo>(some).target, kPc + limit);
  }
  EndOf<ReturnFrom>(Make("90 90 90 90 90 90 90 c3", {.instructions = 8}));
}

TEST(Translate, EndsBehindAStoreIfAsked) {
  const Limits limits{.ends_at_store = true};
  struct Case {
    const char* bytes;
    std::uint32_t length;
  };
  const Case cases[] = {
      {"48 89 c8 48 89 07 90 c3", 6},           // mov [rdi], rax
      {"48 8b 07 48 01 07 90 c3", 6},           // add [rdi], rax
      {"48 39 07 90 c3", 5},                    // cmp [rdi], rax: reads
      {"50 90 c3", 1},                          // push
      {"aa 90 c3", 1},                          // stosb
      {"c5 fd 7f 07 90 c3", 4},                 // vmovdqa [rdi], ymm0
      {"0f f7 c1 90 c3", 3},                    // maskmovq
      {"f0 0f c7 0f 90 c3", 4},                 // lock cmpxchg8b
      {"0f 94 07 90 c3", 3},                    // sete [rdi]
      {"a3 00 00 00 00 00 00 00 00 90 c3", 9},  // mov [moffs], eax
  };
  for (const Case& c : cases) EXPECT_EQ(Make(c.bytes, limits).block.length, c.length) << c.bytes;
}

TEST(Translate, BytesThatEndEarlyEndTheBlockInFrontOfTheTornInstruction) {
  const Translated torn = Make("90 48 01 c8 48 8b 05 00");
  EXPECT_EQ(torn.block.steps.size(), 2u);
  EXPECT_EQ(EndOf<JumpTo>(torn).target, kPc + 4);
}

TEST(Translate, TheFirstMissingByteIsTheFault) {
  EXPECT_EQ(EndOf<FetchFault>(Make("")).address, kPc);
  EXPECT_EQ(EndOf<FetchFault>(Make("48")).address, kPc + 1);
  EXPECT_EQ(EndOf<FetchFault>(Make("48 8b 05 00 00")).address, kPc + 5);
  EXPECT_TRUE(Make("48 8b").block.steps.empty());
}

TEST(Translate, LongPrefixesAreRefusedNotTruncated) {
  EndOf<RaiseTrap>(Make("66 66 66 66 66 66 66 66 66 66 66 66 66 66 66 90"));
}

TEST(Translate, ForgetsTheBlockBefore) {
  Block block;
  const std::vector<std::uint8_t> first = FromHex("90 90 c3"), second = FromHex("f4");
  Translate(kPc, first, {}, block);
  block.is_self_checking = true;
  Translate(kPc + 1, second, {}, block);
  EXPECT_EQ(block.pc, kPc + 1);
  EXPECT_EQ(block.steps.size(), 1u);
  EXPECT_EQ(block.length, 1u);
  EXPECT_FALSE(block.is_self_checking);
}

TEST(Translate, AddressesWrapAround) {
  const Translated top = Make("eb 20", {}, ~std::uint64_t{0} - 1);
  EXPECT_EQ(EndOf<JumpTo>(top).target, 0x20u);
}

TEST(KnownSystemCall, IsWhatTheBlockItselfPutsIntoRax) {
  EXPECT_EQ(KnownSystemCall(Make("b8 27 00 00 00 0f 05").block), 0x27);
  EXPECT_EQ(KnownSystemCall(Make("b8 27 00 00 00 89 f7 48 89 d6 0f 05").block), 0x27);
  EXPECT_EQ(KnownSystemCall(Make("b8 01 00 00 00 b8 02 00 00 00 0f 05").block), 2);
}

TEST(KnownSystemCall, IsUnknownWhenAnythingElseMayHaveChangedRax) {
  for (const char* bytes : {
           "0f 05",                          // nothing known
           "48 c7 c0 27 00 00 00 0f 05",     // another form
           "66 b8 27 00 0f 05",              // AX only
           "b0 27 0f 05",                    // AL only
           "b8 27 00 00 00 ff c0 0f 05",     // inc eax
           "b8 27 00 00 00 48 8b 00 0f 05",  // mov rax, [rax]
           "b8 27 00 00 00 58 0f 05",        // pop rax
           "b8 27 00 00 00 93 0f 05",        // xchg
           "b8 27 00 00 00 74 00 0f 05",     // a side exit behind it
           "b8 27 00 00 00 f7 e1 0f 05",     // mul ecx
           "b8 27 00 00 00 ac 0f 05",        // lodsb
           "b8 27 00 00 00 0f c7 0f 0f 05",  // cmpxchg8b
           "41 b8 27 00 00 00 0f 05",        // R8D
           "b8 ff ff ff ff 0f 05",           // no number
       }) {
    EXPECT_LT(KnownSystemCall(Make(bytes).block), 0) << bytes;
  }
}

TEST(MayUseX87, IsTrueOfWhateverKnowsTheUnit) {
  for (const char* bytes : {
           "d9 e8 c3",                          // fld1
           "dd 45 f8 c3",                       // fld qword [rbp - 8]
           "d9 7d f8 c3",                       // fnstcw
           "90 90 9b c3",                       // fwait
           "0f 77 c3",                          // emms
           "0f 6f 07 c3",                       // movq mm0, [rdi]
           "0f 7f 07 c3",                       // movq [rdi], mm0
           "0f ef c1 c3",                       // pxor mm0, mm1
           "0f 38 00 c1 c3",                    // pshufb mm0, mm1
           "0f 3a 0f c1 01 c3",                 // palignr mm0, mm1, 1
           "0f 2d c1 c3",                       // cvtps2pi mm0, xmm1
           "66 0f 2a c1 c3",                    // cvtpi2pd xmm0, mm1
           "f3 0f d6 c1 c3",                    // movq2dq xmm0, mm1
           "f2 0f d6 c1 c3",                    // movdq2q mm0, xmm1
           "0f f7 c1 c3",                       // maskmovq
           "0f ae 07 c3",                       // fxsave
           "0f ae 0f c3",                       // fxrstor
           "0f ae 27 c3",                       // xsave, of whatever mask
           "b8 e7 00 00 00 0f c7 27 c3",        // xsavec with the unit
           "b8 e7 00 00 00 0f ae 2f c3",        // xrstor
           "b8 e6 00 00 00 ff c0 0f ae 2f c3",  // xrstor, EAX changed
           "b8 e6 00 00 00 74 00 0f ae 2f c3",  // xrstor behind a side exit
           "b8 e6 00 00 00 0f ae 07 c3",        // fxsave has no mask
       }) {
    EXPECT_TRUE(MayUseX87(Make(bytes).block)) << bytes;
  }
}

TEST(MayUseX87, IsFalseOfTheRest) {
  for (const char* bytes : {
           "c3", "90 0f 05",
           "f3 0f 6f 07 c3",              // movdqu xmm0, [rdi]
           "66 0f ef c1 c3",              // pxor xmm0, xmm1
           "66 0f 38 00 c1 c3",           // pshufb xmm0, xmm1
           "c5 f8 77 c3",                 // vzeroupper
           "c5 f1 d8 c2 c3",              // vpsubusb, whose opcode is fadd's in another map
           "f3 0f 2a c0 c3",              // cvtsi2ss xmm0, eax
           "0f ae 17 c3",                 // ldmxcsr
           "0f ae 1f c3",                 // stmxcsr
           "0f 01 d0 c3",                 // xgetbv
           "b8 e6 00 00 00 31 d2 0f c7 27 c3",  // xsavec as the dynamic linker does it
           "b8 e6 00 00 00 31 d2 0f ae 2f c3",  // xrstor
       }) {
    EXPECT_FALSE(MayUseX87(Make(bytes).block)) << bytes;
  }
}

}  // namespace
}  // namespace dunebox::jit
