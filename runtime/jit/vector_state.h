// A thread's vector and MMX registers in an area of XSAVE's standard format, with what that leaves
// out because it is in its initial state. [intel/vol1 §13.4, §13.5]
#ifndef DUNEBOX_RUNTIME_JIT_VECTOR_STATE_H_
#define DUNEBOX_RUNTIME_JIT_VECTOR_STATE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "jit-fallback/dispatch/thread_context.h"

namespace dunebox::runtime {

class VectorState {
 public:
  using Vector = std::array<std::byte, 64>;

  VectorState(std::span<std::byte> area, const jit::ExtendedLayout& layout)
      : area_(area), layout_(layout) {}

  Vector Read(unsigned number) const;
  void Write(unsigned number, Vector value);
  std::uint64_t ReadOpmask(unsigned number) const;
  void WriteOpmask(unsigned number, std::uint64_t value);

  std::uint64_t ReadMmx(unsigned number) const;
  // What every MMX instruction makes of the x87 registers: all in use, none on top of a stack.
  void EnterMmx();
  // An x87 exception that is raised by the next x87 or MMX instruction.
  bool IsX87ExceptionPending() const;

 private:
  // A component keeps `size` bytes of each register from `first_register` on.
  struct Part {
    unsigned component, first_register;
    std::size_t first_byte, size;
  };
  static const Part kPartsOfLow[3], kPartsOfHigh[1], kPartOfOpmask;

  static std::span<const Part> PartsOf(unsigned number);
  static std::span<std::byte> BytesOf(Vector& value, const Part& part);
  template <typename T>
  T Load(std::size_t offset) const;
  template <typename T>
  void Store(std::size_t offset, T value);
  bool IsPresent(unsigned component) const;
  void MakePresent(unsigned component);
  std::span<std::byte> PlaceOf(const Part& part, unsigned number) const;
  void ReadPart(const Part& part, unsigned number, std::span<std::byte> to) const;
  void WritePart(const Part& part, unsigned number, std::span<const std::byte> from);
  unsigned X87Top() const;

  std::span<std::byte> area_;
  const jit::ExtendedLayout& layout_;
};

}  // namespace dunebox::runtime

#endif  // DUNEBOX_RUNTIME_JIT_VECTOR_STATE_H_
