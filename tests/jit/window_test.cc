// Isolation `seg` at the two ends of the window: operands that no ModRM byte names, addresses that
// wrap, a stack pointer that runs away. Below the host's 4 GiB nothing is accessible, where a
// prefix that an instruction does not obey would send it; guards and canaries lie around the
// window.
#include <cpuid.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cctype>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <ostream>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "tests/jit/arena.h"
#include "tests/jit/emitted.h"
#include "tests/jit/runner.h"

namespace dunebox::jit {
namespace {

constexpr std::uint64_t kEnd = 0x1'0000'0000, kEdge = 0x1'0000;
constexpr std::uint64_t kGarbage = 0xabcd'0000'0000'0000;
constexpr std::uint64_t kPageFault = 14, kInvalidOpcode = 6, kHalted = 13;

struct Row {
  const char* name;
  const char* code;  // a HLT follows
  std::map<unsigned, std::uint64_t> before;
  std::map<unsigned, std::uint64_t> after;  // registers that are looked at
  std::uint64_t vector = kHalted, address = 0;
  std::map<std::uint64_t, std::uint8_t> memory;  // bytes that are; at first each is its address
};

void PrintTo(const Row& row, std::ostream* out) { *out << row.code; }

const Row kRows[] = {
    // ---- strings
    {"rep stosb over the end",
     "f3 aa",
     {{kRdi, kEnd - 8}, {kRcx, 16}, {kRax, 0x77}},
     {{kRdi, kEnd}, {kRcx, 8}},
     kPageFault,
     kEnd,
     {{kEnd - 8, 0x77}, {kEnd - 1, 0x77}, {0, 0}}},
    {"rep stosb backwards over the start",
     "fd f3 aa",
     {{kRdi, 7}, {kRcx, 16}, {kRax, 0x77}},
     {{kRdi, ~0ull}, {kRcx, 8}},
     kPageFault,
     ~0ull,
     {{0, 0x77}, {7, 0x77}, {kEnd - 1, 0xff}}},
    {"movsb from the end to the start",
     "a4",
     {{kRsi, kEnd - 1}, {kRdi, 0}},
     {{kRsi, kEnd}, {kRdi, 1}},
     kHalted,
     0,
     {{0, 0xff}}},
    {"movsq with other upper bits",
     "48 a5",
     {{kRsi, kGarbage | 0x20}, {kRdi, kGarbage | 0x40}},
     {{kRsi, 0x28}, {kRdi, 0x48}},
     kHalted,
     0,
     {{0x40, 0x20}, {0x47, 0x27}}},
    {"rep movsb of nothing",
     "f3 a4",
     {{kRsi, kEnd - 1}, {kRdi, 0}},
     {{kRsi, kEnd - 1}, {kRdi, 0}},
     kHalted,
     0,
     {{0, 0}}},
    {"lodsb at the end", "ac", {{kRsi, kEnd - 1}}, {{kRax, 0xff}, {kRsi, kEnd}}},
    {"lodsq over the end", "48 ad", {{kRsi, kEnd - 4}}, {{kRsi, kEnd - 4}}, kPageFault, kEnd},
    {"scasb at the start, backwards", "fd ae", {{kRdi, 0}}, {{kRdi, ~0ull}}},
    {"stosb with 32-bit addresses", "67 aa", {{kRdi, 0}}, {{kRdi, 0}}, kInvalidOpcode},
    {"stosb at the start", "aa", {{kRdi, 0}, {kRax, 0x77}}, {{kRdi, 1}}, kHalted, 0, {{0, 0x77}}},
    {"lodsb at the start", "ac", {{kRsi, 3}}, {{kRax, 3}, {kRsi, 4}}},
    {"scasb at the end", "ae", {{kRdi, kEnd - 1}}, {{kRdi, kEnd}}},
    {"repne scasb over the end",
     "f2 ae",
     {{kRdi, kEnd - 4}, {kRcx, 16}, {kRax, 0x77}},
     {{kRdi, kEnd}, {kRcx, 12}},
     kPageFault,
     kEnd},
    {"cmpsb of the end and the start",
     "a6",
     {{kRsi, kEnd - 1}, {kRdi, 0}},
     {{kRsi, kEnd}, {kRdi, 1}}},
    {"repe cmpsq over the end",
     "f3 48 a7",
     {{kRsi, kEnd - 16}, {kRdi, kEnd - 16}, {kRcx, 9}},
     {{kRsi, kEnd}, {kRdi, kEnd}, {kRcx, 7}},
     kPageFault,
     kEnd},
    {"rep movsb backwards over the start",
     "fd f3 a4",
     {{kRsi, 3}, {kRdi, 0x43}, {kRcx, 16}},
     {{kRsi, ~0ull}, {kRdi, 0x3f}, {kRcx, 12}},
     kPageFault,
     ~0ull,
     {{0x40, 0}, {0x43, 3}}},
    // ---- counters: numbers, whatever is in them
    {"loop by a counter of 64 bits", "e2 01 f4", {{kRcx, kGarbage}}, {{kRcx, kGarbage - 1}}},
    {"loop by a counter of 32 bits", "67 e2 01 f4 48 ff c0", {{kRcx, kEnd + 1}}, {{kRcx, 0}}},
    {"jrcxz", "e3 03 48 ff c0", {{kRcx, kEnd}}, {{kRax, 1}}},
    {"jecxz", "67 e3 03 48 ff c0", {{kRcx, kEnd}}, {{kRax, 0}}},
    {"rep stosb by a counter of 64 bits",
     "f3 aa",
     {{kRdi, kEnd - 4}, {kRcx, kEnd + 2}, {kRax, 0x77}},
     {{kRdi, kEnd}, {kRcx, kEnd - 2}},
     kPageFault,
     kEnd,
     {{kEnd - 1, 0x77}, {0, 0}}},
    // ---- other operands without ModRM
    {"xlat over the end", "d7", {{kRbx, kGarbage | (kEnd - 0x10)}, {kRax, 0x15}}, {{kRax, 5}}},
    {"xlat at the end", "d7", {{kRbx, kEnd - 0x10}, {kRax, 0xf}}, {{kRax, 0xff}}},
    {"maskmovdqu",
     "66 0f 76 c0 66 0f ef c9 66 0f f7 c8",
     {{kRdi, kGarbage | (kEnd - 16)}},
     {},
     kHalted,
     0,
     {{kEnd - 17, 0xef}, {kEnd - 16, 0}, {kEnd - 1, 0}, {0, 0}}},
    {"maskmovdqu over the end",
     "66 0f 76 c0 66 0f ef c9 66 0f f7 c8",
     {{kRdi, kGarbage | (kEnd - 8)}},
     {},
     kHalted + 200},
    {"maskmovq at the start",
     "0f 76 c0 0f ef c9 0f f7 c8",
     {{kRdi, kGarbage}},
     {},
     kHalted,
     0,
     {{0, 0}, {7, 0}, {8, 8}}},
    {"clzero at the end",
     "0f 01 fc",
     {{kRax, kGarbage | (kEnd - 1)}},
     {},
     kHalted,
     0,
     {{kEnd - 65, 0xbf}, {kEnd - 64, 0}, {kEnd - 1, 0}, {0, 0}, {1, 1}}},
    {"clzero at the start",
     "0f 01 fc",
     {{kRax, kGarbage}},
     {},
     kHalted,
     0,
     {{0, 0}, {63, 0}, {64, 64}, {kEnd - 1, 0xff}}},
    {"clzero through FS", "64 0f 01 fc", {{kRax, 0}}, {}, kInvalidOpcode},
    {"tileloadd", "c4 e2 7b 4b 04 08", {{kRax, 0}}, {}, kInvalidOpcode},
    {"monitor", "0f 01 c8", {{kRax, 0}}, {}, kInvalidOpcode},
    {"movdir64b", "66 0f 38 f8 06", {{kRax, 0}, {kRsi, 0}}, {}, kInvalidOpcode},
    {"enqcmd", "f2 0f 38 f8 06", {{kRax, 0}, {kRsi, 0}}, {}, kInvalidOpcode},
    {"mov al, moffs", "a0 ff ff ff ff 00 00 00 00", {}, {{kRax, 0xff}}},
    {"mov moffs with other upper bits",
     "a2 05 00 00 00 34 12 00 00",
     {{kRax, 0x77}},
     {},
     kHalted,
     0,
     {{5, 0x77}}},
    // ---- explicit operands
    {"base and displacement over the end",
     "c6 40 20 77",
     {{kRax, kGarbage | (kEnd - 0x10)}},
     {},
     kHalted,
     0,
     {{0x10, 0x77}}},
    {"a store over the end", "48 89 08", {{kRax, kEnd - 4}}, {}, kPageFault, kEnd},
    {"bts far below the start",
     "48 0f ab 08",
     {{kRax, 0}, {kRcx, ~0ull << 6 | 3}},
     {},
     kHalted,
     0,
     {{kEnd - 8, 0xf8}}},
    {"bts far away",
     "48 0f ab 08",
     {{kRax, 8}, {kRcx, 1ull << 50 | 8}},
     {},
     kHalted,
     0,
     {{9, 9}, {8, 8}}},
    {"cmpxchg16b at the end", "48 0f c7 08", {{kRax, 0}}, {{kRdx, 0x0f0e0d0c0b0a0908}}},
    {"cmpxchg16b with an index, from the end to the start",
     "48 0f c7 4c c8 10",
     {{kRax, kEnd - 0x20}, {kRcx, 2}},
     {{kRdx, 0x0f0e0d0c0b0a0908}}},
    {"cmpxchg16b over the end", "48 0f c7 08", {{kRax, kEnd - 8}}, {}, kHalted},
    {"cmpxchg16b in the last 16 bytes",
     "48 0f c7 08",
     {{kRax, kEnd - 16}},
     {{kRax, 0xf7f6f5f4f3f2f1f0}}},
    {"fxsave at the end",
     "0f ae 00",
     {{kRax, kGarbage | (kEnd - 512)}},
     {},
     kHalted,
     0,
     {{kEnd - 513, 0xff}, {kEnd - 512 + 27, 0}, {0, 0}, {1, 1}}},
    {"fxsave at the start",
     "0f ae 00",
     {{kRax, kGarbage}},
     {},
     kHalted,
     0,
     {{27, 0}, {kEnd - 1, 0xff}}},
    {"fxrstor over the end", "0f ae 08", {{kRax, kEnd - 16}}, {}, kHalted + 200},
    {"xsave over the end", "31 d2 b8 07 00 00 00 0f ae 23", {{kRbx, kEnd - 64}}, {}, kHalted + 200},
    {"xsave at the start",
     "31 d2 b8 03 00 00 00 0f ae 23",
     {{kRbx, kGarbage}},
     {},
     kHalted,
     0,
     {{27, 0}, {0x1000, 0}, {0x1001, 1}, {kEnd - 1, 0xff}}},
    {"an x87 store in two parts",
     "d9 e8 db 38",
     {{kRax, kEnd - 8}},
     {},
     kHalted,
     0,
     {{kEnd - 1, 0x80}, {0, 0xff}, {1, 0x3f}, {2, 2}}},
    {"fxsave over the end", "0f ae 00", {{kRax, kEnd - 16}}, {}, kHalted + 200},
    {"pop to memory",
     "8f 40 20",
     {{kRax, kEnd - 0x10}, {kRsp, 0x30}},
     {{kRsp, 0x38}},
     kHalted,
     0,
     {{0x10, 0x30}, {0x17, 0x37}}},
    {"vpgatherdd over the end",
     "31 c9 ff c1 c1 e1 05 c5 f9 6e c9 c5 e9 76 d2 c4 e2 69 90 04 08 c5 f9 7e c1",
     {{kRax, kGarbage | (kEnd - 0x10)}},
     {{kRcx, 0x13121110}}},
    {"the guest's FS base", "64 8a 00", {{kRax, kGarbage | 0x10}}, {{kRax, kGarbage}}},
    {"vpgatherqq below the start",
     "c4 e1 f9 6e c9 c5 e9 76 d2 c4 e2 e9 91 04 08 c4 e1 f9 7e c1",
     {{kRax, kGarbage | 8}, {kRcx, 0xffff'0000'0000'0000 | (kEnd - 0x10)}},
     {{kRcx, 0xfffefdfcfbfaf9f8}}},
    {"vpscatterdd below the start",
     "c5 f9 6e d9 b8 01 00 00 00 c5 f8 92 c8 62 f2 7d 09 a0 1c 1a",
     {{kRdx, kGarbage | 8}, {kRcx, 0xffff'fff0}, {kRbx, 0}},
     {},
     kHalted + 200},
    {"store through FS, from below the start to the end",
     "64 c6 40 0f 77",
     {{kRax, 0}},
     {},
     kHalted,
     0,
     {{kEnd - 1, 0x77}}},
    {"store through FS over the end",
     "64 88 08",
     {{kRax, 0x10}, {kRcx, 0x77}},
     {},
     kHalted,
     0,
     {{0, 0x77}}},
    {"fs:[disp32] over the end", "64 8a 04 25 13 00 00 00", {}, {{kRax, 3}}},
    {"fs:[disp32] that straddles the end", "64 48 8b 04 25 0c 00 00 00", {}, {}, kPageFault, kEnd},
    {"rdfsbase", "f3 48 0f ae c1", {}, {{kRcx, kGarbage | (kEnd - 0x10)}}},
    // ---- the stack
    {"push below the start", "50", {{kRsp, 0}}, {{kRsp, 0}}, kPageFault, ~7ull},
    {"pop over the end",
     "58 59",
     {{kRsp, kEnd - 8}},
     {{kRax, 0xfffefdfcfbfaf9f8}, {kRsp, 0}},
     kPageFault,
     kEnd},
    {"push and pop in the first 8 bytes",
     "50 59",
     {{kRsp, 8}, {kRax, 0x77}},
     {{kRsp, 8}, {kRcx, 0x77}},
     kHalted,
     0,
     {{0, 0x77}, {8, 8}}},
    {"push and pop in the last 8 bytes",
     "5a 50 59",
     {{kRsp, kEnd - 8}, {kRax, 0x77}},
     {{kRcx, 0x77}, {kRsp, 0}},
     kHalted,
     0,
     {{kEnd - 8, 0x77}, {kEnd - 9, 0xf7}}},
    {"push from memory, from the end to the start",
     "ff 70 20",
     {{kRsp, 8}, {kRax, kGarbage | (kEnd - 0x28)}},
     {{kRsp, 0}},
     kHalted,
     0,
     {{0, 0xf8}, {7, 0xff}}},
    {"pushfq below the start", "9c", {{kRsp, 0}}, {{kRsp, 0}}, kPageFault, ~7ull},
    {"push imm8 below the start", "6a 05", {{kRsp, 4}}, {{kRsp, 4}}, kPageFault, ~3ull},
    {"push of 16 bits",
     "66 50",
     {{kRsp, 2}, {kRax, 0x77}},
     {{kRsp, 0}},
     kHalted,
     0,
     {{0, 0x77}, {2, 2}}},
    {"call and ret in the first 8 bytes",
     "e8 01 00 00 00 f4 c3",
     {{kRsp, 8}},
     {{kRsp, 8}},
     kHalted,
     0,
     {{8, 8}}},
    {"call and ret in the last 8 bytes",
     "5a e8 01 00 00 00 f4 c3",
     {{kRsp, kEnd - 8}},
     {{kRsp, 0}},
     kHalted,
     0,
     {{kEnd - 9, 0xf7}, {0, 0}}},
    {"call below the start", "e8 01 00 00 00 f4 c3", {{kRsp, 0}}, {{kRsp, 0}}, kPageFault, ~7ull},
    {"ret over the end", "c3", {{kRsp, kEnd - 4}}, {{kRsp, kEnd - 4}}, kPageFault, kEnd},
    {"ret and more, over the end",
     "c2 10 00",
     {{kRsp, kEnd - 4}},
     {{kRsp, kEnd - 4}},
     kPageFault,
     kEnd},
    {"call through memory over the end",
     "ff 10",
     {{kRax, kEnd - 4}},
     {{kRax, kEnd - 4}},
     kPageFault,
     kEnd},
    {"jump through memory over the end",
     "ff 20",
     {{kRax, kEnd - 4}},
     {{kRax, kEnd - 4}},
     kPageFault,
     kEnd},
    {"enter at the end",
     "5a c8 10 00 00",
     {{kRsp, kEnd - 8}, {kRbp, 0x77}},
     {{kRsp, kEnd - 0x18}, {kRbp, kEnd - 8}},
     kHalted,
     0,
     {{kEnd - 8, 0x77}}},
    {"leave at the start", "c9", {{kRbp, 0}}, {{kRsp, 8}, {kRbp, 0x0706050403020100}}},
    {"leave of 16 bits", "66 c9", {{kRbp, 0}, {kRsp, 0x40}}, {{kRsp, 0x40}}, kInvalidOpcode},
    // Fifteen bytes, of which a window's prefixes would make more.
    {"too long with the prefixes",
     "f2 f2 f2 f2 f2 f2 f2 f2 81 40 20 01 00 00 00",
     {{kRax, 0}},
     {},
     kInvalidOpcode},
    {"too long with FS and a displacement",
     "64 f2 f2 4a 81 04 25 10 00 00 00 01 00 00 00",
     {},
     {},
     kHalted,
     0,
     {{0, 1}}},
    {"too long with the prefix of lea",
     "f2 f2 f2 f2 f2 f2 f2 f2 f2 f2 48 8d 44 24 10",
     {{kRsp, 0x40}},
     {{kRax, 0x50}}},
    {"too long with prefixes that mean nothing",
     "64 2e 2e 2e 2e 2e 2e 2e f2 81 00 01 00 00 00",
     {{kRax, 0x10}},
     {},
     kHalted,
     0,
     {{0, 1}}},
    {"lea ax, [rip], fifteen bytes long",
     "66 f2 f2 f2 f2 f2 f2 f2 f2 8d 05 00 00 00 00",
     {{kRax, kGarbage}},
     {}},
    {"push rsp",
     "54",
     {{kRsp, 0x108}},
     {{kRsp, 0x100}},
     kHalted,
     0,
     {{0x100, 8}, {0x101, 1}, {0x104, 0}, {0x107, 0}}},
    {"pop rsp", "5c", {{kRsp, 8}}, {{kRsp, 0x0b0a0908}}},
    {"pop to below rsp", "8f 44 24 f8", {{kRsp, 0x20}}, {{kRsp, 0x28}}, kHalted, 0, {{0x20, 0x20}}},
    {"xchg rsp, rax",
     "48 94",
     {{kRsp, 0x20}, {kRax, kGarbage | 0x40}},
     {{kRsp, 0x40}, {kRax, 0x20}}},
    {"mov rsp, rax; push rax",
     "48 89 c4 50",
     {{kRax, kGarbage | 0x20}},
     {{kRsp, 0x18}},
     kHalted,
     0,
     {{0x18, 0x20}, {0x1f, 0xab}}},
    {"lea rsp, [rax + rcx * 8]; pop rdx",
     "48 8d 24 c8 5a",
     {{kRax, kGarbage}, {kRcx, 4}},
     {{kRsp, 0x28}, {kRdx, 0x2726252423222120}}},
    {"add rsp, far; push",
     "48 81 c4 00 00 00 70 50",
     {{kRsp, 0x9000'0008}, {kRax, 7}},
     {{kRsp, 0}},
     kHalted,
     0,
     {{0, 7}}},
    {"enter",
     "c8 10 00 00",
     {{kRsp, 0x108}, {kRbp, 0x77}},
     {{kRsp, 0xf0}, {kRbp, 0x100}},
     kHalted,
     0,
     {{0x100, 0x77}}},
    {"enter below the start",
     "c8 10 00 00",
     {{kRsp, 0}, {kRbp, 0x77}},
     {{kRsp, 0}, {kRbp, 0x77}},
     kPageFault,
     ~7ull},
    {"enter with levels", "c8 10 00 02", {{kRsp, 0x108}}, {{kRsp, 0x108}}, kInvalidOpcode},
    {"leave at the end", "c9", {{kRbp, kEnd - 8}}, {{kRsp, 0}, {kRbp, 0xfffefdfcfbfaf9f8}}},
    {"leave over the end",
     "c9",
     {{kRbp, kEnd - 4}, {kRsp, 0x40}},
     {{kRsp, 0x40}, {kRbp, kEnd - 4}},
     kPageFault,
     kEnd},
    {"mov [rsp], rsp", "48 89 24 24", {{kRsp, 0x40}}, {}, kHalted, 0, {{0x40, 0x40}, {0x45, 0}}},
    {"cmp rsp and its flags", "48 39 c4 0f 94 c0", {{kRsp, 0x40}, {kRax, 0x40}}, {{kRax, 1}}},
    {"movq xmm0, rsp", "66 48 0f 6e c4 66 48 0f 7e c1", {{kRsp, 0x40}}, {{kRcx, 0x40}}},
    {"andn rcx, rsp, rax", "c4 e2 d8 f2 c8", {{kRsp, 0x40}, {kRax, ~0ull}}, {{kRcx, ~0x40ull}}},
    // Behind an indirect jump RCX waits in its slot, and the operands leave two registers for RSP's number and the address.
    {"mulx to rsp through FS behind a jump",
     "48 8d 05 02 00 00 00 ff e0 64 c4 e2 e3 f6 24 3e",
     {{kRsi, 0x20}, {kRdi, 0x10}, {kRdx, kEnd}, {kRcx, 0x77}, {kRbp, 0x66}},
     {{kRsp, 0x2726'2524}, {kRbx, 0x2322'2120'0000'0000}, {kRcx, 0x77}, {kRbp, 0x66}}},
    // Blocks that only move RSP, two thousand times: none of them may add to the drift.
    {"lea rsp down without an access",
     "b9 d0 07 00 00 48 8d a4 24 00 f0 ff ff e2 f6 50",
     {{kRsp, 0x10'0000}, {kRax, 1}},
     {},
     kPageFault,
     0xff93'0000 - 8},
    {"sub rsp down and a jump",
     "b9 d0 07 00 00 48 81 ec 00 10 00 00 ff c9 75 f5 50",
     {{kRsp, 0x10'0000}, {kRax, 1}},
     {},
     kPageFault,
     0xff93'0000 - 8},
    {"add rsp up",
     "b9 d0 07 00 00 48 81 c4 00 10 00 00 ff c9 75 f5 50",
     {{kRsp, 0xfff0'0000}, {kRax, 1}},
     {},
     kPageFault,
     0x6d'0000 - 8},
};

class Window : public testing::Test {
 protected:
  void SetUp() override {
    arena_ = Arena::MapInWindow(kLayouts[0]);
    if (arena_ == nullptr) GTEST_SKIP() << "the addresses are taken";
    for (const std::uint64_t edge : {std::uint64_t{0}, kEnd - kEdge}) {
      std::uint8_t* const at = Byte(edge);
      void* const mapped =
          mmap(at, kEdge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
      ASSERT_EQ(mapped, at);
      for (std::uint64_t i = 0; i < kEdge; ++i) at[i] = static_cast<std::uint8_t>(i);
    }
    runner_ = std::make_unique<Runner>(*arena_, Runner::Options{});
  }

  std::uint8_t* Byte(std::uint64_t address) {
    return reinterpret_cast<std::uint8_t*>(arena_->HostAddress(address));
  }

  std::unique_ptr<Arena> arena_;
  std::unique_ptr<Runner> runner_;
};

// A row whose `vector` says so is only to stay inside: what it does there is the processor's.
bool IsOnlyToStayInside(const Row& row) { return row.vector > kHalted + 50; }

// CLZERO is AMD's (CPUID 80000008h, EBX bit 0); where the processor has none it is an invalid opcode in the code cache, too.
bool IsOfThisProcessor(const Row& row) {
  unsigned eax, ebx = 0, ecx, edx;
  __get_cpuid(0x8000'0008, &eax, &ebx, &ecx, &edx);
  return std::string_view(row.code) != "0f 01 fc" || (ebx & 1) != 0;
}

class WindowRow : public Window, public testing::WithParamInterface<Row> {};

TEST_P(WindowRow, HoldsAtItsEnds) {
  const Row& row = GetParam();
  if (!IsOfThisProcessor(row)) GTEST_SKIP() << "this processor has no such instruction";
  std::vector<std::uint8_t> code = FromHex(row.code);
  code.push_back(0xf4);
  arena_->WriteCode(arena_->code(), code);
  Machine machine;
  Random random(1);
  Randomize(random, machine);
  machine.rflags = 0x202;
  machine.gpr = {};
  machine.gpr[kRsp] = arena_->stack_top() - 0x100;
  machine.fs_base = kGarbage | (kEnd - 0x10);
  machine.rip = arena_->code();
  for (const auto& [reg, value] : row.before) machine.gpr[reg] = value;
  // An SSE exception would be another test's.
  std::memset(machine.extended.data() + 512, 0, 64);
  const Ending ending = runner_->RunTranslated(machine);
  if (IsOnlyToStayInside(row)) return;
  EXPECT_EQ(ending.vector, row.vector);
  if (row.vector == kPageFault) {
    EXPECT_EQ(ending.address, row.address);
  }
  for (const auto& [reg, value] : row.after) EXPECT_EQ(machine.gpr[reg], value) << "reg " << reg;
  for (const auto& [address, value] : row.memory) EXPECT_EQ(*Byte(address), value) << address;
  for (const std::uint64_t value : machine.gpr) {
    EXPECT_NE(value & ~(kEnd - 1), Arena::kWindowBase) << "the window's base in a register";
  }
}

// A prefix that were not obeyed would find something there otherwise.
TEST_F(Window, TheHostHasNothingBelow4GiBMeanwhile) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "its shadow is there";
#endif
  arena_->SetNativeAccess(false);
  std::ifstream maps("/proc/self/maps");
  std::string line;
  unsigned seen = 0;
  while (std::getline(maps, line)) {
    std::uint64_t start = 0;
    char dash = 0;
    std::string end, access;
    std::istringstream(line) >> std::hex >> start >> dash >> end >> access;
    ++seen;
    if (start < kEnd) {
      EXPECT_EQ(access.substr(0, 3), "---") << line;
    }
  }
  EXPECT_GT(seen, 0u);
}

std::string NameOf(const testing::TestParamInfo<Row>& info) {
  std::string name = info.param.name;
  for (char& c : name) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
  }
  return name;
}

INSTANTIATE_TEST_SUITE_P(Rows, WindowRow, testing::ValuesIn(kRows), NameOf);

}  // namespace
}  // namespace dunebox::jit
