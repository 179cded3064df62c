// Host code for one block. Instructions are the guest's own bytes; what differs is control flow,
// RIP-relative and GS-relative operands, and system calls.
//
// Between blocks all guest registers are in the CPU. Only an indirect jump arrives at its target's
// entry with the guest's RCX and R11 in their slots (R11 holds the guest address looked for, RCX is
// spent): a block that may be the target has an entry that compares R11 with its own address, and
// reloads the two where they are needed. Guest flags are never touched by our own instructions.
//
//   Emitter emitter(options);
//   emitter.Emit(block, EntryKind::kDirect, address);
//   // emitter.code(), exits(), recovery()
#ifndef DUNEBOX_JIT_FALLBACK_EMIT_EMITTER_H_
#define DUNEBOX_JIT_FALLBACK_EMIT_EMITTER_H_

#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "jit-fallback/emit/assembler.h"
#include "jit-fallback/emit/confinement.h"
#include "jit-fallback/emit/encoding.h"
#include "jit-fallback/emit/isolation.h"
#include "jit-fallback/translate/block.h"

namespace dunebox::jit {

enum class EntryKind : std::uint8_t {
  kDirect,    // reached by direct jumps: all registers in the CPU
  kIndirect,  // reached through the lookup table: RCX and R11 in their slots, R11 = guest address
};

// A jump whose rel32 at `offset` is to be linked to the block at `target`. The four bytes never
// straddle a 16-byte boundary, so that a store to them is seen whole.
struct ExitSite {
  std::uint32_t offset;
  std::uint64_t target;
};

// Four bytes with an address of the guest's below 2 GiB, or with a number less that address: they have another value
// in code for the same block at another place, and nothing else has.
struct AddressSite {
  std::uint16_t offset : 15;
  std::uint16_t is_negative : 1;
};

// Registers whose guest value is in a slot instead of the CPU.
inline constexpr std::uint8_t kRcxInSlot = 1, kR11InSlot = 2, kScratch0InSlot = 4,
                              kScratch1InSlot = 8;
// Under isolation `seg`: RSP's guest value is in the first scratch register; RSI and RDI hold base
// + offset. (RSP itself always does, and counts modulo 4 GiB.)
inline constexpr std::uint8_t kRspInScratch0 = 16, kRsiBased = 32, kRdiBased = 64;

enum class RecoveryKind : std::uint8_t {
  kLinear,           // guest offset grows with the host offset
  kFixed,            // the guest is at `guest` until the next entry
  kInR11,            // the guest is at the address in R11
  kAfterSystemCall,  // as kFixed, and RCX is to hold that address
};

// From `host` on, until the next entry: where an interrupted guest stands. Offsets from the block's
// first host byte and its guest address.
struct Recovery {
  std::int32_t guest;
  std::uint16_t host;      // no block is longer: CodeCache::Add
  std::uint16_t confined;  // registers with what Confine() has made of them
  RecoveryKind kind;
  std::uint8_t in_slot;
  std::array<std::uint8_t, 2> scratch;  // which registers are in the scratch slots
};
static_assert(sizeof(Recovery) == 12);  // there are several times as many as blocks

// What was made of one block.
struct EmittedCode {
  std::span<const std::uint8_t> code;
  std::uint32_t entry = 0;  // where the block is entered, from its first byte
  std::span<const ExitSite> exits;
  std::span<const Recovery> recovery;
  bool recovery_stays = false;  // where it is, as long as there may be the code
};

struct EmitterOptions {
  Isolation isolation = Isolation::kNone;
  // Guest addresses of code that is shown another place's data (the vDSO's clock pages): maps a
  // RIP-relative target to the host address to use. Null: none.
  std::function<std::uint64_t(std::uint64_t target)> map_target;
  // System calls that run in place: without arguments, nothing to check, never blocking for long.
  std::function<bool(std::int64_t number)> runs_in_place;
  // The entry check of indirect targets ends in LOOP, which is not taken on a hit, instead of
  // JRCXZ, which is, and so costs the branch predictor history; but LOOP is slow on some
  // processors.
  bool check_by_loop = false;
  // Each block subtracts its instructions, 64 at most and all of them even if it is left early, from the thread's
  // Context::instructions_left before it runs, and does not run where that becomes negative.
  bool counts_instructions = false;
  // Of XCR0, all below bit 32, which needs BMI2 where it is not 0 (hidden_state.cc).
  std::uint32_t hidden_components = 0;
};

class Emitter {
 public:
  explicit Emitter(EmitterOptions options) : options_(std::move(options)) {}

