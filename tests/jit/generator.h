// Random guest code for an Arena: instructions of every form in the decoder's table with operands
// that mostly can be accessed, and control flow of every kind that always comes to an end.
//
//   Generator generator(random, arena, {});
//   Sequence sequence = generator.Make();
//   sequence.WriteTo(arena);
#ifndef DUNEBOX_TESTS_JIT_GENERATOR_H_
#define DUNEBOX_TESTS_JIT_GENERATOR_H_

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "tests/jit/arena.h"
#include "tests/jit/machine.h"

namespace dunebox::jit {

struct Sequence {
  struct Chunk {
    std::uint64_t address;
    std::vector<std::uint8_t> bytes;
  };
  std::uint64_t entry = 0;
  std::vector<Chunk> chunks;
  unsigned instructions = 0;  // written down, not executed

  void WriteTo(Arena& arena) const;
  std::string Dump() const;
};

// Encodings that this processor does not have: learnt from runs, then mostly left out.
class Unsupported {
 public:
  bool IsLikely(const Instruction& instruction) const;
  void Count(const Instruction& instruction);

 private:
  static std::uint32_t KeyOf(const Instruction& instruction);
  std::map<std::uint32_t, unsigned> counts_;
};

class Generator {
 public:
  struct Options {
    // pushf, popf and what else shows or changes TF: not when single steps are made.
    bool trap_flag_is_visible = true;
    unsigned most_units = 40;
    unsigned wild_percent = 1;  // memory operands that go anywhere; none in a window
    Isolation isolation = Isolation::kNone;
  };
  Generator(Random& random, const Arena& arena, const Unsupported& unsupported,
            const Options& options)
      : random_(random), arena_(arena), unsupported_(unsupported), options_(options) {}

  Sequence Make();
  // FS and GS base, stack pointer and memory operands of the next sequence go by these.
  void PrepareMachine(Machine& machine);

 private:
  using Bytes = std::vector<std::uint8_t>;
  enum class FixKind { kRelative8, kRelative32, kAbsolute64 };
  struct Fix {
    std::size_t at;  // in code_
    unsigned label;
    FixKind kind;
  };

  // ---- one instruction of any form
  void PutRandom(bool may_use_stack);
  bool TryRandom(bool may_use_stack);
  Bytes RandomBytes();
  void PutLegacyPrefixes(Bytes& bytes, bool one_byte_map);
  bool IsWanted(const Instruction& instruction) const;
  bool IsWantedInWindow(const Instruction& instruction) const;
  bool PutOperands(const Instruction& instruction, Bytes& bytes);
  bool AimExplicit(const Instruction& instruction, Bytes& bytes);
  bool AimModrm(const Instruction& instruction, Bytes& bytes, std::uint64_t address);
  void AimImplicit(const Instruction& instruction);
  std::uint64_t Target();
  std::uint64_t SegmentBase(Segment segment) const;

  // ---- units
  void PutUnit(unsigned index);
  void PutBranch(unsigned index);
  void PutCountBranch(unsigned index);
  void PutJump(unsigned index);
  void PutIndirectJump(unsigned index);
  void PutCall();
  void PutPushReturn(unsigned index);
  void PutDivision();
  void PutFlagsFromStack();
  void PutEnterLeave();
  void PutSystemCall();
  void PutRefresh();
  void PutString();
  void PutFunction(unsigned number);
  void PutIndirect(unsigned label, bool is_call);
  void PutFarStub(unsigned label);
  void PutEnd();

  // ---- bytes
  void Put(std::initializer_list<unsigned> bytes);
  void Put32(std::uint32_t value);
  void Put64(std::uint64_t value);
  void PutMove(unsigned reg, std::uint64_t value);
  void PutRelative(unsigned label, FixKind kind);
  std::uint64_t here() const { return start_ + code_.size(); }
  // A quadword behind the code with a label's address.
  std::uint64_t PointerTo(unsigned label);
  bool PutRip(std::initializer_list<unsigned> opcode, std::uint64_t address);
  unsigned Later(unsigned index);
  unsigned NewLabel();
  void Bind(unsigned label) { labels_[label] = here(); }
  void Resolve();
  bool Happens(unsigned percent) { return Chance(random_, percent); }
  std::uint64_t Pick(std::uint64_t bound) { return Below(random_, bound); }

  Random& random_;
  const Arena& arena_;
  const Unsupported& unsupported_;
  const Options options_;
  std::uint64_t fs_base_ = 0, gs_base_ = 0;

  std::uint64_t start_ = 0;
  Bytes code_;
  std::vector<std::uint64_t> labels_;
  std::vector<Fix> fixes_;
  std::vector<unsigned> pointers_;        // labels, in the order of their quadwords
  std::vector<unsigned> functions_;       // labels
  std::vector<unsigned> function_drops_;  // of ret imm16, quadwords
  std::vector<Sequence::Chunk> far_;
  unsigned units_ = 0;
  unsigned instructions_ = 0;
  unsigned loop_ = 0, loop_left_ = 0, loops_ = 0;
  std::uint64_t counter_ = 0;
};

}  // namespace dunebox::jit

#endif  // DUNEBOX_TESTS_JIT_GENERATOR_H_
