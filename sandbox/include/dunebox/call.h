// A call across the wall in the terms of the x86-64 ABI: what function.h makes of typed arguments.
// Nothing here is for hosts to use directly.
#ifndef DUNEBOX_SANDBOX_CALL_H_
#define DUNEBOX_SANDBOX_CALL_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>

namespace dunebox::internal {

inline constexpr std::size_t kIntegerRegisters = 6, kVectorRegisters = 8, kMostStackWords = 16;

// Arguments as they lie in registers and on the stack. [abi §3.2.3]
struct CallFrame {
  std::array<std::uint64_t, kIntegerRegisters> integers{};
  std::array<std::uint64_t, kVectorRegisters> vectors{};
  std::array<std::uint64_t, kMostStackWords> stack{};
  unsigned integer_count = 0, vector_count = 0, stack_count = 0;
  bool wants_vector_result = false;

  void AddInteger(std::uint64_t value) {
    integer_count < kIntegerRegisters ? integers[integer_count++] = value : AddStack(value);
  }
  void AddVector(std::uint64_t value) {
    vector_count < kVectorRegisters ? vectors[vector_count++] = value : AddStack(value);
  }

 private:
  std::uint64_t AddStack(std::uint64_t value) { return stack[stack_count++] = value; }
};

struct CallResult {
  std::uint64_t integer = 0;  // RAX
  std::uint64_t vector = 0;   // XMM0, where the frame wants it
};

// The plugin has called a callback.
struct CallbackFrame {
  std::array<std::uint64_t, kIntegerRegisters> integers{};
  std::array<std::uint64_t, kVectorRegisters> vectors{};
  // The host's answer.
  CallResult result;
};

struct Callback {
  std::function<void(CallbackFrame&)> run;
  bool uses_vectors = false;  // arguments or result
};

}  // namespace dunebox::internal

#endif  // DUNEBOX_SANDBOX_CALL_H_
