#include "tests/unit/jit_decode_oracle.h"

#include <algorithm>
#include <cstdio>
#include <initializer_list>
#include <iterator>

#include "jit-fallback/decode/operand_size.h"

namespace dunebox::jit {
namespace {

// The number of the 64-bit register that `reg` is a part of; -1 when it is no general register.
int GeneralNumber(ZydisRegister reg) {
  switch (ZydisRegisterGetClass(reg)) {
    case ZYDIS_REGCLASS_GPR8:
    case ZYDIS_REGCLASS_GPR16:
    case ZYDIS_REGCLASS_GPR32:
    case ZYDIS_REGCLASS_GPR64:
      return ZydisRegisterGetId(ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg));
    default:
      return -1;
  }
}

bool IsFullWrite(ZydisRegister reg) {
  const ZydisRegisterClass reg_class = ZydisRegisterGetClass(reg);
  return reg_class == ZYDIS_REGCLASS_GPR32 || reg_class == ZYDIS_REGCLASS_GPR64;
}

constexpr ZyanU32 kArithmeticFlags = ZYDIS_CPUFLAG_CF | ZYDIS_CPUFLAG_PF | ZYDIS_CPUFLAG_AF |
                                     ZYDIS_CPUFLAG_ZF | ZYDIS_CPUFLAG_SF | ZYDIS_CPUFLAG_OF;

bool Is(const ZydisDecodedInstruction& theirs, std::initializer_list<ZydisMnemonic> mnemonics) {
  return std::ranges::find(mnemonics, theirs.mnemonic) != mnemonics.end();
}

// What both decoders said; `theirs` is stale when Zydis found no instruction.
struct Case {
  std::string_view difference;
  std::span<const std::uint8_t> bytes;
  const Instruction& ours;
  const ZydisDecodedInstruction& theirs;

