// Holds our decoder against Zydis: both decode the same bytes, and everything our Instruction says
// is compared with what Zydis says. Differences on purpose are listed, with reasons, in the .cc.
//
//   Oracle oracle;
//   Comparison comparison = oracle.Compare(bytes);
//   if (!comparison.difference.empty()) ...
#ifndef DUNEBOX_TESTS_UNIT_JIT_DECODE_ORACLE_H_
#define DUNEBOX_TESTS_UNIT_JIT_DECODE_ORACLE_H_

#include <Zydis/Zydis.h>

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>

#include "jit-fallback/decode/instruction.h"

namespace dunebox::jit {

struct Comparison {
  std::string_view difference;  // empty: equal, or an exception
  unsigned oracle_length = 0;   // 0: not an instruction
};

class Oracle {
 public:
  Oracle();

  Comparison Compare(std::span<const std::uint8_t> bytes);

  // One line for a human: the bytes, Zydis' text, our fields.
  std::string Describe(std::span<const std::uint8_t> bytes);

  // How often each exception was used, by its reason.
  const std::map<std::string_view, std::uint64_t>& exceptions() const { return exceptions_; }
  std::uint64_t instructions() const { return instructions_; }

 private:
  std::string_view CompareValid(const Instruction& ours) const;
  std::string_view CompareLayout(const Instruction& ours) const;
  std::string_view CompareMemory(const Instruction& ours) const;
  std::string_view CompareSize(const Instruction& ours, const ZydisDecodedOperand& memory) const;
  std::string_view CompareRegisters(const Instruction& ours) const;
  std::string_view CompareFlags(const Instruction& ours) const;
  std::string_view CompareClass(const Instruction& ours) const;

  ZydisDecoder decoder_;
  std::span<const std::uint8_t> bytes_;
  ZydisDecodedInstruction theirs_{};
  ZydisDecodedOperand operands_[ZYDIS_MAX_OPERAND_COUNT]{};
  std::map<std::string_view, std::uint64_t> exceptions_;
  std::uint64_t instructions_ = 0;
};

}  // namespace dunebox::jit

#endif  // DUNEBOX_TESTS_UNIT_JIT_DECODE_ORACLE_H_
