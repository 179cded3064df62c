// The instructions that the runtime carries out for translated code.
#include "runtime/jit/emulate.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <iterator>
#include <string_view>
#include <vector>

#include "jit-fallback/decode/instruction.h"
#include "runtime/jit/undecoded_features.h"

namespace dunebox::runtime {
namespace {

namespace x86 = dune::x86;
using hostcalls::GuestMemory;
using hostcalls::Window;

constexpr std::uint64_t kWindowLimit = hostcalls::Window::WholeProgram().limit;
constexpr unsigned kRax = 0;

class EmulateTest : public testing::Test {
 protected:
  std::optional<Fault> Run(const std::vector<std::uint8_t>& bytes) {
    jit::Instruction instruction;
    EXPECT_EQ(jit::Decode(bytes, instruction), jit::DecodeStatus::kOk);
    return Emulate(instruction, context_, memory_);
  }

  GuestMemory memory_{Window::WholeProgram()};
  jit::Context context_{};
};

// Where the leaf has no parts, whatever is in ECX.
TEST_F(EmulateTest, HiddenFeaturesStayHidden) {
  constexpr unsigned kRcx = 1, kRdx = 2;
  const std::vector<std::uint8_t> cpuid = {0x0f, 0xa2};
  for (const std::uint64_t leaf : {std::uint64_t{1}, std::uint64_t{0x8000'0001}}) {
    std::vector<std::uint64_t> seen;
    for (const std::uint64_t rest : {0, 1, 0x1234}) {
      context_.gpr[kRax] = leaf;
      context_.gpr[kRcx] = rest;
      EXPECT_FALSE(Run(cpuid).has_value());
      for (const x86::HiddenFeature& hidden : x86::kHiddenFeatures) {
        if (hidden.function != leaf || hidden.reg != &x86::CpuidResult::ecx) continue;
        EXPECT_EQ(context_.gpr[kRcx] >> hidden.bit & 1, 0u) << hidden.name;
      }
      seen.push_back(context_.gpr[kRcx] << 32 | context_.gpr[kRdx]);
    }
    EXPECT_EQ(seen[1], seen[0]);
    EXPECT_EQ(seen[2], seen[0]);
  }
}

// An instruction of each, in their order.
constexpr std::array<std::string_view, std::size(kUndecodedFeatures)> kUndecoded = {
    "\x62\xf2\x7d\x49\xc6\x0c\x10",      // vgatherpf0dps [rax + zmm2] {k1}
    "\xf2\x0f\x01\xe8",                  // xsusldtrk
    "\xc4\xe2\x7f\xcc\xc1",              // vsha512msg1 ymm0, xmm1
    "\xc4\xe2\x70\xda\xc2",              // vsm3msg1 xmm0, xmm1, xmm2
    "\xc4\xe2\x72\xda\xc2",              // vsm4key4 xmm0, xmm1, xmm2
    "\x0f\x38\xfc\x08",                  // aadd [rax], ecx
    "\xc4\xe2\x71\xe0\x00",              // cmpoxadd [rax], eax, ecx
    "\xc4\xe2\xf1\xb4\xc2",              // vpmadd52luq xmm0, xmm1, xmm2
    "\xc4\xe2\x73\x50\xc2",              // vpdpbssd xmm0, xmm1, xmm2
    "\xc4\xe2\x7a\xb1\x08",              // vbcstnebf162ps xmm1, [rax]
    "\xc4\xe2\x72\xd2\xc2",              // vpdpwsud xmm0, xmm1, xmm2
    "\xf2\x0f\x38\xf8\xc1",              // urdmsr rcx, rax
    "\x62\xf3\x75\x08\x52\xc2\x01",      // vminmaxps xmm0, xmm1, xmm2, 1
    "\x8f\xe8\x78\xc0\xc1\x02",          // vprotb xmm0, xmm1, 2
    "\x8f\xe9\x78\x12\xc0",              // llwpcb eax
    "\x8f\xe9\x78\x01\xc9",              // blcfill eax, ecx
    "\x0f\x0f\xc1\x0c",                  // pi2fw mm0, mm1
    "\x0f\x0f\xc1\x9e",                  // pfadd mm0, mm1
    "\xf3\x0f\x01\xfa",                  // mcommit
};

TEST(UndecodedFeatures, AreHiddenAndTheDecoderRefusesThem) {
  for (std::size_t i = 0; i < kUndecoded.size(); ++i) {
    const x86::HiddenFeature& feature = kUndecodedFeatures[i];
    constexpr std::uint32_t kAll = ~std::uint32_t{0};
    x86::CpuidResult offered{kAll, kAll, kAll, kAll};
    HideFromGuest(feature.function, feature.index, offered);
    EXPECT_EQ(offered.*feature.reg >> feature.bit & 1, 0u) << feature.name;
    std::array<std::uint8_t, 16> bytes{};
    std::ranges::copy(kUndecoded[i], bytes.begin());
    jit::Instruction instruction;
    EXPECT_EQ(jit::Decode(bytes, instruction), jit::DecodeStatus::kInvalid) << feature.name;
  }
}

TEST_F(EmulateTest, SegmentBasesStayInTheWindow) {
  const std::vector<std::uint8_t> wrfsbase = {0xf3, 0x48, 0x0f, 0xae, 0xd0};  // RAX
  const std::vector<std::uint8_t> wrgsbase = {0xf3, 0x48, 0x0f, 0xae, 0xd8};
  for (const auto& [code, base] :
       {std::pair{wrfsbase, &jit::Context::fs_base}, std::pair{wrgsbase, &jit::Context::gs_base}}) {
    for (const std::uint64_t value : {std::uint64_t{0}, std::uint64_t{0x1234}, kWindowLimit - 1}) {
      context_.rip = 0x1000;
      context_.gpr[kRax] = value;
      EXPECT_FALSE(Run(code).has_value());
      EXPECT_EQ(context_.*base, value);
      EXPECT_EQ(context_.rip, 0x1005u);
    }
    context_.*base = 0x77;
    for (const std::uint64_t value :
         {kWindowLimit, std::uint64_t{0x7fff'ffff'f000}, std::uint64_t{0x8000'0000'0000},
          std::uint64_t{0xffff'8000'0000'0000}, ~std::uint64_t{0}}) {
      context_.rip = 0x1000;
      context_.gpr[kRax] = value;
      const std::optional<Fault> fault = Run(code);
      ASSERT_TRUE(fault.has_value()) << std::hex << value;
      EXPECT_EQ(fault->vector, x86::Vector::kGeneralProtection);
      EXPECT_EQ(context_.*base, 0x77u);
      EXPECT_EQ(context_.rip, 0x1000u);
    }
  }
}

TEST_F(EmulateTest, TheShortFormOfASegmentBaseIs32BitsWide) {
  context_.gpr[kRax] = 0xffff'ffff'1234'5678;
  EXPECT_FALSE(Run({0xf3, 0x0f, 0xae, 0xd8}).has_value());  // wrgsbase eax
  EXPECT_EQ(context_.gs_base, 0x1234'5678u);
  context_.gs_base = 0x12'3456'789a;
  EXPECT_FALSE(Run({0xf3, 0x0f, 0xae, 0xc8}).has_value());  // rdgsbase eax
  EXPECT_EQ(context_.gpr[kRax], 0x3456'789au);
}

// Whatever the registers hold, memory is reached through GuestMemory only.
TEST_F(EmulateTest, OperandsOutsideTheWindowFault) {
  std::uint64_t canary = 0x1122334455667788;
  const auto runtime_address = reinterpret_cast<std::uint64_t>(&canary);
  if (runtime_address < kWindowLimit) GTEST_SKIP() << "this program lies in the window";
  context_.gpr[kRax] = runtime_address;
  context_.gpr[4] = runtime_address + 8;
  const std::vector<std::vector<std::uint8_t>> attacks = {
      {0x8c, 0x18},              // mov [rax], ds
      {0x8e, 0x20},              // mov fs, [rax]
      {0x0f, 0xa0},              // push fs
      {0x48, 0xff, 0x28},        // jmp far [rax]
      {0x48, 0xff, 0x18},        // call far [rax]
      {0x48, 0xcb},              // ret far
      {0x48, 0xcf},              // iret
      {0x9d},                    // popf
      {0x48, 0x0f, 0xb4, 0x00},  // lfs rax, [rax]
  };
  for (const std::vector<std::uint8_t>& code : attacks) {
    const jit::Context before = context_;
    const std::optional<Fault> fault = Run(code);
    ASSERT_TRUE(fault.has_value()) << std::hex << int{code[0]};
    EXPECT_EQ(fault->vector, x86::Vector::kPageFault);
    EXPECT_EQ(canary, 0x1122334455667788u);
    EXPECT_EQ(context_.rip, before.rip);
    EXPECT_EQ(context_.gpr[4], before.gpr[4]);
  }
}

}  // namespace
}  // namespace dunebox::runtime
