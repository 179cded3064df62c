#include "tests/security/checker/rules.h"

#include <algorithm>

namespace dunebox::checker {
namespace {

constexpr std::array<std::int64_t, 4> kSpillSlots = {JIT_SLOT_RCX, JIT_SLOT_R11, JIT_SLOT_SCRATCH0,
                                                     JIT_SLOT_SCRATCH1};

constexpr Slot kStorable[] = {
    {JIT_SLOT_RCX, 8},      {JIT_SLOT_R11, 8}, {JIT_SLOT_SCRATCH0, 8},
    {JIT_SLOT_SCRATCH1, 8}, {JIT_RIP, 8},      {JIT_LINK, 4},
    {JIT_CHECKS_LEFT, 8},
};

constexpr Slot kLoadable[] = {
    {JIT_SLOT_RCX, 8},       {JIT_SLOT_R11, 8},          {JIT_SLOT_SCRATCH0, 8},
    {JIT_SLOT_SCRATCH1, 8},  {JIT_FS_BASE, 8},           {JIT_GS_BASE, 8},
    {JIT_CONFINING_MASK, 8}, {JIT_BIT_PLACE_16, 8},      {JIT_BIT_PLACE_32, 8},
    {JIT_BIT_PLACE_64, 8},   {JIT_CHECKS_LEFT, 8},
    {JIT_WINDOW_BASE, 8},    {JIT_MINUS_WINDOW_BASE, 8},
};

constexpr std::int64_t kExitPointers[] = {JIT_TO_LINK,    JIT_TO_LOOKUP, JIT_TO_SYSCALL,
                                          JIT_TO_EMULATE, JIT_TO_TRAP,   JIT_TO_STALE,
                                          JIT_TO_EXIT_LOOKUP};

struct BitsRow {
  std::int64_t displacement;
  unsigned bits;
};
constexpr BitsRow kExtracted[] = {
    {JIT_BIT_PLACE_16, 4}, {JIT_BIT_PLACE_32, 5}, {JIT_BIT_PLACE_64, 6}};

// sched_yield getpid getuid getgid geteuid getegid getppid getpgrp setsid vhangup sync gettid
// inotify_init: no arguments, forwarded as they are. Written down once more on purpose.
constexpr std::uint64_t kInPlace[] = {24,  39,  102, 104, 107, 108, 110,
                                      111, 112, 153, 162, 186, 253};

// All of a category, but for the mnemonics below.
constexpr ZydisInstructionCategory kAllowedCategories[] = {
    ZYDIS_CATEGORY_ADOX_ADCX,
    ZYDIS_CATEGORY_AES,
    ZYDIS_CATEGORY_AMD3DNOW,
    ZYDIS_CATEGORY_AMX_TILE,
    ZYDIS_CATEGORY_AVX,
    ZYDIS_CATEGORY_AVX2,
    ZYDIS_CATEGORY_AVX2GATHER,
    ZYDIS_CATEGORY_AVX512,
    ZYDIS_CATEGORY_AVX512_4FMAPS,
    ZYDIS_CATEGORY_AVX512_4VNNIW,
    ZYDIS_CATEGORY_AVX512_BITALG,
    ZYDIS_CATEGORY_AVX512_VBMI,
    ZYDIS_CATEGORY_AVX512_VP2INTERSECT,
    ZYDIS_CATEGORY_BINARY,
    ZYDIS_CATEGORY_BITBYTE,
    ZYDIS_CATEGORY_BLEND,
    ZYDIS_CATEGORY_BMI1,
    ZYDIS_CATEGORY_BMI2,
    ZYDIS_CATEGORY_BROADCAST,
    ZYDIS_CATEGORY_CLDEMOTE,
    ZYDIS_CATEGORY_CLFLUSHOPT,
    ZYDIS_CATEGORY_CLWB,
    ZYDIS_CATEGORY_CLZERO,
    ZYDIS_CATEGORY_CMOV,
    ZYDIS_CATEGORY_COMPRESS,
    ZYDIS_CATEGORY_CONFLICT,
    ZYDIS_CATEGORY_CONVERT,
    ZYDIS_CATEGORY_DATAXFER,
    ZYDIS_CATEGORY_ENQCMD,
    ZYDIS_CATEGORY_EXPAND,
    ZYDIS_CATEGORY_FCMOV,
    ZYDIS_CATEGORY_FLAGOP,
    ZYDIS_CATEGORY_FMA4,
    ZYDIS_CATEGORY_FP16,
    ZYDIS_CATEGORY_GATHER,
    ZYDIS_CATEGORY_GFNI,
    ZYDIS_CATEGORY_IFMA,
    ZYDIS_CATEGORY_KEYLOCKER,
    ZYDIS_CATEGORY_KEYLOCKER_WIDE,
    ZYDIS_CATEGORY_KMASK,
    ZYDIS_CATEGORY_LOGICAL,
    ZYDIS_CATEGORY_LOGICAL_FP,
    ZYDIS_CATEGORY_LZCNT,
    ZYDIS_CATEGORY_MMX,
    ZYDIS_CATEGORY_MOVDIR,
    ZYDIS_CATEGORY_NOP,
    ZYDIS_CATEGORY_PCLMULQDQ,
    ZYDIS_CATEGORY_POP,
    ZYDIS_CATEGORY_PREFETCH,
    ZYDIS_CATEGORY_PREFETCHWT1,
    ZYDIS_CATEGORY_PT,
    ZYDIS_CATEGORY_PUSH,
    ZYDIS_CATEGORY_RDPID,
    ZYDIS_CATEGORY_RDPRU,
    ZYDIS_CATEGORY_RDRAND,
    ZYDIS_CATEGORY_RDSEED,
    ZYDIS_CATEGORY_ROTATE,
    ZYDIS_CATEGORY_SCATTER,
    ZYDIS_CATEGORY_SEMAPHORE,
    ZYDIS_CATEGORY_SERIALIZE,
    ZYDIS_CATEGORY_SETCC,
    ZYDIS_CATEGORY_SHA,
    ZYDIS_CATEGORY_SHIFT,
    ZYDIS_CATEGORY_SSE,
    ZYDIS_CATEGORY_STRINGOP,
    ZYDIS_CATEGORY_STTNI,
    ZYDIS_CATEGORY_TBM,
    ZYDIS_CATEGORY_TSX_LDTRK,
    ZYDIS_CATEGORY_UFMA,
    ZYDIS_CATEGORY_VAES,
    ZYDIS_CATEGORY_VBMI2,
    ZYDIS_CATEGORY_VEX,
    ZYDIS_CATEGORY_VFMA,
    ZYDIS_CATEGORY_VPCLMULQDQ,
    ZYDIS_CATEGORY_WAITPKG,
    ZYDIS_CATEGORY_WIDENOP,
    ZYDIS_CATEGORY_X87_ALU,
    ZYDIS_CATEGORY_XOP,
    ZYDIS_CATEGORY_XSAVE,
    ZYDIS_CATEGORY_XSAVEOPT,
};

// Of the categories that are not allowed as a whole.
constexpr ZydisMnemonic kAllowedMnemonics[] = {
    ZYDIS_MNEMONIC_MONITORX, ZYDIS_MNEMONIC_MWAITX,  ZYDIS_MNEMONIC_LAR,
    ZYDIS_MNEMONIC_LSL,      ZYDIS_MNEMONIC_VERR,    ZYDIS_MNEMONIC_VERW,
    ZYDIS_MNEMONIC_CLFLUSH,  ZYDIS_MNEMONIC_ENDBR32, ZYDIS_MNEMONIC_ENDBR64,
    ZYDIS_MNEMONIC_ENTER,    ZYDIS_MNEMONIC_LEA,     ZYDIS_MNEMONIC_LEAVE,
    ZYDIS_MNEMONIC_LFENCE,   ZYDIS_MNEMONIC_MFENCE,  ZYDIS_MNEMONIC_PAUSE,
    ZYDIS_MNEMONIC_RDFSBASE, ZYDIS_MNEMONIC_RDTSC,   ZYDIS_MNEMONIC_RDTSCP,
    ZYDIS_MNEMONIC_RDSSPD,   ZYDIS_MNEMONIC_RDSSPQ,  ZYDIS_MNEMONIC_SFENCE,
    ZYDIS_MNEMONIC_WRFSBASE, ZYDIS_MNEMONIC_XLAT,
};

// Privileged, or what only the runtime may do, in categories that are.
constexpr ZydisMnemonic kRefusedMnemonics[] = {
    ZYDIS_MNEMONIC_LOADIWKEY, ZYDIS_MNEMONIC_CLI,      ZYDIS_MNEMONIC_STI,
    ZYDIS_MNEMONIC_ENQCMDS,   ZYDIS_MNEMONIC_XRSTORS,  ZYDIS_MNEMONIC_XRSTORS64,
    ZYDIS_MNEMONIC_XSAVES,    ZYDIS_MNEMONIC_XSAVES64, ZYDIS_MNEMONIC_XSETBV,
};

constexpr ZydisRegisterClass kRefusedRegisters[] = {
    ZYDIS_REGCLASS_SEGMENT, ZYDIS_REGCLASS_TABLE, ZYDIS_REGCLASS_TEST,
    ZYDIS_REGCLASS_CONTROL, ZYDIS_REGCLASS_DEBUG,
};

constexpr ZydisMnemonic kDirectJumps[] = {
    ZYDIS_MNEMONIC_JMP,   ZYDIS_MNEMONIC_JB,     ZYDIS_MNEMONIC_JBE,   ZYDIS_MNEMONIC_JL,
    ZYDIS_MNEMONIC_JLE,   ZYDIS_MNEMONIC_JNB,    ZYDIS_MNEMONIC_JNBE,  ZYDIS_MNEMONIC_JNL,
    ZYDIS_MNEMONIC_JNLE,  ZYDIS_MNEMONIC_JNO,    ZYDIS_MNEMONIC_JNP,   ZYDIS_MNEMONIC_JNS,
    ZYDIS_MNEMONIC_JNZ,   ZYDIS_MNEMONIC_JO,     ZYDIS_MNEMONIC_JP,    ZYDIS_MNEMONIC_JS,
    ZYDIS_MNEMONIC_JZ,    ZYDIS_MNEMONIC_JRCXZ,  ZYDIS_MNEMONIC_JECXZ, ZYDIS_MNEMONIC_LOOP,
    ZYDIS_MNEMONIC_LOOPE, ZYDIS_MNEMONIC_LOOPNE,
};

constexpr ZydisInstructionCategory kNotAccessing[] = {
    ZYDIS_CATEGORY_NOP,         ZYDIS_CATEGORY_WIDENOP,  ZYDIS_CATEGORY_PREFETCH,
    ZYDIS_CATEGORY_PREFETCHWT1, ZYDIS_CATEGORY_CLDEMOTE,
};

constexpr HiddenAccess kHiddenAccesses[] = {
    {ZYDIS_MNEMONIC_CLZERO, ZYDIS_REGISTER_RAX, true},
    {ZYDIS_MNEMONIC_MONITORX, ZYDIS_REGISTER_RAX, false},
    {ZYDIS_MNEMONIC_ENQCMD, ZYDIS_REGISTER_NONE, true},
    {ZYDIS_MNEMONIC_UMONITOR, ZYDIS_REGISTER_NONE, false},
};

constexpr ZydisMnemonic kDwordIndexed[] = {
    ZYDIS_MNEMONIC_VGATHERDPD,  ZYDIS_MNEMONIC_VGATHERDPS,  ZYDIS_MNEMONIC_VPGATHERDD,
    ZYDIS_MNEMONIC_VPGATHERDQ,  ZYDIS_MNEMONIC_VSCATTERDPD, ZYDIS_MNEMONIC_VSCATTERDPS,
    ZYDIS_MNEMONIC_VPSCATTERDD, ZYDIS_MNEMONIC_VPSCATTERDQ,
};

constexpr ZydisMnemonic kBitStrings[] = {ZYDIS_MNEMONIC_BT, ZYDIS_MNEMONIC_BTS, ZYDIS_MNEMONIC_BTR,
                                         ZYDIS_MNEMONIC_BTC};

// CMOV loads, and shifts by zero and comparisons of empty strings do, too.
constexpr ZydisInstructionCategory kSurelyAccessing[] = {
    ZYDIS_CATEGORY_ADOX_ADCX, ZYDIS_CATEGORY_AES, ZYDIS_CATEGORY_AVX, ZYDIS_CATEGORY_AVX2,
    ZYDIS_CATEGORY_BINARY, ZYDIS_CATEGORY_BITBYTE, ZYDIS_CATEGORY_BMI1, ZYDIS_CATEGORY_BMI2,
    ZYDIS_CATEGORY_BROADCAST, ZYDIS_CATEGORY_CMOV, ZYDIS_CATEGORY_CONVERT, ZYDIS_CATEGORY_DATAXFER,
    ZYDIS_CATEGORY_FMA4, ZYDIS_CATEGORY_GFNI, ZYDIS_CATEGORY_KEYLOCKER,
    ZYDIS_CATEGORY_KEYLOCKER_WIDE, ZYDIS_CATEGORY_KMASK, ZYDIS_CATEGORY_LOGICAL,
    ZYDIS_CATEGORY_LOGICAL_FP, ZYDIS_CATEGORY_LZCNT, ZYDIS_CATEGORY_MMX, ZYDIS_CATEGORY_MOVDIR,
    ZYDIS_CATEGORY_PCLMULQDQ, ZYDIS_CATEGORY_POP, ZYDIS_CATEGORY_PUSH, ZYDIS_CATEGORY_ROTATE,
    ZYDIS_CATEGORY_SEMAPHORE, ZYDIS_CATEGORY_SETCC, ZYDIS_CATEGORY_SHA, ZYDIS_CATEGORY_SHIFT,
    ZYDIS_CATEGORY_SSE, ZYDIS_CATEGORY_STTNI, ZYDIS_CATEGORY_VAES, ZYDIS_CATEGORY_VEX,
    ZYDIS_CATEGORY_VFMA, ZYDIS_CATEGORY_VPCLMULQDQ, ZYDIS_CATEGORY_X87_ALU, ZYDIS_CATEGORY_XOP,
};
constexpr ZydisMnemonic kMaskedMoves[] = {
    ZYDIS_MNEMONIC_MASKMOVQ,   ZYDIS_MNEMONIC_MASKMOVDQU, ZYDIS_MNEMONIC_VMASKMOVDQU,
    ZYDIS_MNEMONIC_VMASKMOVPD, ZYDIS_MNEMONIC_VMASKMOVPS, ZYDIS_MNEMONIC_VPMASKMOVD,
    ZYDIS_MNEMONIC_VPMASKMOVQ,
};

template <typename Table, typename T>
bool IsIn(const Table& table, T value) {
  return std::ranges::find(table, value) != std::end(table);
}

bool NamesRefusedRegister(const Instruction& instruction) {
  return std::ranges::any_of(instruction.operands(), [](const Operand& operand) {
    return IsRegister(operand) && IsIn(kRefusedRegisters, ZydisRegisterGetClass(operand.reg.value));
  });
}

std::string_view WhyRefusedUnder(Isolation isolation, ZydisMnemonic mnemonic) {
  const bool fs_is_confined = IsMask(isolation) || isolation == Isolation::kSeg;
  if (mnemonic == ZYDIS_MNEMONIC_WRFSBASE && fs_is_confined) {
    return "sets the FS base, which the runtime has to look at";
  }
  if (mnemonic == ZYDIS_MNEMONIC_RDFSBASE && isolation == Isolation::kSeg) {
    return "reads where the Context is";
  }
  return {};
}

}  // namespace

std::span<const Slot> LoadableSlots() { return kLoadable; }
std::span<const Slot> StorableSlots() { return kStorable; }
std::span<const std::int64_t, 4> SpillSlots() { return kSpillSlots; }
bool IsExitPointer(std::int64_t displacement) { return IsIn(kExitPointers, displacement); }
std::optional<unsigned> BitsExtractedBy(std::int64_t displacement) {
  const auto* row = std::ranges::find(kExtracted, displacement, &BitsRow::displacement);
  if (row == std::end(kExtracted)) return std::nullopt;
  return row->bits;
}

bool RunsInPlace(std::uint64_t number) { return IsIn(kInPlace, number); }

std::string_view WhyRefused(const Instruction& instruction, Isolation isolation) {
  const ZydisMnemonic mnemonic = instruction.mnemonic();
  const bool is_allowed = IsIn(kAllowedMnemonics, mnemonic) ||
                          (IsIn(kAllowedCategories, instruction.decoded.meta.category) &&
                           !IsIn(kRefusedMnemonics, mnemonic));
  if (!is_allowed) return "is not on the list of instructions";
  if (NamesRefusedRegister(instruction)) return "names a segment or system register";
  return WhyRefusedUnder(isolation, mnemonic);
}

bool IsDirectJump(const Instruction& instruction) {
  return IsIn(kDirectJumps, instruction.mnemonic()) && instruction.decoded.raw.imm[0].is_relative;
}

bool IsConditional(const Instruction& instruction) {
  return instruction.mnemonic() != ZYDIS_MNEMONIC_JMP;
}

bool IsNotAccessed(const Instruction& instruction, const Operand& operand) {
  return operand.mem.type == ZYDIS_MEMOP_TYPE_AGEN ||
         IsIn(kNotAccessing, instruction.decoded.meta.category);
}

std::span<const HiddenAccess> HiddenAccesses() { return kHiddenAccesses; }

bool HasDwordIndices(const Instruction& instruction) {
  return IsIn(kDwordIndexed, instruction.mnemonic());
}

bool IsBitString(const Instruction& instruction) {
  return IsIn(kBitStrings, instruction.mnemonic()) && IsMemory(instruction.all[0]) &&
         IsRegister(instruction.all[1]);
}

// Stores nothing when it raises an exception that is not masked; execution goes on.
bool IsX87Store(const Instruction& instruction) {
  return instruction.decoded.meta.category == ZYDIS_CATEGORY_X87_ALU &&
         std::ranges::any_of(instruction.visible(), [](const Operand& operand) {
           return IsMemory(operand) && MayWrite(operand);
         });
}

bool SurelyAccesses(const Instruction& instruction) {
  const ZydisDecodedInstruction& decoded = instruction.decoded;
  // Gathers, scatters and the like have an opmask.
  if (decoded.encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX) {
    return decoded.avx.mask.reg == ZYDIS_REGISTER_NONE || decoded.avx.mask.reg == ZYDIS_REGISTER_K0;
  }
  return (decoded.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY ||
          decoded.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX) &&
         IsIn(kSurelyAccessing, decoded.meta.category) && !IsIn(kMaskedMoves, instruction.mnemonic()) &&
         !IsBitString(instruction) && !IsX87Store(instruction);
}

}  // namespace dunebox::checker
