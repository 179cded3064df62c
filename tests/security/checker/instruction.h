// A decoded host instruction, and small questions about it.
#ifndef DUNEBOX_TESTS_SECURITY_CHECKER_INSTRUCTION_H_
#define DUNEBOX_TESTS_SECURITY_CHECKER_INSTRUCTION_H_

#include <Zydis/Zydis.h>

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "tests/security/checker/code.h"

namespace dunebox::checker {

using Register = ZydisRegister;
using Operand = ZydisDecodedOperand;

struct Instruction {
  std::uint32_t offset = 0;  // in the code
  ZydisDecodedInstruction decoded{};
  std::array<Operand, ZYDIS_MAX_OPERAND_COUNT> all{};

  std::uint32_t end() const { return offset + decoded.length; }
  ZydisMnemonic mnemonic() const { return decoded.mnemonic; }
  std::span<const Operand> operands() const { return std::span(all).first(decoded.operand_count); }
  std::span<const Operand> visible() const {
    return std::span(all).first(decoded.operand_count_visible);
  }
  bool has_32_bit_address() const { return decoded.address_width == 32; }
};

std::optional<Instruction> DecodeAt(std::span<const std::uint8_t> code, std::uint32_t offset);
std::string Disassemble(const Instruction& instruction, std::uint64_t host);

// 0 to 15 in encoding order for any part of a general register, otherwise nothing.
std::optional<unsigned> GeneralNumber(Register reg);
inline constexpr unsigned kRaxNumber = 0, kRspNumber = 4, kRbpNumber = 5;

bool IsRegister(const Operand& operand);
bool IsRegister(const Operand& operand, Register reg);
bool IsMemory(const Operand& operand);
bool IsImmediate(const Operand& operand);
bool MayRead(const Operand& operand);
bool MayWrite(const Operand& operand);

// Where a segment's context lies: GS, under `seg` FS.
Register ContextSegment(Isolation isolation);
bool IsMask(Isolation isolation);
// [segment:disp32] of the context segment, nothing else in the address.
bool IsSlot(const Instruction& instruction, const Operand& operand, Isolation isolation);
// Its displacement, as a distance from the Context.
std::int64_t Displacement(const Operand& operand);
std::uint64_t Distance(std::int64_t displacement);  // without its sign

}  // namespace dunebox::checker

#endif  // DUNEBOX_TESTS_SECURITY_CHECKER_INSTRUCTION_H_
