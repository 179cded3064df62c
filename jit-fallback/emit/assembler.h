// Bytes of host code, appended one instruction at a time: the thirty forms that emitted code needs
// around the guest's own instructions. Knows the address the first byte will have.
#ifndef DUNEBOX_JIT_FALLBACK_EMIT_ASSEMBLER_H_
#define DUNEBOX_JIT_FALLBACK_EMIT_ASSEMBLER_H_

#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <span>
#include <vector>

#include "jit-fallback/decode/instruction.h"

namespace dunebox::jit {

class Assembler {
 public:
  // `context_prefix`: of the segment whose base is the thread's Context.
  explicit Assembler(std::uint8_t context_prefix)
      : context_prefix_(context_prefix), room_(kFirstRoom) {}

  void Reset(std::uint64_t address) {
    address_ = address;
    size_ = 0;
  }
  std::uint32_t size() const { return static_cast<std::uint32_t>(size_); }
  std::uint64_t here() const { return address_ + size_; }
  std::span<const std::uint8_t> code() const { return std::span(room_).first(size_); }

  void Byte(std::uint8_t value) { *Append(1) = value; }
  // Of known length where it is called, and so a store or two there.
  void Bytes(std::initializer_list<std::uint8_t> bytes) {
    std::memcpy(Append(bytes.size()), bytes.begin(), bytes.size());
  }
  void Copy(std::span<const std::uint8_t> bytes) {
    std::memcpy(Append(bytes.size()), bytes.data(), bytes.size());
  }
  template <typename T>
  void Value(T value) {
    std::memcpy(Append(sizeof(value)), &value, sizeof(value));
  }
  void Patch8(std::uint32_t at, std::uint8_t value) { room_[at] = value; }

  // mov context:[offset], reg and back.
  void StoreSlot(std::uint32_t offset, Reg reg) { SlotMove(0x89, offset, reg); }
  void LoadSlot(Reg reg, std::uint32_t offset) { SlotMove(0x8b, offset, reg); }
  void LoadSlotByte(Reg reg, std::uint32_t offset);  // movzx reg32, byte context:[offset]; below R8
  // mov qword context:[offset], value, for any 64-bit value.
  void StoreSlotImmediate(std::uint32_t offset, std::uint64_t value);
  // mov dword context:[offset], value.
  void StoreSlotImmediate32(std::uint32_t offset, std::uint32_t value);
  void MoveImmediate(Reg reg, std::uint64_t value);  // the shortest form; flags untouched
  void MoveImmediate16(Reg reg, std::uint16_t value);  // the rest of the register untouched, too
  void Move(Reg to, Reg from);
  void ZeroExtend(Reg reg);  // mov reg32, reg32
  // pdep to, from, gs:[slot] and pext: neither writes flags.
  void Deposit(Reg to, Reg from, std::uint32_t slot) { BitsBySlot(3, to, from, slot); }
  void Extract(Reg to, Reg from, std::uint32_t slot) { BitsBySlot(2, to, from, slot); }
  // lea to, [base + index << log_scale]. `base` is neither RBP nor R13, `index` not RSP.
  void LoadAddress(Reg to, Reg base, Reg index, unsigned log_scale);
  // to = the low 1 << log_size bytes of `from` with their sign, 2 to 8.
  void MoveExtended(Reg to, Reg from, unsigned log_size);
  void ShiftRight(Reg reg, Reg count);  // sarx: with the sign, flags untouched
  void Push(Reg reg);
  void Pop(Reg reg);
  void JumpThroughSlot(std::uint32_t offset);  // jmp context:[offset]
  void JumpThroughTable(std::uint32_t table);  // jmp context:[rcx * 8 + table]
  // jmp rel32 to `target`; returns the offset of the rel32.
  std::uint32_t Jump(std::uint64_t target);

 private:
  static constexpr std::size_t kFirstRoom = 1024;

  // Where the next `bytes` bytes go.
  std::uint8_t* Append(std::size_t bytes) {
    if (room_.size() - size_ < bytes) [[unlikely]] Grow(bytes);
    std::uint8_t* const at = room_.data() + size_;
    size_ += bytes;
    return at;
  }
  void Grow(std::size_t bytes);
  void BitsBySlot(unsigned prefix, Reg to, Reg from, std::uint32_t slot);
  void SlotMove(std::uint8_t opcode, std::uint32_t offset, Reg reg);

  const std::uint8_t context_prefix_;
  std::uint64_t address_ = 0;
  std::vector<std::uint8_t> room_;  // the code, and what the next block will not have to ask for
  std::size_t size_ = 0;
};

inline bool FitsSigned32(std::uint64_t value) {
  return static_cast<std::uint64_t>(std::int64_t{static_cast<std::int32_t>(value)}) == value;
}

}  // namespace dunebox::jit

#endif  // DUNEBOX_JIT_FALLBACK_EMIT_ASSEMBLER_H_
