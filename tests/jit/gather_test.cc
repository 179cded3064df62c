// Gathers and scatters as the runtime carries them out against the processor: all registers, flags,
// vector state, memory and the exception, if there is one, must be the same; and each must be able
// to go on where the other was stopped.
//
//   JIT_GATHER_CASES=100000 jit_gather_test    // of each form
//   JIT_GATHER_SEED=7 jit_gather_test
#include "runtime/jit/gather.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/jit/arena.h"
#include "tests/jit/emitted.h"
#include "tests/jit/emulated.h"
#include "tests/jit/runner.h"

namespace dunebox::jit {
namespace {

constexpr std::size_t kPage = Arena::kPage, kPresentOffset = 512;

// ---- encoding -----------------------------------------------------------------------------------

struct Group {
  const char* name;
  bool is_evex;
  unsigned length;
  bool (*is_supported)();
};
constexpr Group kGroups[] = {
    {"Vex128", false, 0, [] { return __builtin_cpu_supports("avx2") != 0; }},
    {"Vex256", false, 1, [] { return __builtin_cpu_supports("avx2") != 0; }},
    {"Evex128", true, 0, [] { return __builtin_cpu_supports("avx512vl") != 0; }},
    {"Evex256", true, 1, [] { return __builtin_cpu_supports("avx512vl") != 0; }},
    {"Evex512", true, 2, [] { return __builtin_cpu_supports("avx512f") != 0; }},
};

struct Opcode {
  const char* name;
  unsigned byte;
  bool is_wide;
  bool is_scatter() const { return byte >= 0xa0; }
  std::size_t index_size() const { return (byte & 1) != 0 ? 8 : 4; }
  std::size_t element_size() const { return is_wide ? 8 : 4; }
};
constexpr Opcode kOpcodes[] = {
    {"vpgatherdd", 0x90, false},  {"vpgatherdq", 0x90, true},   {"vpgatherqd", 0x91, false},
    {"vpgatherqq", 0x91, true},   {"vgatherdps", 0x92, false},  {"vgatherdpd", 0x92, true},
    {"vgatherqps", 0x93, false},  {"vgatherqpd", 0x93, true},   {"vpscatterdd", 0xa0, false},
    {"vpscatterdq", 0xa0, true},  {"vpscatterqd", 0xa1, false}, {"vpscatterqq", 0xa1, true},
    {"vscatterdps", 0xa2, false}, {"vscatterdpd", 0xa2, true},  {"vscatterqps", 0xa3, false},
    {"vscatterqpd", 0xa3, true},
};

constexpr unsigned kNoBase = 16;

struct Operands {
  unsigned data = 0, index = 1, mask = 2;
  unsigned base = kNoBase;
  unsigned scale = 0;              // as a shift
  unsigned displacement_size = 4;  // 0, 1 or 4
  std::int32_t displacement = 0;   // as encoded
  Segment segment = Segment::kNone;
  bool address_size = false;
};

using Bytes = std::vector<std::uint8_t>;

void Put(Bytes& bytes, std::initializer_list<unsigned> more) {
  for (const unsigned byte : more) bytes.push_back(static_cast<std::uint8_t>(byte));
}

// The bits of R, X, B and R' are stored inverted.
unsigned Inverted(unsigned number, unsigned bit, unsigned at) {
  return ((~number >> bit) & 1) << at;
}

void PutVex(const Group& group, const Opcode& opcode, const Operands& operands, Bytes& bytes) {
  Put(bytes, {0xc4,
              Inverted(operands.data, 3, 7) | Inverted(operands.index, 3, 6) |
                  Inverted(operands.base & 15, 3, 5) | 2,
              unsigned{opcode.is_wide} << 7 | (~operands.mask & 15) << 3 | group.length << 2 | 1});
}

void PutEvex(const Group& group, const Opcode& opcode, const Operands& operands, Bytes& bytes) {
  Put(bytes, {0x62,
              Inverted(operands.data, 3, 7) | Inverted(operands.index, 3, 6) |
                  Inverted(operands.base & 15, 3, 5) | Inverted(operands.data, 4, 4) | 2,
              unsigned{opcode.is_wide} << 7 | 0x7d,
              group.length << 5 | Inverted(operands.index, 4, 3) | operands.mask});
}

Bytes Encode(const Group& group, const Opcode& opcode, const Operands& operands) {
  constexpr unsigned kMods[] = {0, 1, 0, 0, 2};  // by size of the displacement
  const bool has_base = operands.base != kNoBase;
  Bytes bytes;
  if (operands.segment == Segment::kFs) Put(bytes, {0x64});
  if (operands.segment == Segment::kGs) Put(bytes, {0x65});
  if (operands.address_size) Put(bytes, {0x67});
  (group.is_evex ? PutEvex : PutVex)(group, opcode, operands, bytes);
  const unsigned mod = has_base ? kMods[operands.displacement_size] : 0;
  Put(bytes,
      {opcode.byte, mod << 6 | (operands.data & 7) << 3 | 4,
       operands.scale << 6 | (operands.index & 7) << 3 | (has_base ? operands.base & 7 : 5)});
  for (unsigned i = 0; i < operands.displacement_size; ++i) {
    Put(bytes, {static_cast<unsigned>(operands.displacement >> (8 * i)) & 0xff});
  }
  return bytes;
}

// ---- vector registers in an XSAVE area ----------------------------------------------------------

// Null where the processor has no such byte.
std::byte* ByteOf(Machine& machine, unsigned reg, std::size_t byte) {
  std::byte* const area = machine.extended.data();
  if (reg < 16 && byte < 16) return area + 160 + std::size_t{16} * reg + byte;
  const auto in_component = [&](unsigned component, std::size_t offset) -> std::byte* {
    const auto& place = VectorLayout().places[component];
    return place.size == 0 ? nullptr : area + place.offset + offset;
  };
  if (reg >= 16) return in_component(7, std::size_t{64} * (reg - 16) + byte);
  if (byte < 32) return in_component(2, std::size_t{16} * reg + byte - 16);
  return in_component(6, std::size_t{32} * reg + byte - 32);
}

std::byte* OpmaskOf(Machine& machine, unsigned reg) {
  return machine.extended.data() + VectorLayout().places[5].offset + std::size_t{8} * reg;
}

void SetElement(Machine& machine, unsigned reg, unsigned element, std::size_t size,
                std::uint64_t value) {
  if (std::byte* const bytes = ByteOf(machine, reg, element * size)) std::memcpy(bytes, &value, size);
}

// ---- random cases -------------------------------------------------------------------------------

struct Counts {
  std::uint64_t cases = 0, page_faults = 0, other_faults = 0;
};

// Between two executions.
struct State {
  Machine& machine;
  std::vector<std::byte> memory;
};

class Comparison {
 public:
  Comparison(Arena& arena, std::uint64_t seed)
      : arena_(arena), random_(seed), runner_(arena, {}), memory_(arena) {
    arena.Fill(random_);
    original_ = memory_.TakeAll();
  }