  // Host code for `block` whose first byte will be at `address`.
  void Emit(const Block& block, EntryKind entry, std::uint64_t address);
  // An indirect entry for a block that has a direct one: compares, reloads, jumps there.
  void EmitIndirectStub(const Block& block, std::uint64_t address);

  std::span<const std::uint8_t> code() const { return code_.code(); }
  // Where the block is entered, from its first byte.
  std::uint32_t entry() const { return entry_; }
  const std::vector<ExitSite>& exits() const { return exits_; }
  const std::vector<Recovery>& recovery() const { return recovery_; }
  EmittedCode emitted() const { return {code_.code(), entry_, exits_, recovery_}; }
  // Whether `addresses` are all that would be different somewhere else below 2 GiB, and how far from the block they
  // are: the lowest and the highest.
  bool can_move() const { return can_move_; }
  const std::vector<AddressSite>& addresses() const { return addresses_; }
  std::int32_t lowest_address() const { return lowest_address_; }
  std::int32_t highest_address() const { return highest_address_; }

 private:
  // What is known of RCX and R11: where their guest values are.
  struct Spill {
    bool in_register = true;
    bool in_slot = false;
  };

  // Whether the first scratch register may be one that the instruction overwrites.
  enum class Scratch : std::uint8_t { kUntouched, kMaybeDestination };

  void Begin(const Block& block, std::uint64_t address);
  void EmitIndirectEntry(const Block& block);
  void EmitMiss();
  void EmitSelfCheck(const Block& block);
  void EmitCount(const Block& block);
  // Takes `number` from a counter of the Context's whose highest byte is at `sign`; leaves where it becomes negative.
  void EmitCountDown(const Block& block, std::uint32_t number, std::uint32_t counter, std::uint32_t sign,
                     std::uint32_t pointer);
  // Back to the runtime with RCX and R11, which are in their slots, as they are at `pc`, the block's first byte.
  void EmitLeaveAtEntry(std::uint64_t pc, std::uint32_t pointer);
  void EmitBody(const Block& block);
  std::size_t CountCopied(std::size_t first, std::size_t end) const;
  void EmitCopied(std::size_t first, std::size_t count);
  void EmitStep(const Step& step);
  void EmitCopy(const Step& step);
  void EmitPlain(const Step& step);
  void EmitBranch(const Step& step);
  void EmitTerminal(const Step* last);
  void EmitSystemCall(std::uint64_t next);
  void EmitIndirect(const Step& step, bool is_call, std::uint64_t return_address);
  void EmitReturn(std::uint16_t extra);
  // Leaves to the runtime with `rip` stored; until then the guest stands at `guest`.
  void EmitLeave(std::uint32_t pointer, std::uint64_t rip, std::int32_t guest);
  void EmitLookup();
  void EmitPushReturn(std::uint64_t return_address, std::uint64_t target);
  void EmitExit(std::uint64_t target);
  // The four bytes emitted last are this one, or a number less it. They are something else where it is not below 2 GiB:
  // then the block cannot be moved.
  void NoteAddress(std::uint64_t address, bool is_negative = false);
  void StoreRip(std::uint64_t rip);
  void AlignPatch(std::uint32_t bytes_before);

  static bool HasComponentMask(const Instruction& instruction);
  void EmitComponentCheck(const Step& step);

  // What cannot be copied, because the base of its segment, or more, cannot be made part of its
  // address.
  bool HasImplicitSegment(const Instruction& instruction) const;
  bool IsGatherForRuntime(const Instruction& gather) const;
  bool IsForRuntime(const Instruction& instruction) const;
  bool IsRefused(const Instruction& instruction) const;
  // The pointer to leave through instead of executing an instruction that is only copied
  // elsewhere; 0: none.
  std::uint32_t LeaveInsteadOf(const Instruction& instruction) const;
  std::span<const std::uint8_t> BytesOf(const Step& step) const {
    return block_->bytes.subspan(step.offset, step.instruction.length);
  }
  std::uint64_t RipTarget(const Step& step) const;
  void EmitRipAbsolute(const Step& step, std::uint64_t target);
  void ClearIndex(Encoding encoding, std::uint8_t rex, std::uint32_t at);
  void EmitRipLea(const Step& step, std::uint64_t target);
  void EmitThroughScratch(const Step& step);
  void EmitWithBase(const Step& step, Reg base, std::uint32_t displacement = 0);
  void EmitLoadTarget(const Step& step);
  void EmitAddress(const Step& step, Reg to);
  // A register that the instruction only overwrites can hold its operand's address.
  static bool HasFreeDestination(const Instruction& instruction);
  // Whether a segment base of the guest's has to be added by our own instructions.
  bool AddsSegment(const Instruction& instruction) const;
  void LoadSegmentBase(Reg to, Segment segment);
  void AddSegmentBase(Segment segment, Reg address, Reg scratch);
  // False when the instruction leaves too few registers.
  bool TakeScratch(const Instruction& instruction, unsigned count, Scratch kind);
  void ReleaseScratch(unsigned index, std::int32_t guest);

