// String instructions, XLAT, MASKMOVQ and MASKMOVDQU as the runtime carries them out against the
// processor: all registers, flags, vector state, memory and the exception, if there is one, must be
// the same.
//
//   JIT_STRING_CASES=100000 jit_string_test    // of each instruction
//   JIT_STRING_SEED=7 jit_string_test
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/jit/emulate_string.h"
#include "runtime/jit/emulation.h"
#include "tests/jit/arena.h"
#include "tests/jit/emitted.h"
#include "tests/jit/emulated.h"
#include "tests/jit/runner.h"

namespace dunebox::jit {
namespace {

constexpr std::size_t kPage = Arena::kPage;
constexpr std::uint64_t kDirection = 0x400, kAlignment = 0x4'0000, kTrap = 0x100;
constexpr std::uint64_t kLow32 = 0xffff'ffff;

using Bytes = std::vector<std::uint8_t>;

struct Form {
  const char* name;
  std::vector<std::uint8_t> opcode;  // with the last byte's size bit, if it has one, clear
  bool is_sized;                     // strings: byte, word, doubleword, quadword
  unsigned source, destination;      // registers; kNone
  bool is_vector;                    // two vector registers
  bool needs_operand_size;           // of MASKMOVDQU
};
constexpr unsigned kNone = 16;

const Form kForms[] = {
    {"Movs", {0xa4}, true, kRsi, kRdi, false, false},
    {"Cmps", {0xa6}, true, kRsi, kRdi, false, false},
    {"Lods", {0xac}, true, kRsi, kNone, false, false},
    {"Xlat", {0xd7}, false, kRbx, kNone, false, false},
    {"Maskmovq", {0x0f, 0xf7}, false, kNone, kRdi, true, false},
    {"Maskmovdqu", {0x0f, 0xf7}, false, kNone, kRdi, true, true},
    {"Vmaskmovdqu", {0xc5, 0xf9, 0xf7}, false, kNone, kRdi, true, false},
};

struct Counts {
  std::uint64_t cases = 0, page_faults = 0, other_faults = 0, forgiven = 0;
};

class Comparison {
 public:
  Comparison(Arena& arena, std::uint64_t seed)
      : arena_(arena), random_(seed), runner_(arena, {}), memory_(arena) {
    arena.Fill(random_);
    original_ = memory_.TakeAll();
  }

  const Counts& counts() const { return counts_; }

  std::string Next(const Form& form) {
    Machine start;
    Randomize(random_, start);
    start.rip = arena_.code();
    Encode(form);
    Aim(form, start);
    WriteInstruction(arena_, start, bytes_);
    ++counts_.cases;
    std::string difference = Compare(form, start);
    if (difference.empty()) return difference;
    std::string text = absl::StrCat(form.name, ": ", ToHex(bytes_), "\n", difference, "start:");
    for (unsigned i = 0; i < 16; ++i) {
      absl::StrAppend(&text, " r", i, "=", absl::Hex(start.gpr[i]));
    }
    return absl::StrCat(text, " rflags=", absl::Hex(start.rflags), " fs=", absl::Hex(start.fs_base),
                        " gs=", absl::Hex(start.gs_base), "\n");
  }

 private:
  std::uint64_t Pick(std::uint64_t bound) { return Below(random_, bound); }
  bool Happens(unsigned percent) { return Chance(random_, percent); }
  void Put(unsigned byte) { bytes_.push_back(static_cast<std::uint8_t>(byte)); }

  void Encode(const Form& form);
  void Aim(const Form& form, Machine& machine);
  std::uint64_t Target();
  void SetOffset(Machine& machine, unsigned reg, std::uint64_t target, bool has_segment);
  void MakeEqual(const Machine& machine);
  bool IsOtherOperand(const Form& form, const Outcome& native, const Outcome& emulated,
                      const Machine& machine) const;
  bool IsElsewhereInTheVector(const Form& form, const Outcome& native, const Outcome& emulated,
                              const Machine& machine) const;
  void ForgiveRepetition(const Machine& start, const Machine& native, bool has_failed, Machine& emulated);
  std::string Compare(const Form& form, const Machine& start);

