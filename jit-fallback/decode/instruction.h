// One decoded x86-64 instruction, as much of it as translation needs: where its parts lie, which
// registers it may touch, and which of a few classes it belongs to. No operand trees, no mnemonics:
// the bytes are copied and patched, never re-encoded.
//
//   Instruction instruction;
//   if (Decode(bytes, instruction) == DecodeStatus::kOk && instruction.klass == Class::kCopy) ...
#ifndef DUNEBOX_JIT_FALLBACK_DECODE_INSTRUCTION_H_
#define DUNEBOX_JIT_FALLBACK_DECODE_INSTRUCTION_H_

#include <cstdint>
#include <span>

namespace dunebox::jit {

// What the translator does with an instruction. Decoder, translator, fuzzer and tests share it.
enum class Class : std::uint8_t {
  kCopy,          // runs as it is (a RIP-relative or segmented operand is patched first)
  kJump,          // jmp rel8/rel32
  kBranch,        // jcc rel8/rel32, loop/loope/loopne/jrcxz/jecxz
  kCall,          // call rel32
  kJumpIndirect,  // jmp r/m64
  kCallIndirect,  // call r/m64
  kReturn,        // ret, ret imm16
  kSystemCall,    // syscall
  kEmulate,       // done by the runtime: `operation` says what
  kTrap,          // always raises an exception: `operation` says which
  kRefuse,        // not in the table: raises #UD
};

// Finer than Class, where the translator has to tell instructions apart.
enum class Operation : std::uint8_t {
  kOther,
  // Class::kBranch
  kJcc,
  kLoop,
  kLoope,
  kLoopne,
  kJrcxz,
  // Class::kCopy with side conditions
  kLea,          // address arithmetic only: the operand is not accessed
  kPopFlags,     // popf/popfq: may set TF
  kXsaveFamily,  // xsave/xsavec/xsaveopt/xsaves/xrstor/xrstors/fxsave/fxrstor and 64-bit forms
  kXgetbv,
  kRdtsc,
  kRdtscp,
  kRdpid,
  kStringNoRep,
  kStringRep,  // movs/stos/lods/cmps/scas; implicit RSI/RDI operands
  kMaskMove,   // maskmovq/maskmovdqu: implicit DS:RDI operand
  kXlat,
  kMovdir64b,
  kEnqcmd,
  kClzero,
  kMonitor,
  kGatherScatter,
  kTileMemory,
  kEnter,
  kLeave,
  kRdFsGsBase,  // rdfsbase: copied; rdgsbase is kEmulate
  kWrFsBase,
  kX87Environment,  // fnstenv, fnsave: store where the last x87 instruction was, as FXSAVE does
  // Class::kEmulate
  kCpuid,
  kReadGsBase,
  kWriteGsBase,
  kMoveFromSegment,
  kPushSegment,  // push fs/gs
  kMoveToSegment,
  kPopSegment,
  kLoadFarPointer,  // lfs/lgs/lss
  kJumpFar,
  kCallFar,
  kReturnFar,
  kInterruptReturn,
  kWritePkru,
  kReadPkru,
  kXbegin,
  kXabort,
  kXtest,
  kXend,
  // Class::kTrap
  kInt3,
  kIntN,
  kInto,
  kInt1,
  kUd,
  kPrivileged,
  kSysenter,
  kVirtualization,  // vmcall, vmmcall, ...
};

enum class Encoding : std::uint8_t { kLegacy, kVex2, kVex3, kEvex };
enum class Segment : std::uint8_t { kNone, kFs, kGs };  // overrides that have an effect
enum class Access : std::uint8_t { kNone, kRead, kWrite, kReadWrite };

// General registers by number, as encoded.
enum class Reg : std::uint8_t {
  kRax,
  kRcx,
  kRdx,
  kRbx,
  kRsp,
  kRbp,
  kRsi,
  kRdi,
  kR8,
  kR9,
  kR10,
  kR11,
  kR12,
  kR13,
  kR14,
  kR15
};

// Number in `registers` masks, as encoded: 0 RAX, 1 RCX, 2 RDX, 3 RBX, 4 RSP, 5 RBP, 6 RSI, 7 RDI.
inline constexpr unsigned kRax = 0, kRcx = 1, kRdx = 2, kRbx = 3, kRsp = 4, kRbp = 5, kRsi = 6,
                          kRdi = 7;

struct Instruction {
  std::uint8_t length = 0;  // 1..15
  Class klass = Class::kRefuse;
  Operation operation = Operation::kOther;
  Encoding encoding = Encoding::kLegacy;