  // RSP as a block's exits need it.
  void SettleStack(std::int32_t guest);

  // ---- isolation by mask (mask.cc) [docs/isolation.md]
  bool masks() const { return IsMask(options_.isolation); }
  bool IsReadAsItIs(const Instruction& instruction) const;
  bool IsConfinedOperand(const Step& step) const;
  void ConfineInPlace(Reg reg, std::int32_t guest);
  void EmitMasked(const Step& step);
  void EmitMaskedOperand(const Step& step);
  void EmitBitString(const Step& step);
  void EmitMaskedTarget(const Step& step);
  bool IsChangedLater(const Step& step, Reg reg) const;
  void SettleMaskedStack(std::int32_t guest);
  void SettleStackForAccess(std::int32_t guest);

  // ---- isolation `seg` (seg.cc, seg_stack.cc)
  bool IsWindowed() const { return options_.isolation == Isolation::kSeg; }
  bool IsRefusedInWindow(const Instruction& instruction) const;
  void EmitWindowed(const Step& step);
  void EmitWindowPrefixes();
  void EmitWindowedOperand(const Step& step, std::uint8_t fields, Reg substitute);
  void EmitSegmentAbsolute(const Step& step);
  void EmitString(const Step& step);
  void EmitStackOperand(const Step& step);
  bool EmitStackOperandFast(const Step& step);
  void EmitStackAndSegment(const Step& step);
  void EmitStackLea(const Step& step);
  void EmitEnter(const Step& step);
  void EmitLeaveFrame(const Step& step);
  template <typename Write>
  void EmitStackWrite(const Step& step, Write write);
  // False when there is none: the block has been left for a trap.
  bool BeginScratch(const Step& step, unsigned count = 1);
  void CommitStack(std::int32_t next);
  void Rebase(std::int32_t guest);
  void MoveStack(const Step& step, std::uint32_t distance);
  void FollowStack(const Step& step);
  void SettleWindowedStack(std::int32_t guest);

  void Reload(Spill& spill, Reg reg, std::uint32_t slot, std::int32_t guest);
  void ReloadAll(std::int32_t guest);
  void SpillAll(std::int32_t guest);
  void PrepareRegisters(const Step& step);
  void SettleRegisters(const Step& step);
  void MarkAt(RecoveryKind kind, std::int32_t guest);
  std::uint8_t in_slot() const;
  std::uint16_t confined() const;
  std::int32_t OffsetOf(std::uint64_t pc) const {
    return static_cast<std::int32_t>(pc - block_->pc);
  }

  const EmitterOptions options_;
  Assembler code_{ContextPrefix(options_.isolation)};
  std::vector<ExitSite> exits_;
  std::vector<Recovery> recovery_;
  std::vector<AddressSite> addresses_;
  std::int32_t lowest_address_ = 0, highest_address_ = 0;
  bool can_move_ = false;
  const Block* block_ = nullptr;
  Spill rcx_, r11_;
  Confinement confinement_;
  std::uint16_t confined_now_ = 0;  // for the instruction that is being emitted
  std::uint32_t entry_ = 0;
  std::array<std::uint8_t, 2> scratch_{};
  std::array<bool, 2> scratch_in_slot_{};
  bool scratch_is_destination_ = false;  // the first: the instruction overwrites it
  // Of isolation `seg`.
  bool rsp_in_scratch_ = false, rsi_based_ = false, rdi_based_ = false;
  // How far RSP may be from the window: since the block's entry, or since it was last proven to be
  // inside.
  struct Drift {
    bool proven = false;
    std::uint32_t distance = 0;
  } drift_;
};

}  // namespace dunebox::jit

#endif  // DUNEBOX_JIT_FALLBACK_EMIT_EMITTER_H_
