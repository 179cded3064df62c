// Random guest code of every form through the real emitter, under every isolation it has: whatever
// it makes, the checker finds nothing in it.
//
// By hand, for longer, or for one seed again:
//   CHECK_BLOCKS=10000000 code_emitter_test
//   CHECK_SEED=12345 code_emitter_test
#include "jit-fallback/emit/emitter.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <random>
#include <string>
#include <variant>
#include <vector>

#include "hostcalls/table/table.h"
#include "jit-fallback/decode/instruction.h"
#include "runtime/jit/isolation_choice.h"
#include "tests/jit/emitted.h"
#include "tests/security/checker/checker.h"
#include "tests/security/checker/rules.h"

namespace dunebox::checker {
namespace {

using Random = std::mt19937_64;
using Bytes = std::vector<std::uint8_t>;

std::uint64_t Below(Random& random, std::uint64_t bound) { return random() % bound; }
bool Happens(Random& random, unsigned percent) { return Below(random, 100) < percent; }
std::uint8_t AnyByte(Random& random) { return static_cast<std::uint8_t>(random()); }

std::uint64_t FromEnvironment(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 0);
}

// ---- guest code ---------------------------------------------------------------------------------

// What programs are made of, and what is hard about the rules, more often than chance has it.
constexpr std::string_view kFrequent[] = {
    "55",
    "5d",
    "c9",
    "c3",
    "48 89 e5",
    "48 89 ec",
    "48 83 ec 18",
    "48 81 ec 00 10 00 00",
    "48 83 e4 f0",
    "48 8d 65 d8",
    "5c",
    "66 5c",
    "0f 02 3c 64 48 8d a4 24 00 f0 ff ff",  // LAR, which proves nothing of RSP, and RSP moved
    "54",
    "8f 04 24",
    "48 87 e0",
    "48 89 c4",
    "89 c4",
    "c8 ff ff 00",
    "c8 10 00 01",
    "c8 10 00 02",
    "c8 ff ff 00 48 81 ec 00 08 01 00",
    "c2 08 00",
    "f3 48 a5",
    "f3 aa",
    "a4",
    "67 f3 a4",
    "64 a4",
    "ac",
    "48 8b 04 24",
    "48 8b 44 24 10",
    "48 89 84 24 00 00 10 00",
    "48 8b 40 08",
    "48 89 48 08",
    "48 8b 04 c8",
    "64 48 8b 04 25 28 00 00 00",
    "64 48 8b 00",
    "65 48 8b 00",
    "48 0f ab 08",
    "67 48 0f ab 08",
    "66 0f bb 08",
    "0f b3 08",
    "64 48 0f ab 08",
    "48 83 c0 10",
    "48 ff c0",
    "48 8d 40 10",
    "48 81 c0 ff ff ff 7f",
    "48 83 e0 f0",
    "b0 01",
    "48 b8 00 00 00 00 55 15 00 00",
    "0f 05",
    "b8 27 00 00 00 0f 05",
    "f3 48 0f ae d0",
    "f3 48 0f ae c0",
    "d7",
    "66 0f f7 c1",
    "ff e0",
    "ff d0",
    "ff 20",
    "ff 10",
    "64 ff 20",
    "65 ff 10",
    "ff 64 24 08",
    "e8 00 10 00 00",
    "74 10",
    "e2 10",
    "67 e3 10",
    "0f 85 00 01 00 00",
    "eb 10",
    "48 8b 05 00 10 00 00",
    "c4 e2 f1 92 04 50",
    "c4 e2 f1 93 04 50",
    "62 f2 7d 49 92 04 48",
    "62 f2 7d 49 a2 04 50",
    "c4 e2 7d 2e 00",
    "0f ae 20",
    "0f ae 28",
    "0f c7 08",
    "f0 48 0f b1 0b",
    "48 a1 00 00 00 00 00 20 00 00",
    "48 a3 00 00 00 00 00 70 00 00",
    "0f 01 fc",
    "66 0f 38 f8 08",
    "67 65 66 0f 38 f8 08",
    "67 64 66 0f 38 f8 08",
    "67 64 66 0f 38 f8 0d 00 01 00 00",
    "67 65 66 0f 38 f8 0d 00 01 00 00",
    "67 f2 65 0f 38 f8 08",
    "ff 34 24",
    "ff 75 10",
    "d9 1c 24",
    "db 3c 24",
    "db 2c 24",
    "c8 00 00 00",
    "66 c9",
    "0f ae 04 24",
    "0f ae 24 24",
    "48 0f c7 0c 24",
    "48 0f c7 4c c4 08",
    "64 48 0f c7 08",
    "65 48 0f c7 4c c8 10",
    "64 d7",
    "64 66 0f f7 c1",
    "64 0f 01 fc",
    "67 0f 01 fc",
    "67 e2 10",
    "e1 10",
    "e3 10",
    "f2 ae",
    "f3 a6",
    "f3 48 ab",
    "f3 ad",
    "64 c4 e2 f1 92 04 50",
    "c4 e2 f1 92 04 54",
    "62 f2 7d 49 a2 04 54",
    "c4 e2 7b 4b 04 08",
    "c4 e2 7a 4b 04 0c",
    "8f 04 34",
    "64 ff 34 24",
    "64 8f 04 24",
    "66 ff 34 24",
    "66 50",
    "66 58",
    "66 8f 44 24 02",
    "ff 54 24 f8",
    "ff 24 24",
    "64 ff 14 24",
    "ff d4",
    "ff e4",
    "c2 ff ff",
    "48 81 c4 00 10 00 00",
    "48 81 ec 01 10 00 00",
    "48 8d a4 24 00 f0 ff ff",
    "48 29 c4",
    "48 0f 44 e0",
    "40 88 c4",
    "9c",
    "9d",
    "64 c4 e2 e3 f6 24 3e",
    "65 c4 e2 e3 f6 24 3e",
    "48 81 c4 00 10 00 00 48 0f ab 04 24",
    "48 81 c4 00 10 00 00 f3 48 0f ae 24 24",
    "48 81 c4 ff ff ff 7f 48 0f ab 04 24",
    "48 81 c4 ff ff ff 7f f3 48 0f ae 24 24",
};

constexpr std::uint8_t kPrefixes[] = {0x66, 0xf2, 0xf3, 0xf0, 0x2e, 0x36, 0x64, 0x65, 0x67};

// A string of bytes that may be an instruction.
Bytes RandomBytes(Random& random) {
  Bytes bytes;
  while (Happens(random, 20)) bytes.push_back(kPrefixes[Below(random, std::size(kPrefixes))]);
  const auto form = static_cast<unsigned>(Below(random, 8));
  if (form < 6 && Happens(random, 50))
    bytes.push_back(static_cast<std::uint8_t>(0x40 | Below(random, 16)));
  if (form >= 3 && form < 6) bytes.push_back(0x0f);
  if (form == 4) bytes.push_back(0x38);
  if (form == 5) bytes.push_back(0x3a);
  if (form == 6) {
    bytes.insert(bytes.end(), {0xc4, static_cast<std::uint8_t>((AnyByte(random) & 0xe0) |
                                                               (1 + Below(random, 3)))});
  }
  if (form == 7) {
    bytes.insert(bytes.end(), {0x62, static_cast<std::uint8_t>((AnyByte(random) & 0xf0) |
                                                               (1 + Below(random, 3)))});
  }
  while (bytes.size() < 24) bytes.push_back(AnyByte(random));
  return bytes;
}

// What takes most registers at once: RSP as a number, a base and an index of memory, and mostly a segment base of the guest's.
Bytes CrowdedInstruction(Random& random) {
  constexpr std::uint8_t kRspAndSib = 0x24;
  for (;;) {
    Bytes bytes = RandomBytes(random);
    if (Happens(random, 80)) bytes.insert(bytes.begin(), Happens(random, 50) ? 0x64 : 0x65);
    jit::Instruction instruction;
    if (jit::Decode(bytes, instruction) != jit::DecodeStatus::kOk || !instruction.has_memory ||
        instruction.modrm_offset == 0) {
      continue;
    }
    bytes[instruction.modrm_offset] = static_cast<std::uint8_t>(Below(random, 3) << 6 | kRspAndSib);
    if (jit::Decode(bytes, instruction) != jit::DecodeStatus::kOk || instruction.klass != jit::Class::kCopy) continue;
    bytes.resize(instruction.length);
    return bytes;
  }
}

// With a base that is often RSP, RBP, or what was used before.
Bytes RandomInstruction(Random& random) {
  if (Happens(random, 10)) return CrowdedInstruction(random);
  if (Happens(random, 40)) {
    return jit::FromHex(kFrequent[Below(random, std::size(kFrequent))]);
  }
  for (;;) {
    Bytes bytes = RandomBytes(random);
    jit::Instruction instruction;
    if (jit::Decode(bytes, instruction) != jit::DecodeStatus::kOk) continue;
    const bool ends_block =
        instruction.klass != jit::Class::kCopy && instruction.klass != jit::Class::kBranch;
    if (ends_block && !Happens(random, 5)) continue;
    bytes.resize(instruction.length);
    return bytes;
  }
}

Bytes RandomCode(Random& random) {
  Bytes code;
  const std::uint64_t count = 1 + Below(random, 12);
  for (std::uint64_t i = 0; i < count; ++i) {
    const Bytes next = RandomInstruction(random);
    code.insert(code.end(), next.begin(), next.end());
  }
  return code;
}

constexpr std::uint64_t kPlaces[] = {0x40'1000,   0x7fff'fff0,      0x9000'0000,     0xffff'fff0,
                                     0x5555'0000, 0x1555'5555'0000, 0x3fff'ffff'ff00};

// ---- one block ----------------------------------------------------------------------------------

struct IsolationRow {
  jit::Isolation emitted;
  Isolation recorded;
};
constexpr IsolationRow kIsolations[] = {{jit::Isolation::kNone, Isolation::kNone},
                                        {jit::Isolation::kPku, Isolation::kPku},
                                        {jit::Isolation::kSeg, Isolation::kSeg},
                                        {jit::Isolation::kMask, Isolation::kMask},
                                        {jit::Isolation::kMaskWrites, Isolation::kMaskWrites}};

Code CodeOf(const jit::Emitter& emitter, Isolation isolation, const jit::Block& block,
            std::uint64_t host) {
  Code code;
  code.header.isolation = isolation;
  code.header.pc = block.pc;
  code.header.host = host;
  code.header.entry = emitter.entry();
  code.header.flags = block.is_single ? record::kIsSingle : 0;
  code.bytes.assign(emitter.code().begin(), emitter.code().end());
  for (const jit::ExitSite& exit : emitter.exits()) {
    code.exits.push_back({.offset = exit.offset, .zero = 0, .target = exit.target});
  }
  return code;
}

std::string Describe(const Bytes& guest, const Code& code, const Violation& violation) {
  return "guest " + jit::ToHex(guest) + "\nhost " + jit::ToHex(code.bytes) + "\nat " +
         std::to_string(violation.offset) + ": " + violation.instruction + ": " +
         std::string(violation.rule) + ": " + violation.detail;
}

// Who adds a call to the table that would run in place decides here once more whether it may.
TEST(SystemCalls, WithoutArgumentsAreTheOnesTheCheckerKnows) {
  for (const hostcalls::Row& row : hostcalls::AllRows()) {
    const bool is_plain = row.route == hostcalls::Route::kForwarded && row.argument_count() == 0 &&
                          row.family != hostcalls::Family::kSignals;
    EXPECT_EQ(RunsInPlace(static_cast<std::uint64_t>(row.number)), is_plain) << row.name;
  }
}

class EmittedCode : public testing::TestWithParam<IsolationRow> {
 protected:
  void SetUp() override {
    const absl::Status status = runtime::CheckIsolation(GetParam().emitted);
    if (!status.ok()) GTEST_SKIP() << status.message();
  }

  jit::EmitterOptions Options(bool check_by_loop) const {
    jit::EmitterOptions options;
    options.isolation = GetParam().emitted;
    options.check_by_loop = check_by_loop;
    options.runs_in_place = [](std::int64_t number) { return number == 0x27; };
    return options;
  }

  // Empty: nothing is wrong with it.
  std::string Check(const Bytes& guest, Random& random) {
    const std::uint64_t pc = kPlaces[Below(random, std::size(kPlaces))] + Below(random, 16);
    const std::uint64_t host = 0x7f00'0000'0000 + 16 * Below(random, 4);
    jit::Block block;
    jit::Translate(pc, guest, {.instructions = 64, .branches = 4}, block);
    if (std::holds_alternative<jit::FetchFault>(block.terminal)) return {};
    block.is_self_checking = Happens(random, 10);
    block.is_single = Happens(random, 10);
    jit::Emitter emitter(Options(Happens(random, 50)));
    const auto kind = Happens(random, 50) ? jit::EntryKind::kDirect : jit::EntryKind::kIndirect;
    if (Happens(random, 2)) {
      emitter.EmitIndirectStub(block, host);
    } else {
      emitter.Emit(block, kind, host);
    }
    const Code code = CodeOf(emitter, GetParam().recorded, block, host);
    const std::vector<Violation> violations = checker::Check(code).violations;
    return violations.empty() ? "" : Describe(guest, code, violations.front());
  }
};

TEST_P(EmittedCode, OfEachFrequentInstruction) {
  Random random(1);
  for (const std::string_view guest : kFrequent) {
    for (int i = 0; i < 20; ++i) {
      const std::string wrong = Check(jit::FromHex(guest), random);
      ASSERT_TRUE(wrong.empty()) << wrong;
    }
  }
}

// An instruction of each encoding whose operand is near RSP, which then moves as far as it may unseen: whether the
// access proves where RSP is, the emitter and the checker say each for itself.
template <typename Use>
void ForEachThroughStack(Use use) {
  const auto with_operand = [&](Bytes bytes, unsigned opcode, unsigned reg) {
    const auto modrm = static_cast<std::uint8_t>(0x44 | reg << 3);
    bytes.insert(bytes.end(), {static_cast<std::uint8_t>(opcode), modrm, 0x24, 0x98, 1, 0, 0, 0});
    use(std::move(bytes));
  };
  const Bytes maps[] = {{}, {0x0f}, {0x0f, 0x38}, {0x0f, 0x3a}};
  for (unsigned opcode = 0; opcode < 256; ++opcode) {
    for (const Bytes& map : maps) {
      for (const Bytes& prefix : {Bytes{}, Bytes{0x66}, Bytes{0xf2}, Bytes{0xf3}}) {
        Bytes bytes = prefix;
        bytes.insert(bytes.end(), map.begin(), map.end());
        for (unsigned reg = 0; reg < 8; ++reg) with_operand(bytes, opcode, reg);
      }
    }
    for (std::uint8_t map = 1; map <= 3; ++map) {
      for (unsigned form = 0; form < 16; ++form) {  // W, L, pp
        const auto last = static_cast<std::uint8_t>(0x78 | (form & 8) << 4 | (form & 7));
        with_operand({0xc4, static_cast<std::uint8_t>(0xe0 | map), last}, opcode, 1);
      }
    }
    for (const std::uint8_t map : {1, 2, 3, 5, 6}) {
      for (unsigned form = 0; form < 64; ++form) {  // L'L, b, W, pp; no opmask
        const auto second = static_cast<std::uint8_t>(0x7c | (form & 4) << 5 | (form & 3));
        const auto third = static_cast<std::uint8_t>(0x08 | (form & 0x38) << 1);
        with_operand({0x62, static_cast<std::uint8_t>(0xf0 | map), second, third}, opcode, 1);
      }
    }
  }
}

TEST_P(EmittedCode, OfEachInstructionThroughTheStack) {
  constexpr unsigned kMostShown = 8;
  Random random(1);
  unsigned wrong = 0;
  ForEachThroughStack([&](Bytes guest) {
    jit::Instruction instruction;
    if (jit::Decode(guest, instruction) != jit::DecodeStatus::kOk || instruction.klass != jit::Class::kCopy) return;
    guest.resize(instruction.length);
    const Bytes move = jit::FromHex("48 81 ec 00 10 00 00");
    guest.insert(guest.end(), move.begin(), move.end());
    const std::string complaint = Check(guest, random);
    if (!complaint.empty() && ++wrong <= kMostShown) ADD_FAILURE() << complaint;
  });
  EXPECT_EQ(wrong, 0U);
}

// The first few things that are wrong, each instruction's once.
TEST_P(EmittedCode, OfRandomInstructions) {
  constexpr unsigned kMostShown = 8;
  const std::uint64_t seed = FromEnvironment("CHECK_SEED", std::random_device{}());
  std::cout << "CHECK_SEED=" << seed << "\n";
  Random random(seed);
  std::vector<std::string> shown;
  const std::uint64_t blocks = FromEnvironment("CHECK_BLOCKS", 60'000);
  for (std::uint64_t i = 0; i < blocks && shown.size() < kMostShown; ++i) {
    const Bytes guest = RandomCode(random);
    const std::string wrong = Check(guest, random);
    if (wrong.empty()) continue;
    // "mov [rdx], cl: operand: rdx is not confined" without the operands.
    const std::string where = wrong.substr(wrong.rfind("\nat "));
    const std::string text = where.substr(where.find(": ") + 2);
    const std::string what =
        text.substr(0, text.find_first_of(" :")) + text.substr(text.find(": "));
    if (std::ranges::find(shown, what) != shown.end()) continue;
    shown.push_back(what);
    ADD_FAILURE() << wrong;
  }
}

INSTANTIATE_TEST_SUITE_P(Every, EmittedCode, testing::ValuesIn(kIsolations),
                         [](const testing::TestParamInfo<IsolationRow>& row) {
                           std::string name(NameOf(row.param.recorded));
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace dunebox::checker