  bool IsRefused() const { return difference == "refused"; }
  bool IsLegacyOpcode(unsigned map, unsigned first, unsigned last) const {
    return ours.encoding == Encoding::kLegacy && ours.opcode_map == map && ours.opcode >= first &&
           ours.opcode <= last;
  }
};

struct Exception {
  std::string_view reason;
  bool (*applies)(const Case&);
};

// Every known difference. The first that applies is counted.
constexpr Exception kExceptions[] = {
    {"refused: near branch with 66 and no REX.W, where Intel and AMD differ",
     [](const Case& c) {
       return c.IsRefused() && (c.theirs.attributes & ZYDIS_ATTRIB_HAS_OPERANDSIZE) != 0 &&
              (c.theirs.meta.branch_type == ZYDIS_BRANCH_TYPE_NEAR ||
               c.theirs.meta.branch_type == ZYDIS_BRANCH_TYPE_SHORT ||
               c.theirs.mnemonic == ZYDIS_MNEMONIC_XBEGIN);
     }},
    {"refused: XOP, 3DNow!, FEMMS and the VIA instructions",
     [](const Case& c) {
       return c.IsRefused() && (c.theirs.encoding == ZYDIS_INSTRUCTION_ENCODING_XOP ||
                                c.theirs.encoding == ZYDIS_INSTRUCTION_ENCODING_3DNOW ||
                                c.theirs.mnemonic == ZYDIS_MNEMONIC_FEMMS ||
                                c.theirs.meta.isa_ext == ZYDIS_ISA_EXT_PADLOCK);
     }},
    {"refused: instructions of Knights Corner only, some of which reuse VEX opcodes",
     [](const Case& c) {
       return c.IsRefused() && (c.theirs.encoding == ZYDIS_INSTRUCTION_ENCODING_MVEX ||
                                c.theirs.meta.isa_ext == ZYDIS_ISA_EXT_KNC ||
                                c.theirs.meta.isa_ext == ZYDIS_ISA_EXT_KNCE ||
                                c.theirs.meta.isa_ext == ZYDIS_ISA_EXT_KNCV);
     }},
    {"refused: prefetches of what gathers and scatters access, of Xeon Phi only, hidden in CPUID",
     [](const Case& c) { return c.IsRefused() && c.theirs.meta.isa_set == ZYDIS_ISA_SET_AVX512PF_512; }},
    {"refused: user interrupts, shadow stacks, SGX, TDX, TSXLDTRK and MCOMMIT, hidden in CPUID",
     [](const Case& c) {
       return c.IsRefused() &&
              Is(c.theirs,
                 {ZYDIS_MNEMONIC_CLUI,      ZYDIS_MNEMONIC_STUI,      ZYDIS_MNEMONIC_TESTUI,
                  ZYDIS_MNEMONIC_UIRET,     ZYDIS_MNEMONIC_SENDUIPI,  ZYDIS_MNEMONIC_CLRSSBSY,
                  ZYDIS_MNEMONIC_SETSSBSY,  ZYDIS_MNEMONIC_RSTORSSP,  ZYDIS_MNEMONIC_SAVEPREVSSP,
                  ZYDIS_MNEMONIC_INCSSPD,   ZYDIS_MNEMONIC_INCSSPQ,   ZYDIS_MNEMONIC_WRSSD,
                  ZYDIS_MNEMONIC_WRSSQ,     ZYDIS_MNEMONIC_WRUSSD,    ZYDIS_MNEMONIC_WRUSSQ,
                  ZYDIS_MNEMONIC_ENCLU,     ZYDIS_MNEMONIC_ENCLV,     ZYDIS_MNEMONIC_TDCALL,
                  ZYDIS_MNEMONIC_SEAMCALL,  ZYDIS_MNEMONIC_SEAMOPS,   ZYDIS_MNEMONIC_SEAMRET,
                  ZYDIS_MNEMONIC_XSUSLDTRK, ZYDIS_MNEMONIC_XRESLDTRK, ZYDIS_MNEMONIC_MCOMMIT});
     }},
    {"refused: kernel-only instructions without a row: #UD instead of #GP",
     [](const Case& c) {
       return c.IsRefused() &&
              Is(c.theirs, {ZYDIS_MNEMONIC_GETSEC, ZYDIS_MNEMONIC_PCONFIG, ZYDIS_MNEMONIC_INVLPGB,
                            ZYDIS_MNEMONIC_TLBSYNC, ZYDIS_MNEMONIC_PVALIDATE, ZYDIS_MNEMONIC_PSMASH,
                            ZYDIS_MNEMONIC_RMPADJUST, ZYDIS_MNEMONIC_RMPUPDATE});
     }},
    {"refused: mov to or from a control or debug register with a ModRM.mod other than 3",
     [](const Case& c) {
       return c.IsRefused() && c.theirs.opcode_map == ZYDIS_OPCODE_MAP_0F &&
              c.theirs.opcode >= 0x20 && c.theirs.opcode <= 0x23 && c.theirs.raw.modrm.mod != 3;
     }},
    {"MPX: no operation on a processor without it, and on every one when it is off",
     [](const Case& c) { return !c.IsRefused() && c.IsLegacyOpcode(1, 0x1a, 0x1b); }},
    {"no operation: its operand is neither accessed nor used",
     [](const Case& c) {
       return c.theirs.mnemonic == ZYDIS_MNEMONIC_NOP && c.IsLegacyOpcode(1, 0x0d, 0x1f) &&
              (c.difference == "reads memory" || c.difference == "register missing");
     }},
    {"prefetch: a hint, which does not access memory as seen by a program",
     [](const Case& c) {
       return c.difference == "reads memory" &&
              (c.theirs.meta.category == ZYDIS_CATEGORY_PREFETCH ||
               c.IsLegacyOpcode(1, 0x0d, 0x0d) || c.theirs.mnemonic == ZYDIS_MNEMONIC_CLDEMOTE);
     }},
    {"vptest, vtestps, vtestpd clear OF, AF, PF and SF [intel/vol2], which Zydis 4.0 omits",
     [](const Case& c) {
       return c.difference == "does not overwrite flags" &&
              Is(c.theirs, {ZYDIS_MNEMONIC_VPTEST, ZYDIS_MNEMONIC_VTESTPS, ZYDIS_MNEMONIC_VTESTPD});
     }},
    {"Zydis 4.0 takes r13d as base where mod 0 and SIB base 5 mean none, with 67 and REX.B",
     [](const Case& c) {
       return (c.difference == "register missing" || c.difference == "not overwritten" ||
               c.difference == "unit") &&
              c.ours.address_size && c.ours.modrm >> 6 == 0 && (c.ours.modrm & 7) == 4 &&
              (c.ours.sib & 7) == 5 && (c.ours.rex & 1) != 0;
     }},
    {"an implicit operand more than Zydis 4.0 knows, of an instruction never run or rarely",
     [](const Case& c) {
       return c.difference == "register too many" &&
              (c.ours.klass >= Class::kEmulate || c.theirs.mnemonic == ZYDIS_MNEMONIC_MWAITX ||
               c.theirs.mnemonic == ZYDIS_MNEMONIC_PAUSE);
     }},
};

}  // namespace

