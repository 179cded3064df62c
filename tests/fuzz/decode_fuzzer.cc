// Feeds arbitrary bytes to the instruction decoder, as code that is run through from its start, and
// holds every answer to what the translator relies on when it copies and patches the bytes.
//
// The input is decoded where it lies, so that a sanitizer sees a read behind its end.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>

#include "jit-fallback/decode/instruction.h"
#include "jit-fallback/decode/opcode_table.h"

namespace dunebox::jit {
namespace {

using Bytes = std::span<const std::uint8_t>;

constexpr unsigned kMaxLength = 15;

void Require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "decoded instruction violates: %s\n", what);
  std::abort();
}

// A part of the instruction: absent, or between the opcode and the end.
void CheckPart(const Instruction& instruction, unsigned offset, unsigned size, const char* what) {
  if (size == 0) return Require(offset == 0, what);
  Require(offset > instruction.opcode_offset && offset + size <= instruction.length, what);
}

bool IsInTable(const Instruction& instruction) {
  const unsigned map = instruction.opcode_map;
  unsigned group = 0;
  unsigned prefixes = 4;
  switch (instruction.encoding) {
    case Encoding::kLegacy:
      group = map == 0 ? 0 : kLegacyGroup + 4 * (map - 1);
      prefixes = map == 0 ? 1 : 4;
      break;
    case Encoding::kVex2:
    case Encoding::kVex3:
      group = kVexGroup + 4 * (map - 1);
      break;
    case Encoding::kEvex:
      group = kEvexMapGroup[map];
      break;
  }
  for (unsigned i = 0; i < prefixes; ++i) {
    if (kOpcodes.first[group + i][instruction.opcode] != 0) return true;
  }
  return false;
}

void CheckInstruction(const Instruction& instruction, Bytes bytes) {
  Require(instruction.length >= 1 && instruction.length <= kMaxLength, "1 to 15 bytes");
  Require(instruction.length <= bytes.size(), "inside what was given");
  Require(instruction.klass != Class::kRefuse, "an instruction has another class");
  Require(IsInTable(instruction), "the table knows the opcode");
  Require(instruction.prefix_length <= instruction.opcode_offset, "prefixes before the opcode");
  Require(instruction.opcode_offset < instruction.length, "the opcode is inside");
  Require(bytes[instruction.opcode_offset] == instruction.opcode, "the opcode is at its offset");
  if (instruction.modrm_offset != 0) {
    Require(instruction.modrm_offset == instruction.opcode_offset + 1, "ModRM after the opcode");
    Require(bytes[instruction.modrm_offset] == instruction.modrm, "ModRM is at its offset");
  }
  CheckPart(instruction, instruction.displacement_offset, instruction.displacement_size,
            "displacement inside");
  CheckPart(instruction, instruction.immediate_offset, instruction.immediate_size,
            "immediate inside");
  if (instruction.immediate_size != 0) {
    Require(instruction.immediate_offset + instruction.immediate_size == instruction.length,
            "immediates come last");
  }
  if (instruction.rip_relative) {
    Require(instruction.has_memory && instruction.displacement_size == 4, "RIP plus 32 bits");
  }
  Require((instruction.overwritten & ~instruction.registers) == 0, "overwritten is used");
  Require(!instruction.overwrites_flags || !instruction.reads_flags ||
              instruction.klass >= Class::kEmulate,
          "flags are overwritten without being read");
}

bool IsSame(const Instruction& a, const Instruction& b) {
  return a.length == b.length && a.klass == b.klass && a.operation == b.operation &&
         a.registers == b.registers && a.overwritten == b.overwritten &&
         a.displacement == b.displacement && a.relative == b.relative && a.access == b.access;
}

// What follows an instruction does not matter, and nothing shorter is one.
void CheckCuts(const Instruction& instruction, Bytes bytes) {
  Instruction cut;
  Require(Decode(bytes.first(instruction.length), cut) == DecodeStatus::kOk, "needs no more");
  Require(IsSame(instruction, cut), "is the same at the end");
  for (unsigned size = 0; size < instruction.length; ++size) {
    Require(Decode(bytes.first(size), cut) == DecodeStatus::kTruncated, "is truncated");
    Require(cut.klass == Class::kRefuse && cut.length == 1, "truncated is refused");
  }
}

void Run(Bytes bytes) {
  while (!bytes.empty()) {
    Instruction instruction;
    std::memset(static_cast<void*>(&instruction), 0xa5, sizeof instruction);
    const DecodeStatus status = Decode(bytes, instruction);
    if (status == DecodeStatus::kOk) {
      CheckInstruction(instruction, bytes);
      CheckCuts(instruction, bytes);
    } else {
      Require(instruction.klass == Class::kRefuse && instruction.length == 1, "refused");
      Require(status == DecodeStatus::kInvalid || bytes.size() < kMaxLength, "15 bytes are enough");
    }
    bytes = bytes.subspan(instruction.length);
  }
}

}  // namespace
}  // namespace dunebox::jit

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  dunebox::jit::Run({data, size});
  return 0;
}