  const Counts& counts() const { return counts_; }

  // Empty when all is the same.
  std::string Next(const Group& group, const Opcode& opcode) {
    Machine start;
    Randomize(random_, start);
    const Operands operands = Choose(group, opcode, start);
    bytes_ = Encode(group, opcode, operands);
    start.rip = arena_.code();
    WriteInstruction(arena_, start, bytes_);
    ++counts_.cases;
    std::string difference = Compare(start);
    if (difference.empty()) return difference;
    return absl::StrCat(opcode.name, " ", group.name, ": ", ToHex(bytes_), "\n", difference);
  }

 private:
  std::uint64_t Pick(std::uint64_t bound) { return Below(random_, bound); }
  bool Happens(unsigned percent) { return Chance(random_, percent); }

  Operands Choose(const Group& group, const Opcode& opcode, Machine& machine);
  void ChooseRegisters(const Group& group, const Opcode& opcode, Operands& operands);
  std::uint64_t Anchor();
  void Aim(const Group& group, const Opcode& opcode, Operands& operands, Machine& machine);
  void SetIndices(const Opcode& opcode, const Operands& operands, std::uint64_t anchor,
                  Machine& machine);
  void SetMask(const Group& group, const Opcode& opcode, const Operands& operands,
               Machine& machine);
  std::uint64_t Target();

  std::string Compare(const Machine& start);
  std::string Continue(State native, State emulated);

