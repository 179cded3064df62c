// Signal frames there and back, and what an adversary puts into one.
#include "runtime/signals/frame.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <span>
#include <vector>

#include "hostcalls/abi/ring0_abi.h"
#include "libdune/x86/control.h"
#include "runtime/signals/host_signals.h"
#include "tests/fakes/guest_pages.h"

namespace dunebox::signals {
namespace {

namespace rflags = dune::x86::rflags;

constexpr std::size_t kStateSize = 576 + 256;  // with AVX
constexpr std::uint64_t kFeatures = 7;
constexpr std::uint64_t kUserFlags = rflags::kReserved1 | rflags::kInterrupt;

// Holds an extended state; refuses what XRSTOR would refuse, as KVM does.
class FakeEngineThread final : public runtime::EngineThread {
 public:
  FakeEngineThread() : state(kStateSize) {
    for (std::size_t i = 0; i < 464; ++i) state[i] = static_cast<std::byte>(i * 3);
    for (std::size_t i = 576; i < kStateSize; ++i) state[i] = static_cast<std::byte>(i * 5);
    const std::uint32_t mxcsr = 0x1f80;
    std::memcpy(&state[24], &mxcsr, sizeof(mxcsr));
    state[512] = std::byte{kFeatures};
  }
  runtime::Exit Run(runtime::Registers&) override { return runtime::Interrupted{}; }
  void Kick() override {}
  void Unkick() override {}
  std::size_t extended_state_size() const override { return kStateSize; }
  std::uint64_t extended_features() const override { return kFeatures; }
  absl::Status SaveExtendedState(std::span<std::byte> area) override {
    if (!error.ok()) return error;
    EXPECT_EQ(area.size(), kStateSize);
    std::ranges::copy(state, area.begin());
    return absl::OkStatus();
  }
  absl::Status LoadExtendedState(std::span<const std::byte> area) override {
    if (!error.ok()) return error;
    EXPECT_EQ(area.size(), kStateSize);
    // The caller's promise.
    std::uint64_t present, compact;
    std::uint32_t mxcsr;
    std::memcpy(&present, &area[512], 8);
    std::memcpy(&compact, &area[520], 8);
    std::memcpy(&mxcsr, &area[24], 4);
    EXPECT_EQ(present & ~kFeatures, 0u);
    EXPECT_EQ(compact, 0u);
    EXPECT_EQ(mxcsr & 0xffff'0000, 0u);
    state.assign(area.begin(), area.end());
    ++loads;
    return absl::OkStatus();
  }

  std::vector<std::byte> state;
  absl::Status error;
  int loads = 0;
};

class FrameTest : public ::testing::Test {
 protected:
  FrameTest() {
    InstallFaultHandlers();
    registers_.rsp = pages_.end() - 64;
    registers_.rip = 0x40'1000;
    std::uint64_t value = 0x1000;
    for (std::uint64_t* reg :
         {&registers_.rax, &registers_.rbx, &registers_.rcx, &registers_.rdx, &registers_.rsi,
          &registers_.rdi, &registers_.rbp, &registers_.r8, &registers_.r9, &registers_.r10,
          &registers_.r11, &registers_.r12, &registers_.r13, &registers_.r14, &registers_.r15}) {
      *reg = ++value;
    }
    registers_.rflags = kUserFlags | rflags::kCarry | rflags::kDirection;
    registers_.fs_base = 0x7000;
    info_.si_signo = SIGUSR1;
    info_.si_code = SI_USER;
  }