  Arena& arena_;
  Random random_;
  Runner runner_;
  const GuardedMemory memory_;
  Bytes bytes_;
  Segment segment_ = Segment::kNone;
  bool address_size_ = false, is_repeated_ = false;
  std::size_t size_ = 1;
  unsigned bad_percent_ = 0;
  std::vector<std::byte> original_;
  Counts counts_;
};

void Comparison::Encode(const Form& form) {
  bytes_.clear();
  const bool is_low = arena_.stack_top() <= kLow32;
  segment_ = Happens(50) ? Segment::kFs : Segment::kGs;
  // An operand without a segment has to be below 4 GiB.
  const bool has_plain = form.destination != kNone && form.source != kNone;
  address_size_ = Happens(30) && (is_low || !has_plain);
  is_repeated_ = form.is_sized && Happens(75);
  const unsigned log_size = form.is_sized ? static_cast<unsigned>(Pick(4)) : 0;
  size_ = std::size_t{1} << log_size;
  Put(segment_ == Segment::kFs ? 0x64 : 0x65);
  if (address_size_) Put(0x67);
  if (log_size == 1 || form.needs_operand_size) Put(0x66);
  // The last one counts.
  if (is_repeated_ && Happens(20)) Put(Happens(50) ? 0xf2 : 0xf3);
  if (is_repeated_) Put(Happens(50) ? 0xf2 : 0xf3);
  if (log_size == 3) Put(0x48);
  if (form.is_vector && form.opcode[0] == 0x0f && Happens(50)) {
    Put(0x40 | static_cast<unsigned>(Pick(16)));
  }
  bytes_.insert(bytes_.end(), form.opcode.begin(), form.opcode.end());
  if (log_size != 0) bytes_.back() |= 1;
  if (form.is_vector) Put(0xc0 | static_cast<unsigned>(Pick(64)));
}

std::uint64_t Comparison::Target() {
  if (!Happens(bad_percent_)) return arena_.memory() + Arena::kMemorySize / 4 + Pick(0x1000);
  // Read-only, forbidden, or across the border between two of these.
  const std::uint64_t starts[] = {arena_.memory(), arena_.constants(), arena_.forbidden()};
  const std::uint64_t start = starts[Pick(3)];
  if (Happens(60)) return start - Pick(64) + Pick(64);
  return start + Pick(kPage);
}

void Comparison::SetOffset(Machine& machine, unsigned reg, std::uint64_t target, bool has_segment) {
  std::uint64_t offset = target;
  if (has_segment) {
    // Mostly so far from the end that an element's successors are reached.
    offset = Happens(5) ? kLow32 - Pick(16) : Happens(5) ? Pick(16) : Pick(0x7fff'0000);
    (segment_ == Segment::kFs ? machine.fs_base : machine.gs_base) = target - offset;
  }
  // What is not part of the address.
  if (address_size_) offset |= random_() << 32;
  machine.gpr[reg] = offset;
}

// For comparisons that go on for a while.
void Comparison::MakeEqual(const Machine& machine) {
  const std::uint64_t base = segment_ == Segment::kFs ? machine.fs_base : machine.gs_base;
  const std::uint64_t mask = address_size_ ? kLow32 : ~std::uint64_t{0};
  const std::uint64_t from = base + (machine.gpr[kRsi] & mask), to = machine.gpr[kRdi] & mask;
  const std::uint64_t end = arena_.memory() + Arena::kMemorySize;
  constexpr std::uint64_t kReach = 0x200;
  const auto is_inside = [&](std::uint64_t address) {
    return address >= arena_.memory() + kReach && address < end - kReach;
  };
  if (!is_inside(from) || !is_inside(to)) return;
  const std::uint64_t size = Pick(kReach);
  const bool is_down = (machine.rflags & kDirection) != 0;
  const std::uint64_t shift = is_down ? size : 0;
  std::memmove(reinterpret_cast<void*>(to - shift), reinterpret_cast<void*>(from - shift), size);
}

void Comparison::Aim(const Form& form, Machine& machine) {
  constexpr unsigned kBadPercents[] = {0, 0, 10, 50};
  bad_percent_ = kBadPercents[Pick(4)];
  if (Happens(40)) machine.rflags |= kDirection;
  if (Happens(5)) machine.rflags |= kAlignment;
  if (form.is_sized) {
    machine.gpr[kRcx] = Pick(51);
    // Whether a count of zero loses its upper half is one processor's matter.
    if (address_size_ && machine.gpr[kRcx] != 0) machine.gpr[kRcx] |= random_() << 32;
  }
  if (form.destination != kNone) {
    SetOffset(machine, form.destination, Target(), form.source == kNone);
  }
  if (form.source != kNone) SetOffset(machine, form.source, Target(), true);
  if (form.source == kRbx) machine.gpr[kRbx] -= machine.gpr[kRax] & 0xff;
  memory_.PutAll(original_);
  if (form.source != kNone && form.destination != kNone && Happens(50)) MakeEqual(machine);
}

// Both operands of a comparison fail, and the processor has begun with the source.
bool Comparison::IsOtherOperand(const Form& form, const Outcome& native, const Outcome& emulated,
                                const Machine& machine) const {
  if (form.source != kRsi || form.destination != kRdi || native.vector != kPageFault ||
      emulated.vector != kPageFault || native.error != emulated.error) {
    return false;
  }
  const std::uint64_t base = segment_ == Segment::kFs ? machine.fs_base : machine.gs_base;
  const std::uint64_t mask = address_size_ ? kLow32 : ~std::uint64_t{0};
  const std::uint64_t source = base + (machine.gpr[kRsi] & mask);
  const std::uint64_t destination = machine.gpr[kRdi] & mask;
  constexpr std::uint64_t kWrite = 2;
  return (native.error & kWrite) == 0 && native.address - source < size_ &&
         emulated.address - destination < size_;
}

// Which byte of a vector that cannot be written is told: processors of Intel's name the first selected one.
bool Comparison::IsElsewhereInTheVector(const Form& form, const Outcome& native, const Outcome& emulated,
                                        const Machine& machine) const {
  if (!form.is_vector || native.vector != kPageFault || emulated.vector != kPageFault ||
      native.error != emulated.error) {
    return false;
  }
  constexpr std::uint64_t kVectorSize = 16;
  const std::uint64_t base = segment_ == Segment::kFs ? machine.fs_base : machine.gs_base;
  const std::uint64_t mask = address_size_ ? kLow32 : ~std::uint64_t{0};
  for (std::uint64_t byte = 0; byte < kVectorSize; ++byte) {
    if (native.address == base + ((machine.gpr[kRdi] + byte) & mask)) {
      return emulated.address - (base + (machine.gpr[kRdi] & mask)) < kVectorSize;
    }
  }
  return false;
}

// What a repetition leaves that has done nothing, or fails, is one processor's matter, too: registers that it has not used
// lose what is not part of the address (Intel's) or keep it (AMD's); the flags of a comparison that fails are those of
// before it [intel/vol2 REP] or of the last element that it got (AMD's).
void Comparison::ForgiveRepetition(const Machine& start, const Machine& native, bool has_failed, Machine& emulated) {
  if (!is_repeated_) return;
  if (has_failed && native.rflags == start.rflags) emulated.rflags = native.rflags;
  if (!address_size_) return;
  for (const unsigned reg : {kRcx, kRsi, kRdi}) {
    if (emulated.gpr[reg] == start.gpr[reg] && native.gpr[reg] == (start.gpr[reg] & kLow32)) {
      emulated.gpr[reg] = native.gpr[reg];
    }
  }
}

std::string Comparison::Compare(const Form& form, const Machine& start) {
  const std::vector<std::byte> before = memory_.TakeAll();
  Machine native = start, emulated = start;
  const Outcome outcome = RunNative(runner_, native);
  const std::vector<std::byte> native_memory = memory_.TakeAll();
  memory_.PutAll(before);
  const Outcome carried_out = Emulate(bytes_, emulated);
  // Processors may look at bytes that are not selected.
  if (form.is_vector && outcome.vector != kNoException && carried_out.vector == kNoException) {
    ++counts_.forgiven;
    return "";
  }
  std::string difference;
  ForgiveRepetition(start, native, outcome.vector != kNoException, emulated);
  if (IsOtherOperand(form, outcome, carried_out, native) || IsElsewhereInTheVector(form, outcome, carried_out, native)) {
    ++counts_.forgiven;
  } else {
    difference = Unequal(Text(outcome), Text(carried_out));
  }
  absl::StrAppend(&difference, Difference(native, emulated));
  if (native_memory != memory_.TakeAll()) absl::StrAppend(&difference, "memory differs\n");
  if (outcome.vector == kPageFault) ++counts_.page_faults;
  if (outcome.vector != kPageFault && outcome.vector != kNoException) ++counts_.other_faults;
  return difference;
}

class StringTest : public ::testing::TestWithParam<Form> {};

TEST_P(StringTest, IsWhatTheProcessorDoes) {
  const std::uint64_t seed = FromEnvironment("JIT_STRING_SEED", 1);
  const std::uint64_t cases = FromEnvironment("JIT_STRING_CASES", 3000);
  for (const Layout& layout : {kLayouts[0], kLayouts[5]}) {
    const std::unique_ptr<Arena> arena = Arena::Map(layout);
    ASSERT_NE(arena, nullptr) << layout.name;
    Comparison comparison(*arena, seed);
    for (std::uint64_t i = 0; i < cases; ++i) {
      ASSERT_EQ(comparison.Next(GetParam()), "") << layout.name << ", case " << i;
    }
    const Counts& counts = comparison.counts();
    std::cout << layout.name << ": " << counts.cases << " cases, " << counts.page_faults
              << " page faults, " << counts.other_faults << " other exceptions, " << counts.forgiven
              << " forgiven\n";
    EXPECT_GT(counts.page_faults, 0u);
  }
}

INSTANTIATE_TEST_SUITE_P(All, StringTest, ::testing::ValuesIn(kForms),
                         [](const auto& form) { return std::string(form.param.name); });

// ---- a few at a time ----------------------------------------------------------------------------

class LongStringTest : public ::testing::Test {
 protected:
  // rep lodsb gs:[rsi]
  static constexpr std::uint8_t kBytes[] = {0x65, 0xf3, 0xac};
  static constexpr std::uint64_t kCount = 3 * runtime::kMostElements / 2;
  static_assert(kCount < Arena::kMemorySize);

  void SetUp() override {
    ASSERT_NE(arena_, nullptr);
    ASSERT_EQ(Decode(kBytes, instruction_), DecodeStatus::kOk);
    context_.gs_base = arena_->memory();
    context_.gpr[kRcx] = kCount;
  }
  std::optional<runtime::Fault> Enter() {
    return runtime::EmulationOf(instruction_)(
        instruction_, context_, std::span(machine_.extended), VectorLayout(),
        hostcalls::GuestMemory(hostcalls::Window::WholeProgram()));
  }

  const std::unique_ptr<Arena> arena_ = Arena::Map(kLayouts[0]);
  Instruction instruction_;
  Machine machine_;
  Context context_{};
};

TEST_F(LongStringTest, LeavesSomethingForTheNextTime) {
  EXPECT_FALSE(Enter());
  EXPECT_EQ(context_.rip, 0u);
  EXPECT_EQ(context_.gpr[kRsi], runtime::kMostElements);
  EXPECT_EQ(context_.gpr[kRcx], kCount - runtime::kMostElements);
  EXPECT_FALSE(Enter());
  EXPECT_EQ(context_.rip, instruction_.length);
  EXPECT_EQ(context_.gpr[kRsi], kCount);
  EXPECT_EQ(context_.gpr[kRcx], 0u);
}

TEST_F(LongStringTest, IsDoneWhenNothingIsLeft) {
  context_.gpr[kRcx] = runtime::kMostElements;
  EXPECT_FALSE(Enter());
  EXPECT_EQ(context_.rip, instruction_.length);
}

TEST_F(LongStringTest, IsSteppedByElements) {
  context_.rflags = kTrap;
  context_.gpr[kRcx] = 2;
  EXPECT_FALSE(Enter());
  EXPECT_EQ(context_.rip, 0u);
  EXPECT_EQ(context_.gpr[kRcx], 1u);
  EXPECT_FALSE(Enter());
  EXPECT_EQ(context_.rip, instruction_.length);
}

// maskmovq gs:[rdi], mm0, mm1 with a division by zero pending.
TEST_F(LongStringTest, MmxWaitsForX87Exceptions) {
  constexpr std::uint8_t kMaskMovq[] = {0x65, 0x0f, 0xf7, 0xc1};
  constexpr std::uint16_t kUnmasked = 0x340, kDivision = 0x84;
  constexpr std::uint64_t kX87 = 1;
  ASSERT_EQ(Decode(kMaskMovq, instruction_), DecodeStatus::kOk);
  std::memcpy(machine_.extended.data(), &kUnmasked, sizeof(kUnmasked));
  std::memcpy(machine_.extended.data() + 2, &kDivision, sizeof(kDivision));
  std::memcpy(machine_.extended.data() + 512, &kX87, sizeof(kX87));
  const std::optional<runtime::Fault> fault = Enter();
  ASSERT_TRUE(fault);
  EXPECT_EQ(fault->vector, dune::x86::Vector::kFloatingPoint);
  EXPECT_EQ(context_.rip, 0u);
}

}  // namespace
}  // namespace dunebox::jit