  Arena& arena_;
  Random random_;
  Runner runner_;
  const GuardedMemory memory_;
  Bytes bytes_;
  std::vector<std::byte> original_;
  unsigned bad_percent_ = 0;
  Counts counts_;
};

// Those of a gather must differ.
void Comparison::ChooseRegisters(const Group& group, const Opcode& opcode, Operands& operands) {
  const unsigned vectors = group.is_evex ? 32 : 16;
  do {
    operands.data = static_cast<unsigned>(Pick(vectors));
    operands.index = static_cast<unsigned>(Pick(vectors));
    operands.mask = static_cast<unsigned>(group.is_evex ? 1 + Pick(7) : Pick(16));
  } while (!opcode.is_scatter() && (operands.data == operands.index ||
                                    (!group.is_evex && (operands.mask == operands.data ||
                                                        operands.mask == operands.index))));
}

// Where an element with index zero lies: mostly in the middle of what may be accessed, else where
// addresses change their nature.
std::uint64_t Comparison::Anchor() {
  constexpr std::uint64_t kEdges[] = {0x7fff'ffff'fff0, 0x8000'0000'0000, 0xffff'8000'0000'0000,
                                      0x4000'0000'0000, 0};
  if (Happens(5)) return kEdges[Pick(std::size(kEdges))] + Pick(8);
  return arena_.memory() + Arena::kMemorySize / 2 + Pick(64);
}

std::uint64_t Comparison::Target() {
  if (!Happens(bad_percent_)) return arena_.memory() + Pick(Arena::kMemorySize - 8);
  // Read-only, forbidden, or across the border between two of these.
  const std::uint64_t starts[] = {arena_.constants(), arena_.forbidden()};
  const std::uint64_t start = starts[Pick(2)];
  return Happens(50) ? start - Pick(8) : start + Pick(kPage);
}

bool IsCanonical(std::uint64_t address) {
  return static_cast<std::uint64_t>(static_cast<std::int64_t>(address << 16) >> 16) == address;
}

void Comparison::Aim(const Group& group, const Opcode& opcode, Operands& operands,
                     Machine& machine) {
  const std::uint64_t anchor = Anchor();
  // A 32-bit address reaches the upper arena only with a segment.
  const bool is_low = anchor < 0x1'0000'0000;
  std::uint64_t effective = anchor;
  if (Happens(40) || (!is_low && operands.base == kNoBase)) {
    operands.segment = Happens(50) ? Segment::kFs : Segment::kGs;
    effective = Pick(0x7fff'0000);
    if (!IsCanonical(anchor - effective)) effective = anchor & 0xffff'ffff;
    if (!IsCanonical(anchor - effective)) operands.segment = Segment::kNone, effective = anchor;
  }
  operands.address_size = (is_low || operands.segment != Segment::kNone) && Happens(30);
  const std::uint64_t segment = anchor - effective;
  if (operands.segment == Segment::kFs) machine.fs_base = segment;
  if (operands.segment == Segment::kGs) machine.gs_base = segment;

  operands.displacement = static_cast<std::int32_t>(random_());
  if (operands.displacement_size == 1) {
    operands.displacement = static_cast<std::int8_t>(operands.displacement);
  }
  if (operands.displacement_size == 0) operands.displacement = 0;
  if (operands.base == kNoBase) {
    operands.displacement = static_cast<std::int32_t>(effective);
  } else {
    const bool is_scaled = group.is_evex && operands.displacement_size == 1;
    const std::int64_t displacement =
        std::int64_t{operands.displacement} *
        (is_scaled ? static_cast<std::int64_t>(opcode.element_size()) : 1);
    std::uint64_t& base = machine.gpr[operands.base];
    base = effective - static_cast<std::uint64_t>(displacement);
    if (operands.address_size) base = (base & 0xffff'ffff) | random_() << 32;
  }
  SetIndices(opcode, operands, anchor, machine);
}

void Comparison::SetIndices(const Opcode& opcode, const Operands& operands, std::uint64_t anchor,
                            Machine& machine) {
  const bool is_arena = anchor - arena_.memory() < Arena::kMemorySize;
  const std::size_t size = opcode.index_size();
  for (unsigned element = 0; element < 64 / size; ++element) {
    const std::uint64_t distance = is_arena ? Target() - anchor : Pick(64) - 32;
    auto index =
        static_cast<std::uint64_t>(static_cast<std::int64_t>(distance) >> operands.scale);
    // What an address does not take of an index.
    if (operands.address_size && size == 8) index += random_() << 32;
    if (size == 8 && operands.scale != 0) index ^= Pick(2) << 63;
    SetElement(machine, operands.index, element, size, index);
  }
}

void Comparison::SetMask(const Group& group, const Opcode& opcode, const Operands& operands,
                         Machine& machine) {
  const auto kind = static_cast<unsigned>(Pick(10));
  if (kind > 4) return;  // random
  const std::uint64_t value = kind == 0 ? 0 : ~std::uint64_t{0};
  if (group.is_evex) {
    std::memcpy(OpmaskOf(machine, operands.mask), &value, sizeof(value));
    return;
  }
  for (unsigned element = 0; element < 32 / opcode.element_size(); ++element) {
    if (Happens(80)) {
      SetElement(machine, operands.mask, element, opcode.element_size(), value);
    }
  }
}

Operands Comparison::Choose(const Group& group, const Opcode& opcode, Machine& machine) {
  constexpr unsigned kSizes[] = {0, 1, 4};
  constexpr unsigned kBadPercents[] = {0, 10, 30, 60};
  bad_percent_ = kBadPercents[Pick(4)];
  Operands operands;
  ChooseRegisters(group, opcode, operands);
  operands.scale = static_cast<unsigned>(Pick(4));
  if (Happens(90)) {
    operands.base = static_cast<unsigned>(Pick(16));
    operands.displacement_size = kSizes[Pick(3)];
    const bool needs_displacement = (operands.base & 7) == kRbp;
    if (needs_displacement && operands.displacement_size == 0) operands.displacement_size = 1;
  }
  Aim(group, opcode, operands, machine);
  SetMask(group, opcode, operands, machine);
  return operands;
}

// At a fault Intel's manual leaves some of the mask and of the data open, and how far the elements
// behind it are done: only the one kind of processor that is imitated is compared.
bool IsExactAtFaults() { return __builtin_cpu_is("amd") != 0; }

std::string Comparison::Compare(const Machine& start) {
  Machine native = start, emulated = start;
  memory_.PutAll(original_);
  const Outcome outcome = RunNative(runner_, native);
  const std::vector<std::byte> native_memory = memory_.TakeAll();
  memory_.PutAll(original_);
  std::string difference = Unequal(Text(outcome), Text(Emulate(bytes_, emulated)));
  const std::vector<std::byte> emulated_memory = memory_.TakeAll();
  const bool is_done = outcome.vector == kNoException;
  if (is_done || IsExactAtFaults()) {
    absl::StrAppend(&difference, Difference(native, emulated));
    absl::StrAppend(&difference, native_memory == emulated_memory ? "" : "memory differs\n");
  }
  if (!difference.empty() || is_done) return difference;
  ++(outcome.vector == kPageFault ? counts_.page_faults : counts_.other_faults);
  if (outcome.vector != kPageFault) return "";
  return Continue({native, native_memory}, {emulated, emulated_memory});
}

// What the processor began the runtime ends, and the other way round; every page is there now.
std::string Comparison::Continue(State native, State emulated) {
  memory_.Allow(true);
  memory_.Restore(native.memory);
  const std::string a = Text(Emulate(bytes_, native.machine));
  native.memory = memory_.Save();
  memory_.Restore(emulated.memory);
  const std::string b = Text(RunNative(runner_, emulated.machine));
  emulated.memory = memory_.Save();
  memory_.Allow(false);
  std::string difference = Unequal(b, a);
  absl::StrAppend(&difference, Difference(emulated.machine, native.machine));
  absl::StrAppend(&difference, native.memory == emulated.memory ? "" : "memory differs\n");
  return difference.empty() ? "" : absl::StrCat("continued:\n", difference);
}

class GatherTest : public ::testing::TestWithParam<Group> {};

TEST_P(GatherTest, IsWhatTheProcessorDoes) {
  const Group& group = GetParam();
  if (!group.is_supported()) GTEST_SKIP() << "the processor has no " << group.name << " forms";
  const std::uint64_t seed = FromEnvironment("JIT_GATHER_SEED", 1);
  const std::uint64_t cases = FromEnvironment("JIT_GATHER_CASES", 100);
  Counts total;
  for (const Layout& layout : {kLayouts[0], kLayouts[5]}) {
    const std::unique_ptr<Arena> arena = Arena::Map(layout);
    ASSERT_NE(arena, nullptr) << layout.name;
    Comparison comparison(*arena, seed);
    for (const Opcode& opcode : kOpcodes) {
      if (opcode.is_scatter() && !group.is_evex) continue;
      for (std::uint64_t i = 0; i < cases; ++i) {
        ASSERT_EQ(comparison.Next(group, opcode), "") << layout.name << ", case " << i;
      }
    }
    total.cases += comparison.counts().cases;
    total.page_faults += comparison.counts().page_faults;
    total.other_faults += comparison.counts().other_faults;
  }
  std::cout << total.cases << " cases, " << total.page_faults << " page faults, "
            << total.other_faults << " other exceptions\n";
  EXPECT_GT(total.page_faults, 0u);
}

INSTANTIATE_TEST_SUITE_P(All, GatherTest, ::testing::ValuesIn(kGroups),
                         [](const auto& group) { return std::string(group.param.name); });

// ---- single instructions ------------------------------------------------------------------------

class OneGatherTest : public ::testing::Test {
 protected:
  static constexpr Opcode kGather = kOpcodes[0], kScatter = kOpcodes[8];
  static constexpr Group kVex = kGroups[1], kEvex = kGroups[3];

  void SetUp() override {
    if (!kEvex.is_supported()) GTEST_SKIP() << "the processor has no " << kEvex.name << " forms";
    ASSERT_NE(arena_, nullptr);
    arena_->Fill(random_);
  }

  Machine At(const Bytes& bytes) {
    Machine machine;
    Randomize(random_, machine);
    machine.rip = arena_->code();
    WriteInstruction(*arena_, machine, bytes);
    return machine;
  }

  const std::unique_ptr<Arena> arena_ = Arena::Map(kLayouts[0]);
  Random random_{1};
};

TEST_F(OneGatherTest, WhatTheProcessorRefusesTheDecoderRefuses) {
  const auto flip = [](Bytes bytes, std::size_t at, unsigned bits) {
    bytes[at] = static_cast<std::uint8_t>(bytes[at] ^ bits);
    return bytes;
  };
  const Bytes vex = Encode(kVex, kGather, {}), gather = Encode(kEvex, kGather, {}),
              scatter = Encode(kEvex, kScatter, {});
  const Bytes cases[] = {
      Encode(kVex, kGather, {.data = 3, .index = 3}),
      Encode(kVex, kGather, {.data = 3, .mask = 3}),
      Encode(kVex, kGather, {.index = 3, .mask = 3}),
      Encode(kEvex, kGather, {.data = 19, .index = 19}),
      Encode(kEvex, kGather, {.mask = 0}),
      Encode(kEvex, kScatter, {.mask = 0}),
      flip(vex, 4, 0xc0),     // ModRM: a register
      flip(vex, 4, 1),        // no SIB byte, so no index
      flip(gather, 2, 8),     // EVEX.vvvv
      flip(gather, 3, 0x10),  // EVEX.b
      flip(gather, 3, 0x40),  // 1024 bits
      flip(gather, 3, 0x80),  // EVEX.z
      flip(gather, 5, 0xc0),
      flip(gather, 5, 1),
      flip(scatter, 2, 8),
      flip(scatter, 3, 0x10),
      flip(scatter, 3, 0x40),
      flip(scatter, 3, 0x80),
  };
  Runner runner(*arena_, {});
  for (const Bytes& bytes : cases) {
    Machine machine = At(bytes);
    EXPECT_EQ(Text(RunNative(runner, machine)), "vector 6 error 0 address 0") << ToHex(bytes);
    Instruction instruction;
    EXPECT_EQ(Decode(bytes, instruction), DecodeStatus::kInvalid) << ToHex(bytes);
  }
}

// By an index that is zero, like all else that is initial.
TEST_F(OneGatherTest, OnlyWhatIsWrittenLeavesItsInitialState) {
  constexpr std::uint64_t kSse = 0x2, kOpmask = 0x20, kUpperRegisters = 0x80;
  struct Case {
    unsigned data;
    std::uint64_t mask, leaves;
  };
  Runner runner(*arena_, {});
  for (const Case& c : {Case{0, 1, kSse}, Case{17, 1, kUpperRegisters}, Case{17, 0, 0}}) {
    const Bytes bytes =
        Encode(kEvex, kGather,
               {.data = c.data, .displacement = static_cast<std::int32_t>(arena_->memory())});
    Machine native = At(bytes);
    std::memcpy(native.extended.data() + kPresentOffset, &kOpmask, sizeof(kOpmask));
    std::memcpy(OpmaskOf(native, 2), &c.mask, sizeof(c.mask));
    Machine emulated = native;
    EXPECT_EQ(Text(RunNative(runner, native)), "done");
    EXPECT_EQ(Text(Emulate(bytes, emulated)), "done");
    std::uint64_t present;
    std::memcpy(&present, emulated.extended.data() + kPresentOffset, sizeof(present));
    EXPECT_EQ(present, kOpmask | c.leaves);
    EXPECT_EQ(Difference(native, emulated), "");
  }
}

}  // namespace
}  // namespace dunebox::jit