Oracle::Oracle() { ZydisDecoderInit(&decoder_, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64); }

std::string_view Oracle::CompareLayout(const Instruction& ours) const {
  const auto& raw = theirs_.raw;
  if (ours.length != theirs_.length) return "length";
  if (ours.opcode != theirs_.opcode) return "opcode";
  const bool has_modrm = (theirs_.attributes & ZYDIS_ATTRIB_HAS_MODRM) != 0;
  if (has_modrm != (ours.modrm_offset != 0)) return "has modrm";
  if (has_modrm && ours.modrm_offset != raw.modrm.offset) return "modrm offset";
  if (ours.displacement_size * 8 != raw.disp.size) return "displacement size";
  if (raw.disp.size != 0 && ours.displacement_offset != raw.disp.offset)
    return "displacement offset";
  if (raw.disp.size != 0 && raw.disp.size <= 32 && ours.has_memory && has_modrm &&
      ours.displacement != raw.disp.value) {
    return "displacement";
  }
  if (ours.immediate_size * 8 != raw.imm[0].size + raw.imm[1].size) return "immediate size";
  if (raw.imm[0].size != 0 && ours.immediate_offset != raw.imm[0].offset) return "immediate offset";
  const bool rex = (theirs_.attributes & ZYDIS_ATTRIB_HAS_REX) != 0;
  if (theirs_.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY && rex != (ours.rex != 0)) return "rex";
  switch (theirs_.encoding) {
    case ZYDIS_INSTRUCTION_ENCODING_LEGACY:
      if (ours.encoding != Encoding::kLegacy) return "encoding";
      break;
    case ZYDIS_INSTRUCTION_ENCODING_VEX:
      if (ours.encoding != (raw.vex.size == 2 ? Encoding::kVex2 : Encoding::kVex3))
        return "encoding";
      break;
    default:
      if (ours.encoding != Encoding::kEvex) return "encoding";
  }
  if (ours.opcode_map != theirs_.opcode_map) return "map";
  return {};
}

std::string_view Oracle::CompareMemory(const Instruction& ours) const {
  const ZydisDecodedOperand* memory = nullptr;
  for (unsigned i = 0; i < theirs_.operand_count_visible; ++i) {
    if (operands_[i].type != ZYDIS_OPERAND_TYPE_MEMORY) continue;
    if (operands_[i].encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM ||
        operands_[i].encoding == ZYDIS_OPERAND_ENCODING_DISP16_32_64) {
      memory = &operands_[i];
    }
  }
  if (ours.has_memory != (memory != nullptr)) return "has memory";
  if (memory == nullptr) return {};
  const ZydisRegister base = memory->mem.base;
  if (ours.rip_relative != (base == ZYDIS_REGISTER_RIP || base == ZYDIS_REGISTER_EIP)) {
    return "rip-relative";
  }
  if (ours.address_size != (theirs_.address_width == 32)) return "address size";
  const Segment segment = memory->mem.segment == ZYDIS_REGISTER_FS   ? Segment::kFs
                          : memory->mem.segment == ZYDIS_REGISTER_GS ? Segment::kGs
                                                                     : Segment::kNone;
  if (ours.access != Access::kNone && ours.segment != segment) return "segment";
  const bool reads = (memory->actions & ZYDIS_OPERAND_ACTION_MASK_READ) != 0;
  const bool writes = (memory->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) != 0;
  const bool accesses = memory->mem.type != ZYDIS_MEMOP_TYPE_AGEN;
  if (accesses && reads && ours.access != Access::kRead && ours.access != Access::kReadWrite) {
    return "reads memory";
  }
  if (accesses && writes && ours.access != Access::kWrite && ours.access != Access::kReadWrite) {
    return "writes memory";
  }
  if ((!reads || !accesses) && ours.access == Access::kRead) return "does not read memory";
  if ((!writes || !accesses) && ours.access == Access::kWrite) return "does not write memory";
  return accesses && ours.access != Access::kNone ? CompareSize(ours, *memory) : "";
}

std::string_view Oracle::CompareSize(const Instruction& ours, const ZydisDecodedOperand& memory) const {
  const unsigned size = OperandSize(ours, bytes_);
  if (size == 0 || ours.klass >= Class::kTrap) return {};  // depends on more than the instruction, or is never accessed
  if (size * 8 != memory.size) return "operand size";
  const bool is_scaled = ours.encoding == Encoding::kEvex && ours.displacement_size == 1;
  const auto unit = static_cast<std::int64_t>(is_scaled ? DisplacementUnit(ours, bytes_) : 1);
  return ours.modrm_offset == 0 || ours.displacement * unit == memory.mem.disp.value ? "" : "unit";
}

