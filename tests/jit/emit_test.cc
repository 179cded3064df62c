// Host code, byte for byte, for each form of instruction. Every row is one guest instruction at
// `pc`, its block ended behind it; the exit that follows is cut off.
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <variant>

#include "jit-fallback/dispatch/context_offsets.h"
#include "jit-fallback/emit/emitter.h"
#include "tests/jit/emitted.h"

namespace dunebox::jit {
namespace {

constexpr std::uint64_t kLow = 0x40'1000, kMiddle = 0x9000'0000, kHigh = 0x5555'0000'0000;

EmitterOptions Options() {
  EmitterOptions options;
  options.runs_in_place = [](std::int64_t number) { return number == 0x6e; };
  return options;
}

struct Form {
  const char* name;
  std::uint64_t pc;
  const char* guest;
  const char* host;
};

const Form kForms[] = {
    {"plain copy", kHigh, "48 01 c8", "48 01 c8"},
    {"rip-relative, target below 2 GiB: [disp32]", kLow, "48 8b 05 00 01 00 00",
     "48 8b 04 25 07 11 40 00"},
    {"the same with REX.X, which would name an index", kLow, "4a 8b 05 00 01 00 00",
     "48 8b 04 25 07 11 40 00"},
    {"the same with an immediate", kLow, "81 05 00 01 00 00 78 56 34 12",
     "81 04 25 0a 11 40 00 78 56 34 12"},
    {"the same with VEX", kLow, "c4 c1 7c 58 05 00 01 00 00", "c4 c1 7c 58 04 25 09 11 40 00"},
    {"the same with two-byte VEX", kLow, "c5 fc 58 05 00 01 00 00", "c5 fc 58 04 25 08 11 40 00"},
    {"the same with EVEX and broadcast", kLow, "62 b1 7c 58 58 05 00 01 00 00",
     "62 f1 7c 58 58 04 25 0a 11 40 00"},
    {"rip-relative, target above 2 GiB: through RDX", kHigh, "48 8b 05 00 01 00 00",
     "65 48 89 04 25 10 00 00 00 48 b8 07 01 00 00 55 55 00 00 48 8b 00"},
    {"RDX is the operand: through RSI", kHigh, "48 8b 15 00 01 00 00",
     "65 48 89 14 25 10 00 00 00 48 ba 07 01 00 00 55 55 00 00 48 8b 12"},
    {"code above 2 GiB, target below", kMiddle, "48 8b 05 00 00 f0 ef", "48 8b 04 25 07 00 f0 7f"},
    {"eip-relative", kHigh, "67 48 8b 05 00 01 00 00", "67 48 8b 04 25 08 01 00 00"},
    {"VEX, target above", kHigh, "c5 fc 58 05 00 01 00 00",
     "65 48 89 14 25 10 00 00 00 48 ba 08 01 00 00 55 55 00 00 c5 fc 58 02 65 48 8b 14 25 "
     "10 00 00 00"},
    {"EVEX, target above", kHigh, "62 f1 7c 48 58 05 00 01 00 00",
     "65 48 89 14 25 10 00 00 00 48 ba 0a 01 00 00 55 55 00 00 62 f1 7c 48 58 02 65 48 8b "
     "14 25 10 00 00 00"},
    {"lea of a near address", kLow, "48 8d 05 00 01 00 00", "b8 07 11 40 00"},
    {"lea of a far address", kHigh, "4c 8d 0d 00 01 00 00", "49 b9 07 01 00 00 55 55 00 00"},
    {"lea to 16 bits", kHigh, "66 44 8d 0d 00 01 00 00", "66 41 b9 08 01"},
    {"lea to 16 bits with a segment", kHigh, "65 66 8d 05 00 01 00 00", "66 b8 08 01"},
    {"lea to 32 bits", kHigh, "8d 05 00 01 00 00", "b8 06 01 00 00"},
    {"gs:[reg]", kLow, "65 48 8b 03",
     "65 48 89 04 25 10 00 00 00 65 48 89 14 25 18 00 00 00 48 8d 03 65 48 8b 14 25 30 "
     "00 00 00 48 8d 04 10 65 48 8b 14 25 18 00 00 00 48 8b 00"},
    {"gs:[disp32]", kLow, "65 48 8b 04 25 10 00 00 00",
     "65 48 89 04 25 10 00 00 00 65 48 89 14 25 18 00 00 00 48 8d 04 25 10 00 00 00 65 "
     "48 8b 14 25 30 00 00 00 48 8d 04 10 65 48 8b 14 25 18 00 00 00 48 8b 00"},
    {"gs:[base + index * 8 + disp8] and an immediate", kLow, "65 81 44 c8 10 78 56 34 12",
     "65 48 89 14 25 10 00 00 00 65 48 89 34 25 18 00 00 00 48 8d 54 c8 10 65 48 8b 34 25 "
     "30 00 00 00 48 8d 14 32 65 48 8b 34 25 18 00 00 00 81 02 78 56 34 12 65 48 8b 14 25 "
     "10 00 00 00"},
    {"gs:[rip + disp32]", kHigh, "65 48 8b 05 00 01 00 00",
     "65 48 89 04 25 10 00 00 00 65 48 89 14 25 18 00 00 00 48 b8 08 01 00 00 55 55 00 "
     "00 65 48 8b 14 25 30 00 00 00 48 8d 04 10 65 48 8b 14 25 18 00 00 00 48 8b 00"},
    {"gs: and an older fs:", kLow, "64 65 8b 03",
     "65 48 89 04 25 10 00 00 00 65 48 89 14 25 18 00 00 00 48 8d 03 65 48 8b 14 25 30 "
     "00 00 00 48 8d 04 10 65 48 8b 14 25 18 00 00 00 8b 00"},
    {"gs: behind a REX byte that is void", kLow, "4f 65 8b 03",
     "65 48 89 04 25 10 00 00 00 65 48 89 14 25 18 00 00 00 48 8d 03 65 48 8b 14 25 30 "
     "00 00 00 48 8d 04 10 65 48 8b 14 25 18 00 00 00 8b 00"},
    {"gs: moffs", kLow, "65 48 a1 88 77 66 55 44 33 22 11",
     "65 48 89 14 25 10 00 00 00 65 48 89 34 25 18 00 00 00 48 ba 88 77 66 55 44 33 22 11 "
     "65 48 8b 34 25 30 00 00 00 48 8d 14 32 65 48 8b 34 25 18 00 00 00 48 8b 02 65 48 8b "
     "14 25 10 00 00 00"},
    {"gs: with few registers left: cmpxchg16b", kLow, "65 48 0f c7 0e",
     "65 48 89 3c 25 10 00 00 00 65 48 89 2c 25 18 00 00 00 48 8d 3e 65 48 8b 2c 25 30 00 "
     "00 00 48 8d 3c 2f 65 48 8b 2c 25 18 00 00 00 48 0f c7 0f 65 48 8b 3c 25 10 00 00 00"},
    {"pop gs:[rsp + rsi]: RSP behind the pop", kLow, "65 8f 04 34",
     "65 48 89 14 25 10 00 00 00 65 48 89 3c 25 18 00 00 00 48 8d 14 34 48 8d 52 08 65 48 "
     "8b 3c 25 30 00 00 00 48 8d 14 3a 65 48 8b 3c 25 18 00 00 00 8f 02 65 48 8b 14 25 10 "
     "00 00 00"},
    {"fs: stays", kLow, "64 48 8b 04 25 28 00 00 00", "64 48 8b 04 25 28 00 00 00"},
    {"jcc rel8", kLow, "74 10", "0f 84 00 00 00 00"},
    {"jcc rel32", kLow, "0f 8f 10 00 00 00", "0f 8f 00 00 00 00"},
    {"loop", kLow, "e2 10", "e2 02 eb 05 e9 fb ff ff ff"},
    {"jecxz", kLow, "67 e3 10", "67 e3 02 eb 05 e9 fb ff ff ff"},
    {"jmp", kLow, "eb 10", "e9 fb ff ff ff"},
    {"call, return address below 2 GiB", kLow, "e8 00 01 00 00", "68 05 10 40 00 e9 fb ff ff ff"},
    {"call, return address above", kHigh, "e8 00 01 00 00",
     "65 4c 89 1c 25 08 00 00 00 49 bb 05 00 00 00 55 55 00 00 41 53 65 4c 8b 1c 25 08 00 "
     "00 00 2e e9 fb ff ff ff"},
    {"ret", kLow, "c3",
     "65 48 89 0c 25 00 00 00 00 65 4c 89 1c 25 08 00 00 00 41 5b 41 0f b7 cb 65 ff 24 cd "
     "00 30 00 00"},
    {"ret imm16", kLow, "c2 10 00",
     "65 48 89 0c 25 00 00 00 00 65 4c 89 1c 25 08 00 00 00 4c 8b 1c 24 48 8d a4 24 18 00 "
     "00 00 41 0f b7 cb 65 ff 24 cd 00 30 00 00"},
    {"jmp reg", kLow, "ff e0",
     "65 48 89 0c 25 00 00 00 00 65 4c 89 1c 25 08 00 00 00 4c 8b d8 41 0f b7 cb 65 ff 24 "
     "cd 00 30 00 00"},
    {"jmp [rip + disp32] below 2 GiB", kLow, "ff 25 00 01 00 00",
     "65 48 89 0c 25 00 00 00 00 65 4c 89 1c 25 08 00 00 00 4c 8b 1c 25 06 11 40 00 41 0f "
     "b7 cb 65 ff 24 cd 00 30 00 00"},
    {"jmp [rip + disp32] above", kHigh, "ff 25 00 01 00 00",
     "65 48 89 0c 25 00 00 00 00 65 4c 89 1c 25 08 00 00 00 49 bb 06 01 00 00 55 55 00 00 "
     "4d 8b 1b 41 0f b7 cb 65 ff 24 cd 00 30 00 00"},
    {"jmp fs:[rip + disp32] above", kHigh, "64 ff 25 00 01 00 00",
     "65 48 89 0c 25 00 00 00 00 65 4c 89 1c 25 08 00 00 00 49 bb 07 01 00 00 55 55 00 00 "
     "64 4d 8b 1b 41 0f b7 cb 65 ff 24 cd 00 30 00 00"},
    {"jmp gs:[r11 + rcx]", kLow, "65 41 ff 24 0b",
     "65 48 89 0c 25 00 00 00 00 65 4c 89 1c 25 08 00 00 00 4d 8d 1c 0b 65 48 8b 0c 25 30 "
     "00 00 00 4d 8b 1c 0b 41 0f b7 cb 65 ff 24 cd 00 30 00 00"},
    {"call [rsp + 8]", kLow, "ff 54 24 08",
     "65 48 89 0c 25 00 00 00 00 65 4c 89 1c 25 08 00 00 00 4c 8b 5c 24 08 68 04 10 40 00 "
     "41 0f b7 cb 65 ff 24 cd 00 30 00 00"},
    {"call r11, return address above", kHigh, "41 ff d3",
     "65 48 89 0c 25 00 00 00 00 65 4c 89 1c 25 08 00 00 00 4d 8b db 48 b9 03 00 00 00 55 "
     "55 00 00 51 41 0f b7 cb 65 ff 24 cd 00 30 00 00"},
    {"syscall", kHigh, "0f 05",
     "65 c7 04 25 20 00 00 00 02 00 00 00 65 c7 04 25 24 00 00 00 55 55 00 00 65 ff 24 25 "
     "10 20 00 00"},
    {"cpuid", kLow, "0f a2", "65 48 c7 04 25 20 00 00 00 00 10 40 00 65 ff 24 25 18 20 00 00"},
    {"int3", kLow, "cc", "65 48 c7 04 25 20 00 00 00 00 10 40 00 65 ff 24 25 20 20 00 00"},
};

// Without the jump at the end, which is the same everywhere but for its alignment.
std::string BodyOf(const Emitted& emitted) {
  std::span<const std::uint8_t> code = emitted.emitter.code();
  // What is left to the runtime has no exit.
  const bool falls_out = !emitted.emitter.exits().empty() &&
                         std::holds_alternative<JumpTo>(emitted.block.terminal) &&
                         emitted.block.steps.back().instruction.klass != Class::kJump;
  if (falls_out) {
    std::size_t end = emitted.emitter.exits().back().offset - 1;
    while (end > 0 && code[end - 1] == 0x2e) --end;
    code = code.first(end);
  }
  return ToHex(code);
}

TEST(Emit, BytesOfEveryForm) {
  for (const Form& form : kForms) {
    const Emitted emitted(form.pc, form.guest, Options(), EntryKind::kDirect, {.instructions = 1});
    EXPECT_EQ(BodyOf(emitted), form.host) << form.name;
  }
}

// Isolation `seg`: no byte depends on where the window is.
const Form kWindowed[] = {
    {"[reg]", kLow, "48 8b 03", "65 67 48 8b 03"},
    {"[rsp + disp8]", kLow, "48 8b 44 24 08", "48 8b 44 24 08"},
    {"[rsp + index]", kLow, "48 8b 04 0c", "65 67 48 8b 04 0c"},
    {"rip-relative", kMiddle, "48 8b 05 00 01 00 00", "65 67 48 8b 04 25 07 01 00 90"},
    {"VEX", kLow, "c5 fc 58 05 00 01 00 00", "65 67 c5 fc 58 04 25 08 11 40 00"},
    {"moffs", kLow, "a1 44 33 22 11 00 00 00 00", "65 67 a1 44 33 22 11"},
    {"fs:[disp32]", kLow, "64 48 8b 04 25 28 00 00 00",
     "64 48 89 14 25 10 00 00 00 64 48 8b 14 25 90 10 00 00 65 67 48 8b 82 28 00 00 00 64 "
     "48 8b 14 25 10 00 00 00"},
    {"fs:[reg]", kLow, "64 48 8b 03",
     "64 48 89 04 25 10 00 00 00 64 48 89 14 25 18 00 00 00 48 8d 03 64 48 8b 14 25 90 10 "
     "00 00 48 8d 04 10 64 48 8b 14 25 18 00 00 00 65 67 48 8b 00"},
    {"lea", kLow, "48 8d 04 8b", "48 8d 04 8b"},
    {"lea from RSP", kLow, "48 8d 44 24 10", "67 48 8d 44 24 10"},
    {"push", kLow, "50", "50"},
    {"mov from RSP", kLow, "48 89 e5", "40 89 e5"},
    {"mov to RSP", kLow, "48 89 ec",
     "64 48 89 14 25 10 00 00 00 64 48 8b 14 25 30 11 00 00 40 89 ec 48 8d 24 14 64 48 8b "
     "14 25 10 00 00 00"},
    {"sub from RSP", kLow, "48 83 ec 18 51", "48 83 ec 18 51"},
    {"sub from RSP, the block ends", kLow, "48 83 ec 18",
     "48 83 ec 18 64 48 89 14 25 10 00 00 00 64 48 8b 14 25 30 11 00 00 89 e4 48 8d 24 14 "
     "64 48 8b 14 25 10 00 00 00"},
    {"sub of a register from RSP", kLow, "48 29 c4",
     "64 48 89 14 25 10 00 00 00 89 e2 48 29 c2 89 d2 64 48 8b 24 25 30 11 00 00 48 8d 24 "
     "14 64 48 8b 14 25 10 00 00 00"},
    {"leave", kLow, "c9",
     "64 48 89 24 25 10 00 00 00 89 ed 64 48 8b 24 25 30 11 00 00 48 8d 24 2c 5d"},
    {"movsb", kLow, "f3 a4",
     "64 48 89 14 25 10 00 00 00 64 48 8b 14 25 30 11 00 00 89 f6 48 8d 34 16 89 ff 48 8d "
     "3c 17 f3 a4 64 48 8b 14 25 38 11 00 00 48 8d 34 16 48 8d 3c 17 64 48 8b 14 25 10 00 "
     "00 00"},
    {"ret", kLow, "c3",
     "64 48 89 0c 25 00 00 00 00 64 4c 89 1c 25 08 00 00 00 41 5b 41 0f b7 cb 64 ff 24 cd "
     "00 30 00 00"},
    {"xlat", kLow, "d7", "65 67 d7"},
    {"maskmovdqu", kLow, "66 0f f7 c8", "65 67 66 0f f7 c8"},
    {"clzero", kLow, "0f 01 fc", "65 67 0f 01 fc"},
    {"gather", kLow, "c4 e2 69 90 04 08", "65 67 c4 e2 69 90 04 08"},
    {"scatter", kLow, "62 f2 7d 09 a0 1c 1a", "65 67 62 f2 7d 09 a0 1c 1a"},
    {"fxsave", kLow, "0f ae 00", "65 67 0f ae 00"},
    {"xsave", kLow, "0f ae 23", "65 67 0f ae 23"},
    {"cmpxchg16b", kLow, "48 0f c7 08", "65 67 48 0f c7 08"},
    {"bts", kLow, "48 0f ab 08", "65 67 48 0f ab 08"},
    {"enter", kLow, "c8 10 00 00",
     "64 48 89 14 25 10 00 00 00 8d 94 24 e8 ff ff ff 48 89 6c 24 f8 8d 6c 24 f8 89 d2 64 48 8b 24 "
     "25 30 11 00 00 48 8d 24 14 64 48 8b 14 25 10 00 00 00"},
    {"push [reg]", kLow, "ff 30", "65 67 ff 30"},
    {"pop [reg]", kLow, "8f 00", "65 67 8f 00"},
    {"call [reg]", kLow, "ff 13",
     "64 48 89 0c 25 00 00 00 00 64 4c 89 1c 25 08 00 00 00 65 67 4c 8b 1b 68 02 10 40 00 41 0f b7 "
     "cb 64 ff 24 cd 00 30 00 00"},
    {"stosb", kLow, "aa",
     "64 48 89 14 25 10 00 00 00 64 48 8b 14 25 30 11 00 00 89 ff 48 8d 3c 17 aa 64 48 8b 14 25 38 "
     "11 00 00 48 8d 3c 17 64 48 8b 14 25 10 00 00 00"},
    {"movdir64b is refused", kLow, "66 0f 38 f8 06",
     "64 48 c7 04 25 20 00 00 00 00 10 40 00 64 ff 24 25 20 20 00 00"},
    {"enqcmd is refused", kLow, "f2 0f 38 f8 06",
     "64 48 c7 04 25 20 00 00 00 00 10 40 00 64 ff 24 25 20 20 00 00"},
    {"tileloadd is refused", kLow, "c4 e2 7b 4b 04 08",
     "64 48 c7 04 25 20 00 00 00 00 10 40 00 64 ff 24 25 20 20 00 00"},
    {"monitor is refused", kLow, "0f 01 c8",
     "64 48 c7 04 25 20 00 00 00 00 10 40 00 64 ff 24 25 20 20 00 00"},
    {"enter with levels is refused", kLow, "c8 10 00 02",
     "64 48 c7 04 25 20 00 00 00 00 10 40 00 64 ff 24 25 20 20 00 00"},
    {"a gather through FS is the runtime's", kLow, "64 c4 e2 69 90 04 08",
     "64 48 c7 04 25 20 00 00 00 00 10 40 00 64 ff 24 25 18 20 00 00"},
    {"a string with FS is the runtime's", kLow, "64 a4",
     "64 48 c7 04 25 20 00 00 00 00 10 40 00 64 ff 24 25 18 20 00 00"},
    {"rdfsbase is the runtime's", kLow, "f3 48 0f ae c1",
     "64 48 c7 04 25 20 00 00 00 00 10 40 00 64 ff 24 25 18 20 00 00"},
    {"prefixes that mean nothing, fifteen bytes", kLow,
     "64 2e 2e 2e 2e 2e 2e 2e f2 81 00 01 00 00 00",
     "64 48 89 14 25 10 00 00 00 64 48 89 34 25 18 00 00 00 48 8d 10 64 48 8b 34 25 90 10 00 00 48 "
     "8d 14 32 64 48 8b 34 25 18 00 00 00 65 67 f2 81 02 01 00 00 00 64 48 8b 14 25 10 00 00 00"},
    {"fs:[disp32], fifteen bytes", kLow, "64 f2 f2 4a 81 04 25 10 00 00 00 01 00 00 00",
     "64 48 89 14 25 10 00 00 00 64 48 89 34 25 18 00 00 00 4a 8d 14 25 10 00 00 00 64 48 8b 34 25 "
     "90 10 00 00 48 8d 14 32 64 48 8b 34 25 18 00 00 00 65 67 f2 f2 48 81 02 01 00 00 00 64 48 8b "
     "14 25 10 00 00 00"},
    {"lea from RSP, fifteen bytes", kLow, "f2 f2 f2 f2 f2 f2 f2 f2 f2 f2 48 8d 44 24 10",
     "64 48 89 14 25 10 00 00 00 89 e2 f2 f2 f2 f2 f2 f2 f2 f2 f2 f2 48 8d 44 22 10 64 48 8b 14 25 "
     "10 00 00 00"},
    {"jmp [reg]", kLow, "ff 23",
     "64 48 89 0c 25 00 00 00 00 64 4c 89 1c 25 08 00 00 00 65 67 4c 8b 1b 41 0f b7 cb 64 "
     "ff 24 cd 00 30 00 00"},
};

TEST(Emit, BytesInAWindow) {
  for (const Form& form : kWindowed) {
    EmitterOptions options = Options();
    options.isolation = Isolation::kSeg;
    const unsigned instructions = form.name == std::string_view("sub from RSP") ? 2 : 1;
    const Emitted emitted(form.pc, form.guest, options, EntryKind::kDirect,
                          {.instructions = instructions});
    EXPECT_EQ(BodyOf(emitted), form.host) << form.name;
  }
}

const Form kEntries[] = {
    {"by JRCXZ, below 2 GiB", kLow, "11 c8 c3",
     "49 8d 8b 00 f0 bf ff e3 08 65 ff 24 25 08 20 00 00 65 48 8b 0c 25 00 00 00 00 11 c8 "
     "41 5b 41 0f b7 cb 65 ff 24 cd 00 30 00 00"},
    {"by JRCXZ, above", kHigh, "11 c8 c3",
     "48 b9 00 00 00 00 ab aa ff ff 4a 8d 0c 19 e3 08 65 ff 24 25 08 20 00 00 65 48 8b 0c "
     "25 00 00 00 00 11 c8 41 5b 41 0f b7 cb 65 ff 24 cd 00 30 00 00"},
    {"by LOOP, below 2 GiB", kLow, "11 c8 c3",
     "65 ff 24 25 08 20 00 00 49 8d 8b 01 f0 bf ff e2 ef 65 48 8b 0c 25 00 00 00 00 11 c8 "
     "41 5b 41 0f b7 cb 65 ff 24 cd 00 30 00 00"},
    {"by LOOP, above", kHigh, "11 c8 c3",
     "65 ff 24 25 08 20 00 00 48 b9 01 00 00 00 ab aa ff ff 4a 8d 0c 19 e2 e8 65 48 8b 0c "
     "25 00 00 00 00 11 c8 41 5b 41 0f b7 cb 65 ff 24 cd 00 30 00 00"},
    {"by LOOP, RCX and R11 written first", kLow, "31 c9 45 31 db f4",
     "65 ff 24 25 08 20 00 00 49 8d 8b 01 f0 bf ff e2 ef 31 c9 45 31 db 65 48 c7 04 25 20 "
     "00 00 00 05 10 40 00 65 ff 24 25 20 20 00 00"},
    {"by LOOP, RCX read", kLow, "48 89 c8 f4",
     "65 ff 24 25 08 20 00 00 49 8d 8b 01 f0 bf ff e2 ef 65 48 8b 0c 25 00 00 00 00 48 89 "
     "c8 65 4c 8b 1c 25 08 00 00 00 65 48 c7 04 25 20 00 00 00 03 10 40 00 65 ff 24 25 20 "
     "20 00 00"},
};

// The check of R11 and the reloads in front of the body; flags are never touched.
TEST(Emit, BytesOfIndirectEntries) {
  for (const Form& form : kEntries) {
    EmitterOptions options = Options();
    options.check_by_loop = std::string(form.name).starts_with("by LOOP");
    const Emitted emitted(form.pc, form.guest, options, EntryKind::kIndirect);
    EXPECT_EQ(ToHex(emitted.emitter.code()), form.host) << form.name;
  }
}

TEST(Emit, NoPatchStraddlesSixteenBytes) {
  for (std::uint64_t host = Emitted::kHost; host < Emitted::kHost + 64; ++host) {
    for (const char* guest : {"eb 10", "74 10 75 20 c3", "e8 00 00 00 00", "e2 fe 90 e3 10 f4",
                              "b8 6e 00 00 00 0f 05", "90 90 90"}) {
      const Emitted emitted(kHigh, guest, Options(), EntryKind::kDirect, {}, host);
      ASSERT_FALSE(emitted.emitter.exits().empty());
      for (const ExitSite& exit : emitted.emitter.exits()) {
        EXPECT_LE((host + exit.offset) & 15, 12u) << guest;
      }
    }
  }
}

TEST(Emit, ExitsAreTheGuestsTargets) {
  const Emitted emitted(kLow, "74 10 e2 20 e9 00 01 00 00", Options());
  ASSERT_EQ(emitted.emitter.exits().size(), 3u);
  EXPECT_EQ(emitted.emitter.exits()[0].target, kLow + 2 + 0x10);
  EXPECT_EQ(emitted.emitter.exits()[1].target, kLow + 4 + 0x20);
  EXPECT_EQ(emitted.emitter.exits()[2].target, kLow + 9 + 0x100);
}

TEST(Emit, AMappedTargetIsReadWhereItIs) {
  EmitterOptions options = Options();
  options.map_target = [](std::uint64_t target) {
    return target == kLow + 7 + 0x100 ? 0x7f55'0000'0000 : target;
  };
  const Emitted mapped(kLow, "48 8b 05 00 01 00 00", options, EntryKind::kDirect,
                       {.instructions = 1});
  EXPECT_NE(BodyOf(mapped).find("00 00 00 00 55 7f 00 00"), std::string::npos);
}

}  // namespace
}  // namespace dunebox::jit