  DeliveryState State() {
    return {.registers = &registers_,
            .engine = &engine_,
            .memory = &memory_,
            .alternate_stack = &alternate_,
            .mask = 0x1234'5678'0000'0000};
  }
  // False as well if the engine fails.
  bool Push() { return PushFrame(State(), action_, info_, trap_).value_or(false); }
  // As the handler's RET and the restorer's rt_sigreturn leave it.
  bool Pop() {
    registers_.rsp += 8;
    return PopFrame(State(), &mask_).value_or(false);
  }
  SignalFrame& Frame() { return *reinterpret_cast<SignalFrame*>(registers_.rsp); }
  std::byte* Extended() {
    return reinterpret_cast<std::byte*>(Frame().user.context.extended_state);
  }
  template <typename T>
  T& ExtendedAt(std::size_t offset) {
    return *reinterpret_cast<T*>(Extended() + offset);
  }

  fakes::GuestPages pages_{4};
  const hostcalls::GuestMemory memory_{hostcalls::Window::WholeProgram()};
  FakeEngineThread engine_;
  runtime::Registers registers_;
  AlternateStack alternate_;
  KernelAction action_{
      .handler = 0x40'2000, .flags = kSaSigInfo | kSaRestorer, .restorer = 0x40'3000, .mask = 0};
  siginfo_t info_{};
  TrapInfo trap_{.vector = 14, .error_code = 6, .address = 0xabc};
  std::uint64_t mask_ = 0;
};

bool SameRegisters(const runtime::Registers& a, const runtime::Registers& b) {
  return std::memcmp(&a, &b, sizeof(a)) == 0;
}

TEST_F(FrameTest, AHandlerFindsWhatLinuxPromises) {
  const runtime::Registers before = registers_;
  ASSERT_TRUE(Push());
  EXPECT_EQ(registers_.rip, action_.handler);
  EXPECT_EQ(registers_.rdi, static_cast<std::uint64_t>(SIGUSR1));
  EXPECT_EQ(registers_.rsi, registers_.rsp + offsetof(SignalFrame, info));
  EXPECT_EQ(registers_.rdx, registers_.rsp + offsetof(SignalFrame, user));
  EXPECT_EQ(registers_.rax, 0u);
  EXPECT_EQ((registers_.rsp + 8) % 16, 0u);
  EXPECT_LT(registers_.rsp + sizeof(SignalFrame), before.rsp - 128);  // the red zone is left alone
  EXPECT_EQ(registers_.rflags & (rflags::kDirection | rflags::kTrap | rflags::kResume), 0u);
  const SignalFrame& frame = Frame();
  EXPECT_EQ(frame.return_address, action_.restorer);
  EXPECT_EQ(frame.info.si_signo, SIGUSR1);
  EXPECT_EQ(frame.user.mask, State().mask);
  EXPECT_EQ(frame.user.flags, 7u);
  const SignalContext& context = frame.user.context;
  EXPECT_EQ(context.rip, before.rip);
  EXPECT_EQ(context.rsp, before.rsp);
  EXPECT_EQ(context.rflags, before.rflags);
  EXPECT_EQ(context.cs, 0x33);
  EXPECT_EQ(context.ss, 0x2b);
  EXPECT_EQ(context.trap_number, 14u);
  EXPECT_EQ(context.error_code, 6u);
  EXPECT_EQ(context.cr2, 0xabcu);
  EXPECT_EQ(context.extended_state % 64, 0u);
  EXPECT_LE(context.extended_state + kStateSize + 4, before.rsp - 128);
  // The software-reserved words and the magic behind the area.
  EXPECT_EQ(ExtendedAt<std::uint32_t>(464), 0x4650'5853u);
  EXPECT_EQ(ExtendedAt<std::uint32_t>(468), kStateSize + 4);
  EXPECT_EQ(ExtendedAt<std::uint64_t>(472), kFeatures);
  EXPECT_EQ(ExtendedAt<std::uint32_t>(480), kStateSize);
  EXPECT_EQ(ExtendedAt<std::uint32_t>(kStateSize), 0x4650'5845u);
}

TEST_F(FrameTest, ReturnsExactlyToWhereItWas) {
  const runtime::Registers before = registers_;
  const std::vector<std::byte> state = engine_.state;
  ASSERT_TRUE(Push());
  std::ranges::fill(engine_.state, std::byte{0xee});  // what the handler computed
  const std::uint64_t handler_rsp = registers_.rsp;
  registers_ = runtime::Registers{.rsp = handler_rsp, .fs_base = before.fs_base};
  ASSERT_TRUE(Pop());
  EXPECT_TRUE(SameRegisters(registers_, before));
  EXPECT_EQ(mask_, 0x1234'5678'0000'0000u);
  // The state but for the software-reserved words.
  EXPECT_TRUE(std::equal(state.begin(), state.begin() + 464, engine_.state.begin()));
  EXPECT_TRUE(std::equal(state.begin() + 512, state.end(), engine_.state.begin() + 512));
}

TEST_F(FrameTest, FramesNest) {
  const runtime::Registers before = registers_;
  ASSERT_TRUE(Push());
  const runtime::Registers inner = registers_;
  ASSERT_TRUE(Push());
  ASSERT_TRUE(Pop());
  EXPECT_TRUE(SameRegisters(registers_, inner));
  ASSERT_TRUE(Pop());
  EXPECT_TRUE(SameRegisters(registers_, before));
}

TEST_F(FrameTest, TheMaskNeverHoldsWhatCannotBeBlocked) {
  ASSERT_TRUE(Push());
  Frame().user.mask = ~std::uint64_t{0};
  ASSERT_TRUE(Pop());
  EXPECT_EQ(mask_, ~kUnblockable);
}

// ---- the alternate stack ------------------------------------------------------------------------

TEST_F(FrameTest, TheAlternateStackIsUsedWhenAskedForAndFree) {
  alternate_ = {.base = pages_.address(), .flags = 0, .size = 2 * kPageSize};
  const runtime::Registers before = registers_;
  ASSERT_TRUE(Push());
  EXPECT_FALSE(alternate_.Contains(registers_.rsp));  // not asked for
  ASSERT_TRUE(Pop());
  action_.flags |= kSaOnStack;
  ASSERT_TRUE(Push());
  EXPECT_TRUE(alternate_.Contains(registers_.rsp));
  EXPECT_GT(registers_.rsp, alternate_.base + kPageSize / 2);  // from its top
  EXPECT_EQ(Frame().user.stack.base, alternate_.base);
  const std::uint64_t outer = registers_.rsp;
  ASSERT_TRUE(Push());  // already on it
  EXPECT_LT(registers_.rsp, outer - 128);
  ASSERT_TRUE(Pop());
  ASSERT_TRUE(Pop());
  EXPECT_TRUE(SameRegisters(registers_, before));
}

TEST_F(FrameTest, AutodisarmDisablesTheStackUntilTheReturn) {
  alternate_ = {.base = pages_.address(), .flags = kAutoDisarm, .size = 2 * kPageSize};
  action_.flags |= kSaOnStack;
  ASSERT_TRUE(Push());
  EXPECT_FALSE(alternate_.enabled());
  ASSERT_TRUE(Pop());
  EXPECT_TRUE(alternate_.enabled());
  EXPECT_EQ(alternate_.base, pages_.address());
  EXPECT_EQ(alternate_.flags, kAutoDisarm);
}

TEST_F(FrameTest, AForgedAlternateStackOutsideTheWindowIsIgnored) {
  const AlternateStack before = alternate_;
  ASSERT_TRUE(Push());
  Frame().user.stack = {.base = 0x7000'0000'0000, .flags = 0, .size = 1 << 20};
  ASSERT_TRUE(Pop());
  EXPECT_EQ(alternate_.base, before.base);
  EXPECT_EQ(alternate_.flags, before.flags);
}

// ---- stacks that cannot take it -----------------------------------------------------------------

TEST_F(FrameTest, AStackThatCannotTakeTheFrameIsSaidAndChangesNothing) {
  const std::uint64_t stacks[] = {0,
                                  1,
                                  100,
                                  pages_.address(),
                                  pages_.address() + 200,  // the state fits, the frame does not
                                  pages_.address() + 1200,
                                  0x1'0000,
                                  0x4000'0000'0000,
                                  0x4000'0000'0100,
                                  0x7000'0000'0000,
                                  0xffff'ff80'0000'1000,
                                  ~std::uint64_t{0}};
  for (const std::uint64_t rsp : stacks) {
    registers_.rsp = rsp;
    const runtime::Registers before = registers_;
    EXPECT_FALSE(Push()) << std::hex << rsp;
    EXPECT_TRUE(SameRegisters(registers_, before)) << std::hex << rsp;
  }
}

TEST_F(FrameTest, AnEngineThatFailsIsNoFaultOfTheProgram) {
  engine_.error = absl::ResourceExhaustedError("asked to fail");
  EXPECT_EQ(PushFrame(State(), action_, info_, trap_).status(), engine_.error);
  engine_.error = absl::OkStatus();
  ASSERT_TRUE(Push());
  engine_.error = absl::ResourceExhaustedError("asked to fail");
  registers_.rsp += 8;
  EXPECT_EQ(PopFrame(State(), &mask_).status(), engine_.error);
}

TEST_F(FrameTest, AStateThatTheEngineDoesNotTakeIsABadFrame) {
  ASSERT_TRUE(Push());
  engine_.error = absl::InvalidArgumentError("no such state");
  registers_.rsp += 8;
  const absl::StatusOr<bool> popped = PopFrame(State(), &mask_);
  ASSERT_TRUE(popped.ok()) << popped.status();
  EXPECT_FALSE(*popped);
}

TEST_F(FrameTest, AFrameThatIsNotThereIsAFailure) {
  for (const std::uint64_t rsp :
       {std::uint64_t{0}, std::uint64_t{4}, pages_.end() - 8, pages_.end() + 8,
        std::uint64_t{0x4000'0000'0000}, std::uint64_t{0x7000'0000'0000}, ~std::uint64_t{0}}) {
    registers_.rsp = rsp;
    EXPECT_FALSE(PopFrame(State(), &mask_).value_or(true)) << std::hex << rsp;
  }
  EXPECT_EQ(engine_.loads, 0);
}

// ---- forged frames ------------------------------------------------------------------------------

TEST_F(FrameTest, AForgedExtendedStateIsRefused) {
  struct Forgery {
    const char* what;
    std::function<void()> forge;
  };
  const Forgery forgeries[] = {
      {"a component the guest does not have", [&] { ExtendedAt<std::uint64_t>(512) |= 0x200; }},
      {"a supervisor component", [&] { ExtendedAt<std::uint64_t>(512) |= 1 << 11; }},
      {"component 63", [&] { ExtendedAt<std::uint64_t>(512) |= std::uint64_t{1} << 63; }},
      {"the compact format",
       [&] { ExtendedAt<std::uint64_t>(520) = (std::uint64_t{1} << 63) | 7; }},
      {"a compact mask without the format", [&] { ExtendedAt<std::uint64_t>(520) = 1; }},
      {"reserved header bytes, first", [&] { ExtendedAt<std::uint8_t>(528) = 1; }},
      {"reserved header bytes, last", [&] { ExtendedAt<std::uint8_t>(575) = 1; }},
      {"a reserved MXCSR bit", [&] { ExtendedAt<std::uint32_t>(24) |= 0x1'0000; }},
      {"all MXCSR bits", [&] { ExtendedAt<std::uint32_t>(24) = ~std::uint32_t{0}; }},
      {"a state that is not mapped", [&] { Frame().user.context.extended_state = pages_.end(); }},
      {"a state half mapped", [&] { Frame().user.context.extended_state = pages_.end() - 256; }},
      {"a state of the runtime", [&] { Frame().user.context.extended_state = 0x7000'0000'0000; }},
      {"a state at the end of everything",
       [&] { Frame().user.context.extended_state = ~std::uint64_t{0} - 100; }},
  };
  const runtime::Registers start = registers_;
  for (const Forgery& forgery : forgeries) {
    registers_ = start;
    ASSERT_TRUE(Push());
    forgery.forge();
    engine_.loads = 0;  // entering the handler has loaded a fresh state
    const runtime::Registers before = registers_;
    EXPECT_FALSE(Pop()) << forgery.what;
    EXPECT_EQ(registers_.rip, before.rip) << forgery.what;
    EXPECT_EQ(engine_.loads, 0) << forgery.what;
  }
}

TEST_F(FrameTest, AReservedMxcsrBitIsRefusedInALegacyFrameToo) {
  ASSERT_TRUE(Push());
  ExtendedAt<std::uint32_t>(464) = 0;  // no magic: the legacy part only
  ExtendedAt<std::uint32_t>(24) = 0x1'1f80;
  EXPECT_FALSE(Pop());
}

TEST_F(FrameTest, AFrameWithoutItsMagicsHasTheLegacyPartOnly) {
  const std::size_t magics[] = {464, 468, 480, kStateSize};
  const runtime::Registers start = registers_;
  for (const std::size_t offset : magics) {
    registers_ = start;
    engine_ = FakeEngineThread();
    ASSERT_TRUE(Push());
    ExtendedAt<std::uint32_t>(offset) ^= 1;
    ASSERT_TRUE(Pop()) << offset;
    EXPECT_EQ(engine_.state[512], std::byte{3}) << offset;
    EXPECT_TRUE(std::all_of(engine_.state.begin() + 576, engine_.state.end(),
                            [](std::byte b) { return b == std::byte{0}; }));
    EXPECT_EQ(engine_.state[100], static_cast<std::byte>(300));  // the legacy part is the frame's
  }
}

TEST_F(FrameTest, AFrameWithoutAStateStartsAfresh) {
  ASSERT_TRUE(Push());
  Frame().user.context.extended_state = 0;
  ASSERT_TRUE(Pop());
  std::uint16_t control;
  std::uint32_t mxcsr;
  std::memcpy(&control, &engine_.state[0], 2);
  std::memcpy(&mxcsr, &engine_.state[24], 4);
  EXPECT_EQ(control, 0x37f);
  EXPECT_EQ(mxcsr, 0x1f80u);
}

TEST_F(FrameTest, OnlyFlagsThatAProgramMaySetComeBack) {
  ASSERT_TRUE(Push());
  Frame().user.context.rflags = ~std::uint64_t{0};
  ASSERT_TRUE(Pop());
  EXPECT_EQ(registers_.rflags, rflags::kUserSettable | kUserFlags);
  for (const unsigned bit : {12u, 13u, 14u, 17u, 19u, 20u, 21u}) {  // IOPL NT VM VIF VIP ID
    EXPECT_EQ(registers_.rflags & dune::x86::Bit(bit), 0u) << bit;
  }
  ASSERT_TRUE(Push());
  Frame().user.context.rflags = 0;
  ASSERT_TRUE(Pop());
  EXPECT_EQ(registers_.rflags, kUserFlags);  // interrupts stay on
}

TEST_F(FrameTest, ForgedSelectorsMeanNothing) {
  ASSERT_TRUE(Push());
  Frame().user.context.cs = DUNE_SELECTOR_KERNEL_CODE;
  Frame().user.context.ss = DUNE_SELECTOR_KERNEL_DATA;
  ASSERT_TRUE(Pop());  // Registers has no selectors at all
  EXPECT_EQ(registers_.rip, 0x40'1000u);
  EXPECT_EQ(registers_.fs_base, 0x7000u);
}

TEST_F(FrameTest, TheSmallestStackThatIsPromisedIsEnough) {
  const std::uint64_t least = MinimumSignalStack(kStateSize);
  for (std::uint64_t shift = 0; shift < 64; ++shift) {
    alternate_ = {.base = pages_.end() - least - shift, .flags = 0, .size = least};
    action_.flags |= kSaOnStack;
    registers_.rsp = pages_.address() + kPageSize;
    ASSERT_TRUE(Push());
    EXPECT_GE(registers_.rsp, alternate_.base) << shift;
  }
}

}  // namespace
}  // namespace dunebox::signals