  // Prefixes.
  std::uint8_t rex = 0;       // the REX byte, 0 when none; for VEX/EVEX an equivalent 0x40|W|R|X|B
  bool operand_size = false;  // 66
  bool address_size = false;  // 67: 32-bit addresses
  bool rep = false;           // f3
  bool repne = false;         // f2
  bool lock = false;
  Segment segment = Segment::kNone;

  std::uint8_t opcode_map = 0;  // 0 one byte, 1 0f, 2 0f38, 3 0f3a, 5 and 6 EVEX maps
  std::uint8_t opcode = 0;
  std::uint8_t opcode_offset = 0;  // of the opcode byte
  std::uint8_t prefix_length = 0;  // legacy prefixes only: where REX/VEX/EVEX/opcode begins
  std::uint8_t modrm_offset = 0;   // 0: no ModRM byte
  std::uint8_t modrm = 0;
  std::uint8_t sib = 0;
  std::uint8_t displacement_offset = 0, displacement_size = 0;  // size 0, 1, 4 (8 for moffs)
  std::uint8_t immediate_offset = 0, immediate_size = 0;  // all immediates together; also rel8/32

  // From the VEX or EVEX prefix. A gather's or scatter's vector index takes high_vvvv.
  std::uint8_t vector_length = 0;            // 0: 128 bits, 1: 256, 2: 512
  std::uint8_t vvvv = 0;                     // a register, 0..15
  bool high_reg = false, high_vvvv = false;  // EVEX.R', EVEX.V': 16 more
  std::uint8_t opmask = 0;                   // EVEX.aaa

  // The explicit memory operand (ModRM or moffs); implicit ones go by `operation`.
  bool has_memory = false;
  bool rip_relative = false;
  Access access = Access::kNone;  // of the explicit operand; kReadWrite when in doubt
  bool has_mmx = false;           // an operand is an MMX register, or may be one

  // Conservative: every general register the instruction may read, write or use in an address is in
  // `registers` (vector register numbers may be in it too: a false positive costs a reload).
  std::uint16_t registers = 0;
  // Only registers surely overwritten in full whose old value has no effect. Subset of `registers`.
  std::uint16_t overwritten = 0;
  // Which of ModRM.reg, ModRM.rm (or the opcode's register) and VEX.vvvv are general registers of
  // more than a byte: kReg, kRm, kVvvv.
  std::uint8_t general = 0;
  static constexpr std::uint8_t kReg = 1, kRm = 2, kVvvv = 4;
  // Of the first two, those that are general registers of a byte.
  std::uint8_t general_byte = 0;
  // Flags: true unless the instruction surely does not read (write) any arithmetic flag.
  bool reads_flags = true;
  // True only when all six arithmetic flags are surely written without being read.
  bool overwrites_flags = false;

  std::int32_t displacement = 0;  // sign-extended; EVEX disp8 is not scaled
  std::int32_t relative = 0;      // of direct branches, from the next instruction
  std::uint16_t immediate16 = 0;  // of ret imm16, int n (low byte)
};

enum class DecodeStatus : std::uint8_t {
  kOk,
  kTruncated,  // more bytes are needed than `bytes` has
  kInvalid,    // longer than 15 bytes, or not in the table: klass kRefuse, length 1 at least
};

// Decodes the instruction at the start of `bytes` (64-bit mode). Pure, thread-safe, allocates
// nothing. `instruction` is wholly overwritten.
DecodeStatus Decode(std::span<const std::uint8_t> bytes, Instruction& instruction);

}  // namespace dunebox::jit

#endif  // DUNEBOX_JIT_FALLBACK_DECODE_INSTRUCTION_H_