std::string_view Oracle::CompareRegisters(const Instruction& ours) const {
  unsigned used = 0, read = 0, written = 0;
  auto add = [](unsigned& mask, ZydisRegister reg) {
    const int number = GeneralNumber(reg);
    if (number >= 0) mask |= 1u << number;
  };
  for (unsigned i = 0; i < theirs_.operand_count; ++i) {
    const ZydisDecodedOperand& operand = operands_[i];
    if (operand.type == ZYDIS_OPERAND_TYPE_MEMORY) {
      add(read, operand.mem.base);
      add(read, operand.mem.index);
    } else if (operand.type == ZYDIS_OPERAND_TYPE_REGISTER) {
      add(used, operand.reg.value);
      if (operand.actions != ZYDIS_OPERAND_ACTION_WRITE || !IsFullWrite(operand.reg.value)) {
        add(read, operand.reg.value);
      } else {
        add(written, operand.reg.value);
      }
    }
  }
  used |= read;
  if ((used & ~ours.registers) != 0) return "register missing";
  // xor r,r and sub r,r: Zydis knows operands only.
  const bool is_zero =
      theirs_.operand_count_visible == 2 &&
      (theirs_.mnemonic == ZYDIS_MNEMONIC_XOR || theirs_.mnemonic == ZYDIS_MNEMONIC_SUB) &&
      operands_[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
      operands_[1].type == ZYDIS_OPERAND_TYPE_REGISTER &&
      operands_[0].reg.value == operands_[1].reg.value && IsFullWrite(operands_[0].reg.value);
  if (is_zero) return ours.overwritten == used ? "" : "zero idiom";
  if ((ours.overwritten & ~(written & ~read)) != 0) return "not overwritten";
  if ((ours.overwritten & ~ours.registers) != 0) return "overwritten but not used";
  if ((ours.registers & ~used) != 0) return "register too many";
  return {};
}

std::string_view Oracle::CompareFlags(const Instruction& ours) const {
  const ZydisAccessedFlags* flags = theirs_.cpu_flags;
  const ZyanU32 tested = flags == nullptr ? 0 : flags->tested & kArithmeticFlags;
  const ZyanU32 changed =
      flags == nullptr
          ? 0
          : (flags->modified | flags->set_0 | flags->set_1 | flags->undefined) & kArithmeticFlags;
  if (tested != 0 && !ours.reads_flags) return "reads flags";
  if (ours.overwrites_flags && changed != kArithmeticFlags) return "does not overwrite flags";
  if (ours.overwrites_flags && tested != 0) return "overwrites flags it reads";
  if (tested == 0 && ours.reads_flags && ours.klass < Class::kSystemCall)
    return "does not read flags";
  return {};
}

std::string_view Oracle::CompareClass(const Instruction& ours) const {
  const bool relative =
      (theirs_.attributes & ZYDIS_ATTRIB_IS_RELATIVE) != 0 && theirs_.raw.imm[0].is_relative;
  bool is_branch = false;
  switch (ours.klass) {
    case Class::kJump:
      is_branch = true;
      if (theirs_.mnemonic != ZYDIS_MNEMONIC_JMP) return "not a jump";
      break;
    case Class::kBranch:
      is_branch = true;
      if (theirs_.meta.category != ZYDIS_CATEGORY_COND_BR) return "not a branch";
      break;
    case Class::kCall:
      is_branch = true;
      if (theirs_.mnemonic != ZYDIS_MNEMONIC_CALL) return "not a call";
      break;
    case Class::kJumpIndirect:
      if (theirs_.mnemonic != ZYDIS_MNEMONIC_JMP || relative) return "not an indirect jump";
      break;
    case Class::kCallIndirect:
      if (theirs_.mnemonic != ZYDIS_MNEMONIC_CALL || relative) return "not an indirect call";
      break;
    case Class::kReturn:
      if (theirs_.mnemonic != ZYDIS_MNEMONIC_RET) return "not a return";
      break;
    case Class::kSystemCall:
      if (theirs_.mnemonic != ZYDIS_MNEMONIC_SYSCALL) return "not a system call";
      break;
    case Class::kCopy:
      switch (theirs_.meta.category) {
        case ZYDIS_CATEGORY_UNCOND_BR:
        case ZYDIS_CATEGORY_COND_BR:
        case ZYDIS_CATEGORY_CALL:
        case ZYDIS_CATEGORY_RET:
        case ZYDIS_CATEGORY_SYSCALL:
        case ZYDIS_CATEGORY_SYSRET:
        case ZYDIS_CATEGORY_INTERRUPT:
          return "copied, but changes control flow";
        default:
          break;
      }
      if ((theirs_.attributes & ZYDIS_ATTRIB_IS_PRIVILEGED) != 0) return "copied, but privileged";
      for (unsigned i = 0; i < theirs_.operand_count; ++i) {
        const bool writes = (operands_[i].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) != 0;
        if (writes && operands_[i].type == ZYDIS_OPERAND_TYPE_REGISTER &&
            ZydisRegisterGetClass(operands_[i].reg.value) == ZYDIS_REGCLASS_SEGMENT) {
          return "copied, but writes a segment register";
        }
      }
      break;
    case Class::kEmulate:
    case Class::kTrap:
      break;
    case Class::kRefuse:
      return "valid but refused";
  }
  if (is_branch && !relative) return "not relative";
  if (is_branch && ours.relative != theirs_.raw.imm[0].value.s) return "distance";
  return {};
}

std::string_view Oracle::CompareValid(const Instruction& ours) const {
  for (auto compare : {&Oracle::CompareLayout, &Oracle::CompareClass, &Oracle::CompareMemory,
                       &Oracle::CompareRegisters, &Oracle::CompareFlags}) {
    const std::string_view difference = (this->*compare)(ours);
    if (!difference.empty()) return difference;
  }
  return {};
}

Comparison Oracle::Compare(std::span<const std::uint8_t> bytes) {
  bytes_ = bytes;
  Instruction ours;
  const DecodeStatus status = Decode(bytes, ours);
  const ZyanStatus their_status =
      ZydisDecoderDecodeFull(&decoder_, bytes.data(), bytes.size(), &theirs_, operands_);
  Comparison comparison;
  const bool valid = ZYAN_SUCCESS(their_status);
  if (valid) {
    comparison.oracle_length = theirs_.length;
    ++instructions_;
  }
  if (valid != (status == DecodeStatus::kOk)) {
    comparison.difference = valid ? "refused" : "accepted";
  } else if (valid) {
    comparison.difference = CompareValid(ours);
  }
  if (comparison.difference.empty()) return comparison;
  const Case difference = {comparison.difference, bytes, ours, theirs_};
  for (const auto& [reason, applies] : kExceptions) {
    if (!applies(difference)) continue;
    ++exceptions_[reason];
    comparison.difference = {};
    break;
  }
  return comparison;
}

std::string Oracle::Describe(std::span<const std::uint8_t> bytes) {
  std::string text;
  char buffer[256];
  for (std::size_t i = 0; i < bytes.size() && i < 15; ++i) {
    std::snprintf(buffer, sizeof buffer, "%02x ", bytes[i]);
    text += buffer;
  }
  ZydisFormatter formatter;
  ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL);
  const ZyanStatus status =
      ZydisDecoderDecodeFull(&decoder_, bytes.data(), bytes.size(), &theirs_, operands_);
  if (ZYAN_SUCCESS(status)) {
    ZydisFormatterFormatInstruction(&formatter, &theirs_, operands_, theirs_.operand_count_visible,
                                    buffer, sizeof buffer, 0, nullptr);
    text += "| ";
    text += buffer;
  } else {
    std::snprintf(buffer, sizeof buffer, "| invalid (%u)", ZYAN_STATUS_CODE(status));
    text += buffer;
  }
  Instruction ours;
  const DecodeStatus our_status = Decode(bytes, ours);
  std::snprintf(
      buffer, sizeof buffer,
      " | status %d length %u (%u) enc %d map %u opcode %02x class %d op %d memory %d access %d "
      "registers %04x overwritten %04x flags %d %d disp %u@%u imm %u@%u",
      static_cast<int>(our_status), ours.length, theirs_.length, static_cast<int>(ours.encoding),
      ours.opcode_map, ours.opcode, static_cast<int>(ours.klass), static_cast<int>(ours.operation),
      ours.has_memory, static_cast<int>(ours.access), ours.registers, ours.overwritten,
      ours.reads_flags, ours.overwrites_flags, ours.displacement_size, ours.displacement_offset,
      ours.immediate_size, ours.immediate_offset);
  return text + buffer;
}

}  // namespace dunebox::jit
