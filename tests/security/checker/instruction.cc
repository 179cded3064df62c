#include "tests/security/checker/instruction.h"

namespace dunebox::checker {
namespace {

ZydisDecoder MakeDecoder() {
  ZydisDecoder decoder;
  ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
  // Not of a processor that this is ever run on; and MPX, which kernels that know FSGSBASE leave
  // switched off, so that its instructions do nothing.
  ZydisDecoderEnableMode(&decoder, ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
  ZydisDecoderEnableMode(&decoder, ZYDIS_DECODER_MODE_KNC, ZYAN_FALSE);
  return decoder;
}

constexpr unsigned kReads = ZYDIS_OPERAND_ACTION_READ | ZYDIS_OPERAND_ACTION_CONDREAD;
constexpr unsigned kWrites = ZYDIS_OPERAND_ACTION_WRITE | ZYDIS_OPERAND_ACTION_CONDWRITE;

}  // namespace

std::optional<Instruction> DecodeAt(std::span<const std::uint8_t> code, std::uint32_t offset) {
  static const ZydisDecoder decoder = MakeDecoder();
  Instruction instruction;
  instruction.offset = offset;
  const std::span<const std::uint8_t> rest = code.subspan(offset);
  const ZyanStatus status = ZydisDecoderDecodeFull(&decoder, rest.data(), rest.size(),
                                                   &instruction.decoded, instruction.all.data());
  if (!ZYAN_SUCCESS(status)) return std::nullopt;
  return instruction;
}

std::string Disassemble(const Instruction& instruction, std::uint64_t host) {
  ZydisFormatter formatter;
  ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL);
  std::array<char, 256> text{};
  ZydisFormatterFormatInstruction(&formatter, &instruction.decoded, instruction.all.data(),
                                  instruction.decoded.operand_count_visible, text.data(),
                                  text.size(), host + instruction.offset, nullptr);
  return text.data();
}

std::optional<unsigned> GeneralNumber(Register reg) {
  const Register whole = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg);
  if (ZydisRegisterGetClass(whole) != ZYDIS_REGCLASS_GPR64) return std::nullopt;
  return static_cast<unsigned>(ZydisRegisterGetId(whole));
}

bool IsRegister(const Operand& operand) { return operand.type == ZYDIS_OPERAND_TYPE_REGISTER; }
bool IsRegister(const Operand& operand, Register reg) {
  return IsRegister(operand) && operand.reg.value == reg;
}
bool IsMemory(const Operand& operand) { return operand.type == ZYDIS_OPERAND_TYPE_MEMORY; }
bool IsImmediate(const Operand& operand) { return operand.type == ZYDIS_OPERAND_TYPE_IMMEDIATE; }
bool MayRead(const Operand& operand) { return (operand.actions & kReads) != 0; }
bool MayWrite(const Operand& operand) { return (operand.actions & kWrites) != 0; }

Register ContextSegment(Isolation isolation) {
  return isolation == Isolation::kSeg ? ZYDIS_REGISTER_FS : ZYDIS_REGISTER_GS;
}

bool IsMask(Isolation isolation) {
  return isolation == Isolation::kMask || isolation == Isolation::kMaskWrites;
}

bool IsSlot(const Instruction& instruction, const Operand& operand, Isolation isolation) {
  return IsMemory(operand) && operand.mem.type == ZYDIS_MEMOP_TYPE_MEM &&
         operand.mem.segment == ContextSegment(isolation) &&
         operand.mem.base == ZYDIS_REGISTER_NONE && operand.mem.index == ZYDIS_REGISTER_NONE &&
         !instruction.has_32_bit_address();
}

std::int64_t Displacement(const Operand& operand) {
  return operand.mem.disp.has_displacement != 0 ? operand.mem.disp.value : 0;
}

std::uint64_t Distance(std::int64_t displacement) {
  const auto value = static_cast<std::uint64_t>(displacement);
  return displacement < 0 ? 0 - value : value;
}

}  // namespace dunebox::checker
