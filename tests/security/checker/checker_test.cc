// The checker itself: code that obeys, and for every rule code that does not and has to be refused.
#include "tests/security/checker/checker.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tests/security/checker/reader.h"
#include "tests/security/checker/rules.h"

namespace dunebox::checker {
namespace {

constexpr Isolation kNone = Isolation::kNone, kPku = Isolation::kPku, kSeg = Isolation::kSeg,
                    kMask = Isolation::kMask, kMaskWrites = Isolation::kMaskWrites;

struct Name {
  std::string_view text;
  std::uint32_t value;
};
// Of displacements, in the bytes below.
constexpr Name kNames[] = {
    {"RCX", JIT_SLOT_RCX},     {"R11", JIT_SLOT_R11},       {"SCR", JIT_SLOT_SCRATCH0},
    {"RIP", JIT_RIP},          {"LNK", JIT_LINK},           {"HSP", JIT_HOST_RSP},
    {"TRP", JIT_TO_TRAP},      {"TLK", JIT_TO_LINK},        {"TLO", JIT_TO_LOOKUP},
    {"TAB", JIT_TABLE},        {"MSK", JIT_CONFINING_MASK}, {"GSB", JIT_GS_BASE},
    {"SEC", JIT_SECOND_TABLE}, {"BIT", JIT_BIT_PLACE_64},   {"BAS", JIT_WINDOW_BASE},
};

// "48 89 c8", and names of four bytes.
std::vector<std::uint8_t> BytesOf(std::string_view text) {
  std::vector<std::uint8_t> bytes;
  while (!text.empty()) {
    const std::string_view word = text.substr(0, text.find(' '));
    text.remove_prefix(std::min(text.size(), word.size() + 1));
    if (word.empty()) continue;
    if (word.size() == 2) {
      bytes.push_back(static_cast<std::uint8_t>(std::stoul(std::string(word), nullptr, 16)));
      continue;
    }
    const auto* row = std::ranges::find(kNames, word, &Name::text);
    for (unsigned i = 0; i < 4; ++i) {
      bytes.push_back(static_cast<std::uint8_t>(row->value >> (8 * i)));
    }
  }
  return bytes;
}

Code CodeOf(Isolation isolation, std::string_view text) {
  Code code;
  code.bytes = BytesOf(text);
  code.header.isolation = isolation;
  code.header.host = 0x7f00'0000'0000;
  code.header.pc = 0x40'1000;
  code.header.code_size = static_cast<std::uint32_t>(code.bytes.size());
  return code;
}

// "operand at 3; rsp at 7"
std::string Verdict(const Code& code) {
  std::string verdict;
  for (const Violation& violation : Check(code).violations) {
    if (!verdict.empty()) verdict += "; ";
    verdict += std::string(violation.rule) + " at " + std::to_string(violation.offset);
  }
  return verdict;
}

struct Row {
  const char* name;
  Isolation isolation;
  const char* code;  // a way out is put behind it
  const char* verdict = "";
};

std::string VerdictOf(const Row& row) {
  const bool is_seg = row.isolation == kSeg;
  const std::string text = std::string(row.code) + (is_seg ? " 64" : " 65") + " ff 24 25 TRP";
  return Verdict(CodeOf(row.isolation, text));
}

// ---- rules for all ------------------------------------------------------------------------------

const Row kForAll[] = {
    {"plain copies", kNone, "48 01 c8 48 8b 04 c8 f3 a4 0f a2", "instruction at 9"},
    {"anything in memory", kNone, "48 8b 04 c8 f3 a4 48 0f a3 08 41 53 64 48 8b 03"},
    {"spill and reload", kNone, "65 48 89 0c 25 RCX 65 48 8b 0c 25 RCX"},
    {"RIP, in two halves", kNone, "65 c7 04 25 RIP 00 00 00 00 65 48 c7 04 25 RIP 00 00 00 00"},
    {"load from where RSP of the host is", kNone, "65 48 8b 0c 25 HSP", "context-load at 0"},
    {"load across the end of a slot", kNone, "65 48 8b 0c 25 04 00 00 00 65 0f 10 04 25 RCX",
     "context-load at 0; context-load at 9"},
    {"store to where RSP of the host is", kNone, "65 48 89 0c 25 HSP", "context-store at 0"},
    {"store to an exit pointer", kNone, "65 48 89 0c 25 TRP", "context-store at 0"},
    {"store to the table", kNone, "65 48 89 0c 25 TAB", "context-store at 0"},
    {"store to GS base", kNone, "65 48 89 0c 25 GSB", "context-store at 0"},
    {"vector store to a slot", kNone, "65 0f 11 04 25 RCX", "context-store at 0"},
    {"add to a slot", kNone, "65 48 01 0c 25 RCX", "context-store at 0"},
    {"push of a field", kNone, "65 ff 34 25 HSP", "context-load at 0"},
    {"context and a base", kNone, "65 48 8b 03", "context at 0"},
    {"context and an index", kNone, "65 48 8b 0c cd RCX", "context at 0"},
    {"context and 32-bit address", kNone, "67 65 48 8b 0c 25 RCX", "context at 0"},
    {"string out of the context", kNone, "65 48 a5", "context at 0"},
    {"lea does not access", kNone, "65 48 8d 03"},
    {"wrpkru", kNone, "0f 01 ef", "instruction at 0"},
    {"xrstors", kNone, "0f c7 1b", "instruction at 0"},
    {"xsaves", kNone, "0f c7 2b", "instruction at 0"},
    {"xsetbv", kNone, "0f 01 d1", "instruction at 0"},
    {"sysenter", kNone, "0f 34", "instruction at 0"},
    {"sysret", kNone, "48 0f 07", "instruction at 0"},
    {"int 0x80", kNone, "cd 80", "instruction at 0"},
    {"int3", kNone, "cc", "instruction at 0"},
    {"int1", kNone, "f1", "instruction at 0"},
    {"iretq", kNone, "48 cf", "instruction at 0"},
    {"ret", kNone, "c3", "instruction at 0"},
    {"retf", kNone, "cb", "instruction at 0"},
    {"call rel32", kNone, "e8 00 00 00 00", "instruction at 0"},
    {"call reg", kNone, "ff d0", "instruction at 0"},
    {"call through the context", kNone, "65 ff 14 25 TRP", "instruction at 0; context-load at 0"},
    {"call far", kNone, "ff 18", "instruction at 0"},
    {"mov ds, ax", kNone, "8e d8", "instruction at 0"},
    {"mov eax, gs", kNone, "8c e8", "instruction at 0"},
    {"pop fs", kNone, "0f a1", "instruction at 0"},
    {"lgs", kNone, "0f b5 00", "instruction at 0"},
    {"mov cr0, rax", kNone, "0f 22 c0", "instruction at 0"},
    {"hlt", kNone, "f4", "instruction at 0"},
    {"in", kNone, "ec", "instruction at 0"},
    {"outsb", kNone, "6e", "instruction at 0"},
    {"cli", kNone, "fa", "instruction at 0"},
    {"rdpmc", kNone, "0f 33", "instruction at 0"},
    {"rdmsr", kNone, "0f 32", "instruction at 0"},
    {"lidt", kNone, "0f 01 18", "instruction at 0"},
    {"swapgs", kNone, "0f 01 f8", "instruction at 0"},
    {"vmcall", kNone, "0f 01 c1", "instruction at 0"},
    {"vmfunc", kNone, "0f 01 d4", "instruction at 0"},
    {"enclu", kNone, "0f 01 d7", "instruction at 0"},
    {"xbegin", kNone, "c7 f8 00 00 00 00", "instruction at 0"},
    {"uiret", kNone, "f3 0f 01 ec", "instruction at 0"},
    {"wrgsbase", kNone, "f3 48 0f ae d8", "instruction at 0"},
    {"rdgsbase", kNone, "f3 48 0f ae c8", "instruction at 0"},
    {"wrfsbase is the guest's", kNone, "f3 48 0f ae d0"},
    {"no instruction", kNone, "06", "decode at 0"},
    {"jump into an instruction", kNone, "eb 01 48 89 c8", "jump-target at 0"},
    {"jump over an instruction", kNone, "eb 03 48 89 c8"},
    {"jump back", kNone, "90 eb fd", "jump-target at 1"},
    {"jump far ahead", kNone, "eb 7f", "jump-target at 0"},
    {"jump in front of the code", kNone, "74 f0", "jump-target at 0"},
    {"rel32 that is no exit", kNone, "0f 84 00 10 00 00", "jump-target at 0"},
    {"jump with an operand size prefix", kNone, "66 e9 00 00 00 00", "jump-prefix at 0"},
    {"jump with REPNE", kNone, "f2 74 00", "jump-prefix at 0"},
    {"jmp reg", kNone, "ff e0", "indirect-jump at 0"},
    {"jmp [reg]", kNone, "ff 20", "indirect-jump at 0"},
    {"jmp [context], no exit pointer", kNone, "65 ff 24 25 RIP", "indirect-jump at 0"},
    {"jmp far [context]", kNone, "65 48 ff 2c 25 TRP", "indirect-jump at 0"},
    {"jmp [fs] where the context is GS", kNone, "64 ff 24 25 TRP", "indirect-jump at 0"},
    {"lookup", kNone, "41 0f b7 cb 65 ff 24 cd TAB"},
    {"lookup of 32 bits", kNone, "44 89 d9 65 ff 24 cd TAB", "indirect-jump at 3"},
    {"lookup by another register", kNone, "41 0f b7 ca 65 ff 24 cd TAB", "indirect-jump at 4"},
    {"lookup in the second table", kNone, "41 0f b7 cb 65 ff 24 cd SEC", "indirect-jump at 4"},
    {"lookup behind something else", kNone, "41 0f b7 cb 48 ff c1 65 ff 24 cd TAB",
     "indirect-jump at 7"},
    {"lookup that is jumped to", kNone, "74 04 41 0f b7 cb 65 ff 24 cd TAB", "indirect-jump at 6"},
    {"getpid", kNone, "b8 27 00 00 00 0f 05"},
    {"fork", kNone, "b8 39 00 00 00 0f 05", "syscall at 5"},
    {"syscall without a number", kNone, "48 89 c8 0f 05", "syscall at 3"},
    {"syscall with a number of 64 bits", kNone, "48 c7 c0 27 00 00 00 0f 05", "syscall at 7"},
    {"syscall that is jumped to", kNone, "74 05 b8 27 00 00 00 0f 05", "syscall at 7"},
    {"xrstor under none", kNone, "0f ae 28"},
    {"xrstor under pku", kPku, "0f ae 28", "pkru at 0"},
    {"xrstor under pku, masked wrongly", kPku, "25 ff ff ff ff 0f ae 28", "pkru at 5"},
    {"xrstor under pku, masked", kPku, "25 ff fd ff ff 0f ae 28"},
    {"xrstor under pku, masking jumped over", kPku, "74 05 25 ff fd ff ff 0f ae 28", "pkru at 7"},
    {"wrpkru under pku", kPku, "0f 01 ef", "instruction at 0"},
    {"anything in memory under pku", kPku, "48 8b 04 c8 f3 a4"},
};

// ---- mask ---------------------------------------------------------------------------------------

// pdep rax, rax, gs:[mask]; the same of rsp, rbp, rdi, rsi.
#define CONFINE_RAX "65 c4 e2 fb f5 04 25 MSK "
#define CONFINE_RSP "65 c4 e2 db f5 24 25 MSK "
#define CONFINE_RBP "65 c4 e2 d3 f5 2c 25 MSK "
#define CONFINE_RDI "65 c4 e2 c3 f5 3c 25 MSK "
#define CONFINE_RSI "65 c4 e2 cb f5 34 25 MSK "

const Row kUnderMask[] = {
    {"registers only", kMask, "48 01 c8 0f af c1"},
    {"load through a register", kMask, "48 8b 08", "operand at 0"},
    {"load through a confined one", kMask, CONFINE_RAX "48 8b 48 10"},
    {"store through a confined one, twice", kMask, CONFINE_RAX "48 89 48 10 48 89 48 18"},
    {"confined, then written", kMask, CONFINE_RAX "48 01 c8 48 8b 08", "operand at 14"},
    {"confined, then its low byte written", kMask, CONFINE_RAX "b0 01 48 8b 08", "operand at 13"},
    {"confined, then written implicitly", kMask, CONFINE_RAX "48 f7 e1 48 8b 08", "operand at 14"},
    {"confined, then loaded from a slot", kMask, CONFINE_RAX "65 48 8b 04 25 SCR 48 8b 08",
     "operand at 20"},
    {"confined, spilled and reloaded", kMask,
     CONFINE_RAX "65 48 89 04 25 SCR 48 89 c8 65 48 8b 04 25 SCR 48 8b 08"},
    {"confined, spilled and reloaded from another slot", kMask,
     CONFINE_RAX "65 48 89 04 25 SCR 65 48 8b 04 25 RCX 48 8b 08", "operand at 29"},
    {"confined, spilled, half overwritten and reloaded", kMask,
     CONFINE_RAX "65 48 89 04 25 SCR 65 89 0c 25 SCR 65 48 8b 04 25 SCR 48 8b 08", "operand at 37"},
    {"confined, spilled on one way and reloaded", kMask,
     CONFINE_RAX "74 09 65 48 89 04 25 SCR 65 48 8b 04 25 SCR 48 8b 08", "operand at 31"},
    {"confined, then written if it happens", kMask, CONFINE_RAX "48 0f 44 c1 48 8b 08",
     "operand at 15"},
    {"confined, then exchanged", kMask, CONFINE_RAX "48 91 48 8b 08", "operand at 13"},
    {"confined, then overwritten by a call", kMask,
     "65 c4 e2 f3 f5 0c 25 MSK b8 27 00 00 00 0f 05 48 8b 01", "operand at 18"},
    {"confined on one way only", kMask, "74 0b " CONFINE_RAX "48 8b 08", "operand at 13"},
    {"confined on both ways", kMask, CONFINE_RAX "74 04 48 83 c0 10 48 8b 08"},
    {"the mask from another slot", kMask, "65 c4 e2 fb f5 04 25 SCR 48 8b 08", "operand at 11"},
    {"the mask from the guest's memory", kMask, "c4 e2 fb f5 04 25 MSK 48 8b 08", "operand at 10"},
    {"PEXT does not confine", kMask, "65 c4 e2 fa f5 04 25 MSK 48 8b 08", "operand at 11"},
    {
        "PDEP of 32 bits does not",
        kMask,
        "65 c4 e2 7b f5 04 25 MSK 48 8b 08",
        "operand at 11",
    },
    {"index register", kMask, CONFINE_RAX "48 8b 0c 08", "operand at 11"},
    {"index register alone", kMask, "48 8b 0c cd 00 00 00 00", "operand at 0"},
    {"lea of anything, nop of anything, prefetch of anything", kMask,
     "48 8d 04 c8 0f 1f 44 00 00 0f 18 0c c8"},
    {"[disp32]", kMask, "48 8b 04 25 00 00 40 00"},
    {"[disp32], negative", kMask, "48 8b 04 25 00 00 00 80"},
    {"[disp64] of the user half", kMask, "48 a1 00 00 00 00 00 20 00 00"},
    {"[disp64]", kMask, "48 a1 00 00 00 00 00 40 00 00", "operand at 0"},
    {"32-bit address", kMask, "67 48 8b 04 c8"},
    {"relative to RIP", kMask, "48 8b 05 00 00 00 00", "operand at 0"},
    {"fs:[disp32]", kMask, "64 48 8b 04 25 f8 ff ff ff"},
    {"fs:[reg]", kMask, CONFINE_RAX "64 48 8b 08", "operand at 11"},
    {"fs:[32-bit address]", kMask, "67 64 48 8b 04 c8"},
    {"wrfsbase", kMask, "f3 48 0f ae d0", "instruction at 0"},
    {"a constant", kMask, "48 b8 00 00 00 00 55 55 00 00 48 8b 08", "operand at 10"},
    {"a constant of the user half", kMask, "48 b8 00 00 00 00 55 15 00 00 48 8b 08"},
    {"a constant of 32 bits", kMask, "b8 00 00 00 f0 48 8b 08"},
    {"a negative constant", kMask, "48 c7 c0 00 00 00 80 48 8b 08", "operand at 7"},
    {"a copy", kMask, CONFINE_RAX "48 89 c1 48 8b 09"},
    {"a copy of 32 bits", kMask, CONFINE_RAX "89 c1 48 8b 09", "operand at 13"},
    {"moved by constants", kMask, CONFINE_RAX "48 8d 48 40 48 81 e9 00 10 00 00 48 ff c1 48 8b 09"},
    {"moved by seven steps of 2 GiB and one more", kMask,
     CONFINE_RAX
     "48 05 ff ff ff 7f 48 05 ff ff ff 7f 48 05 ff ff ff 7f 48 05 ff ff ff 7f 48 05 ff ff ff 7f "
     "48 05 ff ff ff 7f 48 05 ff ff ff 7f 48 8b 08 48 05 ff ff ff 7f 48 8b 08",
     "operand at 62"},
    {"moved by a register", kMask, CONFINE_RAX "48 8d 04 08 48 8b 08", "operand at 15"},
    {"aligned", kMask, CONFINE_RAX "48 83 e0 f0 48 8b 08"},
    {"aligned without having been confined", kMask, "48 83 e0 f0 48 8b 08", "operand at 4"},
    {"masked to what is small", kMask, "48 25 ff ff ff 7f 48 8b 08"},
    {"masked by a register", kMask, CONFINE_RAX "48 21 c8 48 8b 08", "operand at 14"},
    {"string", kMask, CONFINE_RDI CONFINE_RSI "f3 48 a5"},
    {"string, only RDI", kMask, CONFINE_RDI "f3 48 a5", "operand at 11"},
    {"string, only RSI", kMask, CONFINE_RSI "f3 48 a5", "operand at 11"},
    {"string twice", kMask, CONFINE_RDI "aa aa", "operand at 12"},
    {"string of 32-bit addresses", kMask, "67 f3 48 a5"},
    {"string out of FS", kMask, CONFINE_RDI CONFINE_RSI "64 a4", "operand at 22"},
    {"maskmovdqu", kMask, "66 0f f7 c1", "operand at 0"},
    {"clzero", kMask, "0f 01 fc", "operand at 0"},
    {"clzero, confined", kMask, CONFINE_RAX "0f 01 fc"},
    {"monitorx", kMask, "0f 01 fa", "operand at 0"},
    {"loadiwkey", kMask, "f3 0f 38 dc c1", "instruction at 0"},
    {"umonitor", kMask, "f3 0f ae f0", "operand at 0"},
    {"enqcmd, source confined only", kMask, CONFINE_RAX "f2 0f 38 f8 08", "operand at 11"},
    {"movdir64b, source confined only", kMask, CONFINE_RAX "66 0f 38 f8 08", "operand at 11"},
    {"xlat", kMask, "d7", "operand at 0"},
    {"gather of 32-bit indices", kMask, CONFINE_RAX "c4 e2 f1 92 04 50"},
    {"gather of 32-bit indices, any base", kMask, "c4 e2 f1 92 04 50", "operand at 0"},
    {"gather of 64-bit indices", kMask, CONFINE_RAX "c4 e2 f1 93 04 50", "operand at 11"},
    {"tile load", kMask, CONFINE_RAX "c4 e2 7b 4b 04 08", "operand at 11"},
    {"bit number in a 64-bit register", kMask, CONFINE_RAX "48 0f ab 08", "operand at 11"},
    {"bit number in a 32-bit register", kMask, CONFINE_RAX "0f ab 08"},
    {"bit number that is small", kMask, CONFINE_RAX "83 e1 3f 48 0f ab 08"},
    {"bit number by PEXT", kMask, CONFINE_RAX "65 c4 e2 f2 f5 0c 25 BIT 48 0f ab 08"},
    {"bit number by PEXT with another mask", kMask,
     CONFINE_RAX "65 c4 e2 f2 f5 0c 25 MSK 48 0f ab 08", "operand at 22"},
    {"bit number in an immediate", kMask, CONFINE_RAX "48 0f ba 28 05"},
    {"bit number, 32-bit address", kMask, "67 48 0f ab 08"},
    {"push and pop", kMask, "50 59 ff 34 25 00 00 40 00 9c 9d"},
    {"RSP from a register", kMask, "48 89 c4", "rsp at 3"},
    {"RSP from a register, confined", kMask, "48 89 c4 " CONFINE_RSP},
    {"RSP from a register, then a push", kMask, "48 89 c4 50", "operand at 3; rsp at 4"},
    {"RSP from a register, then a push with 67", kMask, "48 89 c4 67 50", "operand at 3; rsp at 5"},
    {"RSP moved too far", kMask, "48 81 ec 01 00 02 00", "rsp at 7"},
    {"RSP moved and moved", kMask, "48 81 ec 00 00 01 00 48 81 ec 00 00 01 00", "rsp at 14"},
    {"RSP moved, accessed, moved", kMask,
     "48 81 ec 00 00 01 00 48 89 04 24 48 81 ec 00 00 01 00 48 83 ec 08 48 89 44 24 08"},
    {"accessed, but masked", kMask,
     "48 81 ec 00 00 01 00 62 f1 7c 49 11 04 24 48 81 ec 00 00 01 00", "rsp at 21"},
    {"accessed, but as it may be", kMask,
     "48 81 ec 00 00 01 00 c4 e2 7d 2e 04 24 48 81 ec 00 00 01 00", "rsp at 20"},
    {"accessed far away by a bit number", kMask,
     "48 81 ec 00 00 01 00 0f ab 04 24 48 81 ec 00 00 01 00", "rsp at 18"},
    {"accessed by an x87 store, whose exception may not be masked", kMask,
     "48 81 ec 00 00 01 00 db 3c 24 48 81 ec 00 00 01 00", "rsp at 17"},
    {"accessed by an x87 load", kMask, "48 81 ec 00 00 01 00 db 2c 24 48 81 ec 00 00 01 00"},
    {"an address there, but no access", kMask,
     "48 81 ec 00 00 01 00 48 8d 04 24 48 81 ec 00 00 01 00", "rsp at 18"},
    {"accessed by CMOV", kMask, "48 81 ec 00 00 01 00 48 0f 44 04 24 48 81 ec 00 00 01 00"},
    {"RSP moved far, then proved", kMask, "48 81 ec 00 00 10 00 48 83 0c 24 00"},
    {"RSP aligned", kMask, "50 48 83 e4 f0 48 81 e4 00 f0 ff ff"},
    {"RSP aligned too much", kMask, "50 48 81 e4 00 00 00 80", "rsp at 8"},
    {"pop rsp", kMask, "5c", "rsp at 1"},
    {"RSP unconfined at a side exit in between", kMask,
     "48 89 c4 74 08 65 ff 24 25 TRP " CONFINE_RSP, "rsp at 5"},
    {"leave", kMask, "c9", "operand at 0; rsp at 1"},
    {"leave, confined", kMask, CONFINE_RBP "c9"},
    {"enter", kMask, "c8 10 00 00"},
    {"enter of level 1, which reads no other frame", kMask, "c8 10 00 01"},
    {"enter of level 2", kMask, "c8 10 00 02", "operand at 0"},
    {"enter of level 33, which is 1", kMask, "c8 10 00 21"},
    {"enter with much room, and more", kMask, "c8 ff ff 00 48 81 ec 00 00 01 00 50"},
    {"enter with much room, and too much more", kMask, "c8 ff ff 00 48 81 ec 00 08 01 00",
     "rsp at 11"},
    {"xrstor is no matter here", kMask, CONFINE_RAX "0f ae 28"},
};

const Row kUnderMaskWrites[] = {
    {"load of anything", kMaskWrites, "48 8b 04 c8 64 48 8b 03 d7 48 0f a3 08 48 ac"},
    {"store to anything", kMaskWrites, "48 89 08", "operand at 0"},
    {"store, confined", kMaskWrites, CONFINE_RAX "48 89 08"},
    {"read and write", kMaskWrites, "48 01 08", "operand at 0"},
    {"compare and exchange", kMaskWrites, "f0 48 0f b1 0b", "operand at 0"},
    {"exchange with a bit", kMaskWrites, CONFINE_RAX "48 0f ab 08", "operand at 11"},
    {"string to RDI", kMaskWrites, "f3 48 a5", "operand at 0"},
    {"string to RDI, confined", kMaskWrites, CONFINE_RDI "f3 48 a5"},
    {"string compare", kMaskWrites, "f3 a6"},
    {"scatter", kMaskWrites, "62 f2 7d 49 a2 04 50", "operand at 0"},
    {"masked store", kMaskWrites, "c4 e2 7d 2e 00", "operand at 0"},
    {"xsave", kMaskWrites, "0f ae 20", "operand at 0"},
    {"clzero", kMaskWrites, "0f 01 fc", "operand at 0"},
    {"set on condition", kMaskWrites, "0f 94 00", "operand at 0"},
    {"RSP from a register", kMaskWrites, "48 89 c4", "rsp at 3"},
    {"leave reads, and RSP is anywhere", kMaskWrites, "c9", "rsp at 1"},
    {"wrfsbase", kMaskWrites, "f3 48 0f ae d0", "instruction at 0"},
};

// ---- seg ----------------------------------------------------------------------------------------

const Row kUnderSeg[] = {
    {"gs:[32 bits]", kSeg, "67 65 48 8b 04 c8 67 65 48 89 04 25 00 00 00 80"},
    {"gs:[64 bits]", kSeg, "65 48 8b 03", "operand at 0"},
    {"32 bits without GS", kSeg, "67 48 8b 03", "operand at 0"},
    {"[disp32]", kSeg, "48 8b 04 25 00 00 40 00", "operand at 0"},
    {"[reg]", kSeg, "48 8b 03", "operand at 0"},
    {"relative to RIP", kSeg, "48 8b 05 00 00 00 00", "operand at 0"},
    {"spill and reload", kSeg, "64 48 89 0c 25 RCX 64 48 8b 0c 25 RCX"},
    {"context and a base", kSeg, "64 48 8b 03", "context at 0"},
    {"store to an exit pointer", kSeg, "64 48 89 0c 25 TRP", "context-store at 0"},
    {"push and pop", kSeg, "50 59 67 65 ff 33 67 65 8f 03"},
    {"RSP from a register", kSeg, "48 89 c4", "rsp at 3"},
    {"string", kSeg, "f3 48 a5", "operand at 0"},
    {"string from GS, to anywhere", kSeg, "67 65 a4", "operand at 0"},
    {"gather", kSeg, "67 65 c4 e2 f1 93 04 50"},
    {"clzero", kSeg, "0f 01 fc", "operand at 0"},
    {"clzero, cut and through GS", kSeg, "67 65 0f 01 fc"},
    {"clzero, cut and through FS", kSeg, "67 64 0f 01 fc", "operand at 0"},
    {"maskmovdqu, cut and through GS", kSeg, "67 65 66 0f f7 c1"},
    {"[rsp + disp]", kSeg, "48 8b 44 24 10 48 89 84 24 00 00 01 00"},
    {"[rsp + disp], too far", kSeg, "48 89 84 24 00 00 02 00", "operand at 0"},
    {"[rsp + index]", kSeg, "48 89 04 04", "operand at 0"},
    {"mask under seg", kSeg, "64 c4 e2 fb f5 04 25 MSK 48 8b 08", "operand at 11"},
    {"string, registers made host addresses", kSeg,
     "64 48 8b 04 25 BAS 89 f6 48 8d 34 06 89 ff 48 8d 3c 07 f3 48 a5"},
    {"string, a register of 64 bits and the base", kSeg, "64 48 8b 04 25 BAS 48 8d 3c 07 f3 48 ab",
     "operand at 13"},
    {"explicit operand through a host address", kSeg,
     "64 48 8b 04 25 BAS 89 ff 48 8d 3c 07 48 8b 07", "operand at 15"},
    {"RSP from a register", kSeg, "64 48 8b 04 25 BAS 89 cc 48 8d 24 04"},
    {"RSP from a register of 64 bits", kSeg, "64 48 8b 04 25 BAS 48 89 cc 48 8d 24 04",
     "rsp at 16"},
    {"lookup", kSeg, "41 0f b7 cb 64 ff 24 cd TAB"},
    {"lookup through GS", kSeg, "41 0f b7 cb 65 ff 24 cd TAB", "indirect-jump at 4"},
    {"rdfsbase", kSeg, "f3 48 0f ae c0", "instruction at 0"},
    {"wrfsbase", kSeg, "f3 48 0f ae d0", "instruction at 0"},
};

void CheckRows(std::span<const Row> rows) {
  for (const Row& row : rows) EXPECT_EQ(VerdictOf(row), row.verdict) << row.name;
}

TEST(Checker, RulesForAll) { CheckRows(kForAll); }
TEST(Checker, Mask) { CheckRows(kUnderMask); }
TEST(Checker, MaskWrites) { CheckRows(kUnderMaskWrites); }
TEST(Checker, Seg) { CheckRows(kUnderSeg); }

// ---- entries and exits --------------------------------------------------------------------------

constexpr std::string_view kExit = "e9 00 00 00 00";

Code WithExits(std::string_view text, std::vector<record::Exit> exits) {
  Code code = CodeOf(kMask, text);
  code.exits = std::move(exits);
  return code;
}

TEST(CheckerExits, AJumpThatIsListedMayLeadOut) {
  EXPECT_EQ(Verdict(WithExits(kExit, {{1, 0, 0x40'2000}})), "");
  EXPECT_EQ(Verdict(WithExits("0f 84 00 00 00 00 e9 00 00 00 00", {{2, 0, 1}, {7, 0, 2}})), "");
}

TEST(CheckerExits, OneThatIsNotListedMayNot) {
  EXPECT_EQ(Verdict(WithExits("e9 00 10 00 00", {})), "jump-target at 0");
  EXPECT_EQ(Verdict(WithExits(kExit, {})), "jump-target at 0");
}

TEST(CheckerExits, AListedOneIsAJumpOfFourBytes) {
  EXPECT_EQ(Verdict(WithExits("e9 00 00 00 00", {{0, 0, 1}, {1, 0, 1}})), "exit-site at 0");
  EXPECT_EQ(Verdict(WithExits("eb 00 65 ff 24 25 TRP", {{1, 0, 1}})), "exit-site at 0");
  EXPECT_EQ(Verdict(WithExits("b8 00 00 00 00 65 ff 24 25 TRP", {{1, 0, 1}})), "exit-site at 1");
}

TEST(CheckerExits, OneStoreSetsItsFourBytes) {
  Code code = WithExits(kExit, {{1, 0, 1}});
  code.header.host += 12;
  EXPECT_EQ(Verdict(code), "exit-site at 1");
}

TEST(CheckerExits, RspIsConfinedAtEachOfThem) {
  EXPECT_EQ(Verdict(WithExits("48 89 c4 e9 00 00 00 00", {{4, 0, 1}})), "rsp at 3");
}

TEST(CheckerExits, NothingFallsOut) {
  EXPECT_EQ(Verdict(CodeOf(kNone, "48 89 c8")), "fall-out at 0");
  EXPECT_EQ(Verdict(CodeOf(kNone, "74 08 65 ff 24 25 TRP 74 f6")), "fall-out at 10");
  EXPECT_EQ(Verdict(CodeOf(kNone, "")), "decode at 0");
  EXPECT_EQ(Verdict(CodeOf(kNone, "65 ff 24 25 TRP 48")), "decode at 8");
}

TEST(CheckerExits, AnExitStub) {
  Code code = CodeOf(kMask, "65 c7 04 25 LNK 07 00 00 00 65 ff 24 25 TLK");
  code.header.kind = record::Kind::kExitStub;
  EXPECT_EQ(Verdict(code), "");
}

constexpr std::string_view kByLoop =
    "65 ff 24 25 TLO 49 8d 8b 01 f0 bf ff e2 ef 48 01 c8 65 ff 24 25 TRP";

TEST(CheckerEntries, LoopGoesBackToTheMiss) {
  Code code = CodeOf(kMask, kByLoop);
  code.header.entry = 8;
  EXPECT_EQ(Verdict(code), "");
}

TEST(CheckerEntries, AnEntryIsAnInstruction) {
  Code code = CodeOf(kMask, kByLoop);
  code.header.entry = 9;
  EXPECT_EQ(Verdict(code), "entry at 9");
}

TEST(CheckerEntries, NothingElseLeadsBack) {
  Code code = CodeOf(kMask, "48 8b 08 e2 fb 65 ff 24 25 TRP");
  code.header.entry = 3;
  EXPECT_EQ(Verdict(code), "jump-target at 3");
  Code lookup = CodeOf(kNone, "41 0f b7 cb 65 ff 24 cd TAB e2 f6 65 ff 24 25 TRP");
  lookup.header.entry = 12;
  EXPECT_EQ(Verdict(lookup), "indirect-jump at 4; jump-target at 12");
}

TEST(CheckerEntries, ASystemCallBehindTheEntryHasNoNumber) {
  Code code = CodeOf(kNone, "b8 27 00 00 00 0f 05 65 ff 24 25 TRP");
  code.header.entry = 5;
  EXPECT_EQ(Verdict(code), "syscall at 5");
  code.header.entry = 0;
  code.header.flags = record::kIsSingle;
  EXPECT_EQ(Verdict(code), "syscall at 5");
}

TEST(CheckerEntries, WhatCannotBeReachedIsNoHarmButHasToBeCode) {
  EXPECT_EQ(Verdict(CodeOf(kMask, "65 ff 24 25 TRP 48 8b 08 65 ff 24 25 TRP")), "");
  EXPECT_EQ(Verdict(CodeOf(kMask, "65 ff 24 25 TRP 0f 01 ef 65 ff 24 25 TRP")), "instruction at 8");
}

// ---- records ------------------------------------------------------------------------------------

std::vector<std::uint8_t> Recorded() {
  record::Header header{.magic = record::kMagic,
                        .size = sizeof(record::Header) + sizeof(record::Exit) + 8,
                        .kind = record::Kind::kDirectBlock,
                        .isolation = Isolation::kMask,
                        .pc = 0x40'1000,
                        .code_size = 5,
                        .exits = 1};
  const record::Exit exit{.offset = 1, .zero = 0, .target = 0x40'2000};
  std::vector<std::uint8_t> bytes(header.size);
  std::memcpy(bytes.data(), &header, sizeof(header));
  std::memcpy(bytes.data() + sizeof(header), &exit, sizeof(exit));
  bytes[sizeof(header) + sizeof(exit)] = 0xe9;
  return bytes;
}

TEST(Records, AreReadOneByOne) {
  std::vector<std::uint8_t> bytes = Recorded();
  const std::vector<std::uint8_t> second = Recorded();
  bytes.insert(bytes.end(), second.begin(), second.end());
  Reader reader(bytes);
  for (int i = 0; i < 2; ++i) {
    const std::optional<Code> code = reader.Next();
    ASSERT_TRUE(code.has_value());
    EXPECT_EQ(code->exits.at(0).target, 0x40'2000u);
    EXPECT_EQ(Verdict(*code), "");
  }
  EXPECT_FALSE(reader.Next().has_value());
  EXPECT_EQ(reader.error(), "");
}

TEST(Records, DamageIsAnError) {
  std::vector<std::uint8_t> bytes = Recorded();
  bytes.pop_back();
  Reader cut(bytes);
  EXPECT_FALSE(cut.Next().has_value());
  EXPECT_EQ(cut.error(), "the last record is cut off");
  for (const std::size_t damaged : {0u, 9u, 44u}) {
    bytes = Recorded();
    bytes[damaged] ^= 0x80;
    Reader reader(bytes);
    const bool is_read = reader.Next().has_value();
    EXPECT_EQ(is_read, damaged == 44u) << damaged;
  }
}

}  // namespace
}  // namespace dunebox::checker
