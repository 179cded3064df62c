// What an instruction accesses, by what it names and by what it does not. Sizes of all operands that there are: see
// jit_decode_oracle_test.
#include "jit-fallback/dispatch/memory_accesses.h"

#include <gtest/gtest.h>

#include <array>
#include <vector>

namespace dunebox::jit {
namespace {

constexpr std::array<std::uint64_t, 16> kRegisters = {
    0x1000'0003, 0x1001'0000, 0x1002'0000, 0x1003'0000, 0x1004'0000, 0x1005'0000, 0x1006'0000, 0x1007'0000,
    0x1008'0000, 0x1009'0000, 0x100a'0000, 0x100b'0000, 0x100c'0000, 0x100d'0000, 0x100e'0000, 0x100f'0000};
constexpr std::uint64_t kRip = 0x40'0000, kFsBase = 0x7000'0000, kGsBase = 0x7100'0000;

struct Expected {
  std::uint64_t address;
  unsigned size;
  bool reads, writes;
};

struct Case {
  const char* text;
  std::vector<std::uint8_t> bytes;
  std::vector<Expected> accesses;
};

const Case kCases[] = {
    {"mov eax, ecx", {0x89, 0xc8}, {}},
    {"lea rax, [rbx]", {0x48, 0x8d, 0x03}, {}},
    {"mov eax, [rbx]", {0x8b, 0x03}, {{0x1003'0000, 4, true, false}}},
    {"mov [rbx+rcx*2+4], cx", {0x66, 0x89, 0x4c, 0x4b, 0x04}, {{0x1003'0000 + 2 * 0x1001'0000 + 4, 2, false, true}}},
    {"add [rbx], al", {0x00, 0x03}, {{0x1003'0000, 1, true, true}}},
    {"mov rax, [rip+16]", {0x48, 0x8b, 0x05, 0x10, 0, 0, 0}, {{kRip + 7 + 16, 8, true, false}}},
    {"mov rax, fs:[0]", {0x64, 0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0}, {{kFsBase, 8, true, false}}},
    {"mov al, gs:[rbx]", {0x65, 0x8a, 0x03}, {{kGsBase + 0x1003'0000, 1, true, false}}},
    {"bts [rbx], rax", {0x48, 0x0f, 0xab, 0x03}, {{0x1003'0000 + 0x1000'0003 / 64 * 8, 8, true, true}}},
    {"push rax", {0x50}, {{0x1003'fff8, 8, false, true}}},
    {"push ax", {0x66, 0x50}, {{0x1003'fffe, 2, false, true}}},
    {"push qword [rbx]", {0xff, 0x33}, {{0x1003'0000, 8, true, false}, {0x1003'fff8, 8, false, true}}},
    {"pop rax", {0x58}, {{0x1004'0000, 8, true, false}}},
    {"call +0", {0xe8, 0, 0, 0, 0}, {{0x1003'fff8, 8, false, true}}},
    {"call [rbx]", {0xff, 0x13}, {{0x1003'0000, 8, true, false}, {0x1003'fff8, 8, false, true}}},
    {"ret", {0xc3}, {{0x1004'0000, 8, true, false}}},
    {"iretq", {0x48, 0xcf}, {{0x1004'0000, 40, true, false}}},
    {"xlat", {0xd7}, {{0x1003'0003, 1, true, false}}},
    {"movsd", {0xa5}, {{0x1006'0000, 4, true, false}, {0x1007'0000, 4, false, true}}},
    {"rep stosq", {0xf3, 0x48, 0xab}, {{0x1007'0000, 8, false, true}}},
    {"repe cmpsb", {0xf3, 0xa6}, {{0x1006'0000, 1, true, false}, {0x1007'0000, 1, true, false}}},
    {"maskmovdqu xmm0, xmm1", {0x66, 0x0f, 0xf7, 0xc1}, {{0x1007'0000, 16, false, true}}},
    {"movss xmm0, [rbx]", {0xf3, 0x0f, 0x10, 0x03}, {{0x1003'0000, 4, true, false}}},
    {"vmovups ymm0, [rbx]", {0xc5, 0xfc, 0x10, 0x03}, {{0x1003'0000, 32, true, false}}},
    {"vmovups zmm0, [rbx+0x40]", {0x62, 0xf1, 0x7c, 0x48, 0x10, 0x43, 0x01}, {{0x1003'0040, 64, true, false}}},
    {"vaddps zmm0, zmm0, [rbx+4]{1to16}", {0x62, 0xf1, 0x7c, 0x58, 0x58, 0x43, 0x01}, {{0x1003'0004, 4, true, false}}},
};

TEST(MemoryAccesses, AreWhatTheProcessorWouldAccess) {
  for (const Case& one : kCases) {
    Instruction instruction;
    ASSERT_EQ(Decode(one.bytes, instruction), DecodeStatus::kOk) << one.text;
    ASSERT_EQ(instruction.length, one.bytes.size()) << one.text;
    const MemoryAccesses found = MemoryAccessesOf(
        instruction, one.bytes, {.gpr = kRegisters, .rip = kRip, .fs_base = kFsBase, .gs_base = kGsBase});
    ASSERT_EQ(found.count, one.accesses.size()) << one.text;
    for (std::size_t i = 0; i < found.count; ++i) {
      const MemoryAccess& access = found.list[i];
      const Expected& expected = one.accesses[i];
      EXPECT_EQ(access.address, expected.address) << one.text;
      EXPECT_EQ(access.size, expected.size) << one.text;
      EXPECT_EQ(access.reads, expected.reads) << one.text;
      EXPECT_EQ(access.writes, expected.writes) << one.text;
    }
  }
}

}  // namespace
}  // namespace dunebox::jit
