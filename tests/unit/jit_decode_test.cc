#include <gtest/gtest.h>

#include <cstdint>
#include <initializer_list>
#include <vector>

#include "jit-fallback/decode/instruction.h"
#include "jit-fallback/decode/opcode_table.h"

namespace dunebox::jit {
namespace {

constexpr unsigned kR8 = 8;

struct Decoded : Instruction {
  DecodeStatus status = DecodeStatus::kInvalid;
};

// Followed by nothing: one byte less must be truncated.
Decoded DecodeBytes(std::vector<std::uint8_t> bytes) {
  Decoded decoded;
  decoded.status = Decode(bytes, decoded);
  if (decoded.status == DecodeStatus::kOk) {
    EXPECT_EQ(decoded.length, bytes.size());
    bytes.pop_back();
    Instruction cut;
    EXPECT_EQ(Decode(bytes, cut), DecodeStatus::kTruncated);
  }
  return decoded;
}

void ExpectRefused(std::initializer_list<std::uint8_t> bytes) {
  std::vector<std::uint8_t> padded = bytes;
  padded.resize(20);
  Instruction instruction;
  EXPECT_EQ(Decode(padded, instruction), DecodeStatus::kInvalid);
  EXPECT_EQ(instruction.klass, Class::kRefuse);
  EXPECT_EQ(instruction.length, 1);
}

constexpr std::uint16_t Mask(std::initializer_list<unsigned> registers) {
  unsigned mask = 0;
  for (const unsigned number : registers) mask |= 1u << number;
  return static_cast<std::uint16_t>(mask);
}

TEST(Decode, NothingIsTruncated) {
  Instruction instruction;
  EXPECT_EQ(Decode({}, instruction), DecodeStatus::kTruncated);
  EXPECT_EQ(instruction.klass, Class::kRefuse);
}

TEST(Decode, ForgetsWhatTheInstructionWas) {
  Instruction instruction;
  ASSERT_EQ(
      Decode(std::vector<std::uint8_t>{0x64, 0x48, 0x8b, 0x04, 0x25, 0x28, 0, 0, 0}, instruction),
      DecodeStatus::kOk);
  ASSERT_EQ(Decode(std::vector<std::uint8_t>{0xc3}, instruction), DecodeStatus::kOk);
  EXPECT_EQ(instruction.segment, Segment::kNone);
  EXPECT_FALSE(instruction.has_memory);
  EXPECT_EQ(instruction.displacement_size, 0);
  EXPECT_EQ(instruction.registers, Mask({kRsp}));
}

TEST(Decode, FindsTheRegistersOfVectorPrefixes) {
  const Decoded vex = DecodeBytes({0xc4, 0xe2, 0x15, 0x90, 0x04, 0x08});  // ymm13 is the mask
  EXPECT_EQ(vex.vector_length, 1);
  EXPECT_EQ(vex.vvvv, 13);
  EXPECT_EQ(vex.opmask, 0);
  EXPECT_FALSE(vex.high_reg || vex.high_vvvv);
  // vpgatherdd zmm17{k3}, [rax + zmm1], and with zmm1 and zmm17 the other way round
  const Decoded data = DecodeBytes({0x62, 0xe2, 0x7d, 0x4b, 0x90, 0x0c, 0x08});
  EXPECT_EQ(data.vector_length, 2);
  EXPECT_EQ(data.vvvv, 0);
  EXPECT_EQ(data.opmask, 3);
  EXPECT_TRUE(data.high_reg && !data.high_vvvv);
  const Decoded index = DecodeBytes({0x62, 0xf2, 0x7d, 0x43, 0x90, 0x0c, 0x08});
  EXPECT_TRUE(!index.high_reg && index.high_vvvv);
  const Decoded none = DecodeBytes({0x90});
  EXPECT_EQ(none.vector_length + none.vvvv + none.opmask, 0);
  EXPECT_FALSE(none.high_reg || none.high_vvvv);
}

TEST(Decode, FindsTheFieldsOfARipRelativeLoad) {
  const Decoded load = DecodeBytes({0x4c, 0x8b, 0x05, 0x78, 0x56, 0x34, 0xf2});  // mov r8, [rip-..]
  EXPECT_EQ(load.klass, Class::kCopy);
  EXPECT_EQ(load.rex, 0x4c);
  EXPECT_EQ(load.prefix_length, 0);
  EXPECT_EQ(load.opcode_offset, 1);
  EXPECT_EQ(load.modrm_offset, 2);
  EXPECT_EQ(load.displacement_offset, 3);
  EXPECT_EQ(load.displacement_size, 4);
  EXPECT_EQ(load.displacement, static_cast<std::int32_t>(0xf2345678));
  EXPECT_TRUE(load.rip_relative);
  EXPECT_EQ(load.access, Access::kRead);
  EXPECT_EQ(load.registers, Mask({kR8}));
  EXPECT_EQ(load.overwritten, Mask({kR8}));
}

TEST(Decode, AnAbsoluteAddressIsNotRipRelative) {
  const Decoded load = DecodeBytes({0x64, 0x48, 0x8b, 0x04, 0x25, 0x28, 0, 0, 0});
  EXPECT_FALSE(load.rip_relative);
  EXPECT_EQ(load.segment, Segment::kFs);
  EXPECT_EQ(load.prefix_length, 1);
  EXPECT_EQ(load.displacement, 0x28);
  EXPECT_EQ(load.registers, Mask({kRax}));
}

TEST(Decode, AnotherSegmentPrefixDoesNotUndoFs) {
  EXPECT_EQ(DecodeBytes({0x64, 0x2e, 0x8b, 0x00}).segment, Segment::kFs);
  EXPECT_EQ(DecodeBytes({0x64, 0x65, 0x8b, 0x00}).segment, Segment::kGs);
  EXPECT_EQ(DecodeBytes({0x3e, 0x8b, 0x00}).segment, Segment::kNone);
}

TEST(Decode, ASegmentIsGivenWhereItMatters) {
  EXPECT_EQ(DecodeBytes({0x65, 0x90}).segment, Segment::kNone);
  EXPECT_EQ(DecodeBytes({0x65, 0x8d, 0x00}).segment, Segment::kNone);            // lea
  EXPECT_EQ(DecodeBytes({0x65, 0xaa}).segment, Segment::kNone);                  // stos
  EXPECT_EQ(DecodeBytes({0x65, 0xa4}).segment, Segment::kGs);                    // movs
  EXPECT_EQ(DecodeBytes({0x65, 0xd7}).segment, Segment::kGs);                    // xlat
  EXPECT_EQ(DecodeBytes({0x65, 0x0f, 0x01, 0xfc}).segment, Segment::kGs);        // clzero
  EXPECT_EQ(DecodeBytes({0x65, 0x66, 0x0f, 0xf7, 0xc1}).segment, Segment::kGs);  // maskmovdqu
}

TEST(Decode, RexCountsOnlyRightBeforeTheOpcode) {
  EXPECT_EQ(DecodeBytes({0x48, 0x66, 0x89, 0xc8}).rex, 0);
  EXPECT_EQ(DecodeBytes({0x48, 0x41, 0x89, 0xc8}).rex, 0x41);
  EXPECT_TRUE(DecodeBytes({0x48, 0x66, 0x89, 0xc8}).operand_size);
}

TEST(Decode, FifteenBytesAreEnoughAndTheLimit) {
  std::vector<std::uint8_t> nop(15, 0x66);
  nop.back() = 0x90;
  EXPECT_EQ(DecodeBytes(nop).status, DecodeStatus::kOk);
  nop.insert(nop.begin(), 0x66);
  EXPECT_EQ(DecodeBytes(nop).status, DecodeStatus::kInvalid);
  std::vector<std::uint8_t> move(64, 0x2e);  // the immediate crosses the limit
  move[9] = 0x48;
  move[10] = 0xc7;
  move[11] = 0xc0;
  Instruction instruction;
  EXPECT_EQ(Decode(move, instruction), DecodeStatus::kInvalid);
  EXPECT_EQ(Decode(std::span(move).first(14), instruction), DecodeStatus::kTruncated);
}

TEST(Decode, LockNeedsAWrittenMemoryOperandThatMayBeLocked) {
  EXPECT_TRUE(DecodeBytes({0xf0, 0x48, 0x0f, 0xc1, 0x07}).lock);  // xadd
  EXPECT_TRUE(DecodeBytes({0xf0, 0x48, 0x0f, 0xc7, 0x0f}).lock);  // cmpxchg16b
  ExpectRefused({0xf0, 0x48, 0x0f, 0xc1, 0xc7});                  // a register
  ExpectRefused({0xf0, 0x48, 0x8b, 0x07});                        // mov
  ExpectRefused({0xf0, 0x48, 0x3b, 0x07});                        // cmp
  ExpectRefused({0xf0, 0x48, 0x03, 0x07});                        // memory only read
}

TEST(Decode, NearBranchesWith66AreRefusedUnlessRexWDecides) {
  ExpectRefused({0x66, 0xe8, 0, 0, 0, 0});
  ExpectRefused({0x66, 0xe9, 0, 0, 0, 0});
  ExpectRefused({0x66, 0x74, 0});
  ExpectRefused({0x66, 0x0f, 0x84, 0, 0, 0, 0});
  ExpectRefused({0x66, 0xc3});
  ExpectRefused({0x66, 0xff, 0xe0});
  // data16 data16 rex.W call __tls_get_addr
  const Decoded call = DecodeBytes({0x66, 0x66, 0x48, 0xe8, 0x10, 0, 0, 0});
  EXPECT_EQ(call.klass, Class::kCall);
  EXPECT_EQ(call.relative, 0x10);
}

TEST(Decode, BranchesHaveAClassAndADistance) {
  const Decoded jump = DecodeBytes({0xeb, 0xfe});
  EXPECT_EQ(jump.klass, Class::kJump);
  EXPECT_EQ(jump.relative, -2);
  const Decoded branch = DecodeBytes({0x0f, 0x85, 0xfc, 0xff, 0xff, 0xff});
  EXPECT_EQ(branch.klass, Class::kBranch);
  EXPECT_EQ(branch.operation, Operation::kJcc);
  EXPECT_EQ(branch.relative, -4);
  EXPECT_TRUE(branch.reads_flags);
  EXPECT_EQ(DecodeBytes({0xe2, 0x10}).operation, Operation::kLoop);
  EXPECT_EQ(DecodeBytes({0xe2, 0x10}).registers, Mask({kRcx}));
  EXPECT_TRUE(DecodeBytes({0x67, 0xe3, 0x10}).address_size);                     // jecxz
  EXPECT_EQ(DecodeBytes({0xf2, 0xff, 0x17}).klass, Class::kCallIndirect);        // bnd
  EXPECT_EQ(DecodeBytes({0x3e, 0x41, 0xff, 0xe3}).klass, Class::kJumpIndirect);  // notrack
  EXPECT_EQ(DecodeBytes({0xc2, 0x08, 0x01}).immediate16, 0x108);
  EXPECT_EQ(DecodeBytes({0xc2, 0x08, 0x01}).klass, Class::kReturn);
  EXPECT_EQ(DecodeBytes({0x0f, 0x05}).klass, Class::kSystemCall);
}

TEST(Decode, WhatTheRuntimeHandlesHasItsOperation) {
  EXPECT_EQ(DecodeBytes({0x0f, 0xa2}).operation, Operation::kCpuid);
  EXPECT_EQ(DecodeBytes({0xf3, 0x0f, 0xae, 0xc8}).operation, Operation::kReadGsBase);
  EXPECT_EQ(DecodeBytes({0xf3, 0x0f, 0xae, 0xc0}).klass, Class::kCopy);  // rdfsbase
  EXPECT_EQ(DecodeBytes({0xf3, 0x48, 0x0f, 0xae, 0xd8}).operation, Operation::kWriteGsBase);
  EXPECT_EQ(DecodeBytes({0x8e, 0xd8}).operation, Operation::kMoveToSegment);
  EXPECT_EQ(DecodeBytes({0x8c, 0xd8}).operation, Operation::kMoveFromSegment);
  EXPECT_EQ(DecodeBytes({0x0f, 0xa1}).operation, Operation::kPopSegment);
  EXPECT_EQ(DecodeBytes({0x0f, 0xa0}).operation, Operation::kPushSegment);
  EXPECT_EQ(DecodeBytes({0x48, 0x0f, 0xb2, 0x00}).operation, Operation::kLoadFarPointer);
  EXPECT_EQ(DecodeBytes({0xff, 0x28}).operation, Operation::kJumpFar);
  EXPECT_EQ(DecodeBytes({0xff, 0x18}).operation, Operation::kCallFar);
  EXPECT_EQ(DecodeBytes({0x48, 0xcb}).operation, Operation::kReturnFar);
  EXPECT_EQ(DecodeBytes({0x48, 0xcf}).operation, Operation::kInterruptReturn);
  EXPECT_EQ(DecodeBytes({0x0f, 0x01, 0xef}).operation, Operation::kWritePkru);
  EXPECT_EQ(DecodeBytes({0xc7, 0xf8, 1, 0, 0, 0}).operation, Operation::kXbegin);
  EXPECT_EQ(DecodeBytes({0xc7, 0xf8, 1, 0, 0, 0}).relative, 1);
  EXPECT_EQ(DecodeBytes({0x0f, 0xae, 0x28}).operation, Operation::kXsaveFamily);  // xrstor
}

TEST(Decode, WhatFaultsHasItsException) {
  EXPECT_EQ(DecodeBytes({0xcc}).operation, Operation::kInt3);
  EXPECT_EQ(DecodeBytes({0xcd, 0x80}).operation, Operation::kIntN);
  EXPECT_EQ(DecodeBytes({0xcd, 0x80}).immediate16, 0x80);
  EXPECT_EQ(DecodeBytes({0x0f, 0x0b}).operation, Operation::kUd);
  EXPECT_EQ(DecodeBytes({0xf4}).operation, Operation::kPrivileged);
  EXPECT_EQ(DecodeBytes({0xec}).operation, Operation::kPrivileged);
  EXPECT_EQ(DecodeBytes({0x0f, 0x34}).operation, Operation::kSysenter);
  EXPECT_EQ(DecodeBytes({0x0f, 0x01, 0xd9}).operation, Operation::kVirtualization);
  for (const auto& bytes : {std::vector<std::uint8_t>{0xcc}, {0xf4}, {0x0f, 0x0b}}) {
    EXPECT_EQ(DecodeBytes(bytes).klass, Class::kTrap);
  }
}

TEST(Decode, WhatIsNotInTheTableIsRefused) {
  for (const std::uint8_t opcode : {0x06, 0x0e, 0x16, 0x27, 0x2f, 0x37, 0x3f, 0x60, 0x61, 0x82,
                                    0x9a, 0xce, 0xd4, 0xd5, 0xd6, 0xea}) {
    ExpectRefused({opcode});
  }
  ExpectRefused({0x0f, 0x0f, 0xc0, 0x9e});                    // 3DNow!
  ExpectRefused({0x8f, 0xe8, 0x78, 0x85, 0xc0, 0x10});        // XOP
  ExpectRefused({0xf3, 0x0f, 0x01, 0xec});                    // uiret
  ExpectRefused({0x0f, 0x38, 0xf6, 0x00});                    // wrssd
  ExpectRefused({0x66, 0xc5, 0xf8, 0x58, 0xc0});              // 66 before VEX
  ExpectRefused({0x48, 0x62, 0xf1, 0x7c, 0x48, 0x58, 0xc0});  // REX before EVEX
  ExpectRefused({0x62, 0xf1, 0x7c, 0x68, 0x58, 0xc0});        // no such vector length
  ExpectRefused({0x62, 0xf1, 0x7c, 0xc8, 0x58, 0xc0});        // zeroing without a mask
}

TEST(Decode, Endbr64TouchesNothing) {
  const Decoded endbr = DecodeBytes({0xf3, 0x0f, 0x1e, 0xfa});
  EXPECT_EQ(endbr.klass, Class::kCopy);
  EXPECT_EQ(endbr.registers, 0);
  EXPECT_FALSE(endbr.reads_flags);
}

TEST(Decode, PartialWritesKeepTheRegister) {
  EXPECT_EQ(DecodeBytes({0xb8, 1, 0, 0, 0}).overwritten, Mask({kRax}));        // mov eax, 1
  EXPECT_EQ(DecodeBytes({0x66, 0xb8, 1, 0}).overwritten, 0);                   // mov ax, 1
  EXPECT_EQ(DecodeBytes({0xb0, 1}).overwritten, 0);                            // mov al, 1
  EXPECT_EQ(DecodeBytes({0x0f, 0x94, 0xc0}).overwritten, 0);                   // sete al
  EXPECT_EQ(DecodeBytes({0x0f, 0x44, 0xc1}).overwritten, 0);                   // cmove eax, ecx
  EXPECT_EQ(DecodeBytes({0x0f, 0xb6, 0xc0}).overwritten, 0);                   // movzx eax, al
  EXPECT_EQ(DecodeBytes({0x0f, 0xb6, 0xc1}).overwritten, Mask({kRax}));        // movzx eax, cl
  EXPECT_EQ(DecodeBytes({0x48, 0x8d, 0x40, 1}).overwritten, 0);                // lea rax, [rax+1]
  EXPECT_EQ(DecodeBytes({0x48, 0x8d, 0x41, 1}).overwritten, Mask({kRax}));     // lea rax, [rcx+1]
  EXPECT_EQ(DecodeBytes({0x41, 0x5f}).overwritten, Mask({15}));                // pop r15
  EXPECT_EQ(DecodeBytes({0x5c}).overwritten, 0);                               // pop rsp
  EXPECT_EQ(DecodeBytes({0x0f, 0xbc, 0xc1}).overwritten, 0);                   // bsf
  EXPECT_EQ(DecodeBytes({0xf3, 0x0f, 0xbc, 0xc1}).overwritten, Mask({kRax}));  // tzcnt
}

TEST(Decode, XorAndSubOfARegisterWithItselfOverwriteIt) {
  EXPECT_EQ(DecodeBytes({0x31, 0xc0}).overwritten, Mask({kRax}));
  EXPECT_EQ(DecodeBytes({0x4d, 0x29, 0xc0}).overwritten, Mask({kR8}));
  EXPECT_EQ(DecodeBytes({0x4d, 0x29, 0xc0}).registers, Mask({kR8}));
  EXPECT_EQ(DecodeBytes({0x66, 0x31, 0xc0}).overwritten, 0);
  EXPECT_EQ(DecodeBytes({0x4c, 0x31, 0xc0}).overwritten, 0);  // xor rax, r8
  EXPECT_EQ(DecodeBytes({0x19, 0xc0}).overwritten, 0);        // sbb depends on it
}

TEST(Decode, HighByteRegistersAreTheirParents) {
  EXPECT_EQ(DecodeBytes({0x88, 0xe5}).registers, Mask({kRax, kRcx}));        // mov ch, ah
  EXPECT_EQ(DecodeBytes({0x40, 0x88, 0xe5}).registers, Mask({kRsp, kRbp}));  // mov bpl, spl
}

TEST(Decode, ImplicitRegistersAreUsed) {
  EXPECT_EQ(DecodeBytes({0xd3, 0xe3}).registers, Mask({kRbx, kRcx}));
  EXPECT_EQ(DecodeBytes({0xf7, 0xe1}).registers, Mask({kRax, kRcx, kRdx}));
  EXPECT_EQ(DecodeBytes({0xf7, 0xe1}).overwritten, Mask({kRdx}));
  EXPECT_EQ(DecodeBytes({0x66, 0xf7, 0xe1}).overwritten, 0);
  EXPECT_EQ(DecodeBytes({0xa4}).registers, Mask({kRsi, kRdi}));
  EXPECT_EQ(DecodeBytes({0xa4}).operation, Operation::kStringNoRep);
  EXPECT_EQ(DecodeBytes({0xf3, 0xa4}).registers, Mask({kRcx, kRsi, kRdi}));
  EXPECT_EQ(DecodeBytes({0xf3, 0xa4}).operation, Operation::kStringRep);
  EXPECT_EQ(DecodeBytes({0x48, 0x0f, 0xc7, 0x0f}).registers, Mask({kRax, kRbx, kRcx, kRdx, kRdi}));
  EXPECT_EQ(DecodeBytes({0xc4, 0xe2, 0xe3, 0xf6, 0xc1}).registers,
            Mask({kRax, kRbx, kRcx, kRdx}));  // mulx rax, rbx, rcx
  EXPECT_EQ(DecodeBytes({0xc4, 0xe2, 0xe3, 0xf6, 0xc1}).overwritten, Mask({kRax, kRbx}));
}

TEST(Decode, OnlySureWritersOverwriteTheFlags) {
  EXPECT_TRUE(DecodeBytes({0x01, 0xc8}).overwrites_flags);   // add
  EXPECT_TRUE(DecodeBytes({0x85, 0xc0}).overwrites_flags);   // test
  EXPECT_TRUE(DecodeBytes({0xf7, 0xd8}).overwrites_flags);   // neg
  EXPECT_FALSE(DecodeBytes({0x11, 0xc8}).overwrites_flags);  // adc
  EXPECT_TRUE(DecodeBytes({0x11, 0xc8}).reads_flags);
  EXPECT_FALSE(DecodeBytes({0xff, 0xc0}).overwrites_flags);        // inc keeps CF
  EXPECT_FALSE(DecodeBytes({0xc1, 0xe0, 0x00}).overwrites_flags);  // shl by 0
  EXPECT_FALSE(DecodeBytes({0xf7, 0xd0}).overwrites_flags);        // not
  EXPECT_TRUE(DecodeBytes({0xa6}).overwrites_flags);
  EXPECT_FALSE(DecodeBytes({0xf3, 0xa6}).overwrites_flags);  // a count of zero
}

TEST(Decode, MoffsAreMemoryOperandsOfEightOrFourBytes) {
  const Decoded wide = DecodeBytes({0x48, 0xa1, 1, 2, 3, 4, 5, 6, 7, 8});
  EXPECT_TRUE(wide.has_memory);
  EXPECT_EQ(wide.displacement_size, 8);
  EXPECT_EQ(wide.displacement_offset, 2);
  EXPECT_EQ(wide.access, Access::kRead);
  const Decoded narrow = DecodeBytes({0x67, 0xa2, 1, 2, 3, 4});
  EXPECT_EQ(narrow.displacement_size, 4);
  EXPECT_EQ(narrow.access, Access::kWrite);
}

TEST(Decode, LeaAndHintsAccessNothing) {
  EXPECT_EQ(DecodeBytes({0x48, 0x8d, 0x05, 0, 0, 0, 0}).access, Access::kNone);
  EXPECT_TRUE(DecodeBytes({0x48, 0x8d, 0x05, 0, 0, 0, 0}).rip_relative);
  EXPECT_EQ(DecodeBytes({0x0f, 0x18, 0x08}).access, Access::kNone);
  EXPECT_EQ(DecodeBytes({0x0f, 0x18, 0x08}).registers, Mask({kRax}));
}

// A form that earlier forms of its opcode hide would be dead text.
TEST(OpcodeTable, NoFormIsHidden) {
  unsigned forms = 0;
  for (const auto& group : kOpcodes.first) {
    for (const std::uint16_t first : group) {
      std::vector<const Form*> earlier;
      for (unsigned index = first; index != 0; index = kOpcodes.forms[index].next) {
        const Form& form = kOpcodes.forms[index];
        bool is_reached = false;
        for (unsigned i = 0; i < 2 * 8 * 8 * 2 * 4 && !is_reached; ++i) {
          const unsigned mod = i % 2, reg = i / 2 % 8, rm = i / 16 % 8, wide = i / 128 % 2;
          const unsigned length = i / 256;
          const auto matches = [=](const Form& other) {
            return ((other.mods >> mod) & (other.regs >> reg) & (other.rms >> rm) &
                    (other.widths >> wide) & (other.lengths >> length) & 1) != 0;
          };
          is_reached = matches(form);
          for (const Form* other : earlier) is_reached = is_reached && !matches(*other);
        }
        EXPECT_TRUE(is_reached) << "form " << index;
        earlier.push_back(&form);
        ++forms;
      }
    }
  }
  EXPECT_EQ(forms + 1u, kOpcodes.count);
}

}  // namespace
}  // namespace dunebox::jit
