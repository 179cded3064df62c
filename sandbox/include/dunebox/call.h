// A call across the wall in the terms of the x86-64 ABI: what function.h makes of typed arguments.
// Nothing here is for hosts to use directly.
#ifndef DUNEBOX_SANDBOX_CALL_H_
#define DUNEBOX_SANDBOX_CALL_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "dunebox/structure.h"

namespace dunebox::internal {

inline constexpr std::size_t kIntegerRegisters = 6, kVectorRegisters = 8, kMostStackWords = 16;

// What of registers and stack the arguments up to one have used. An argument that needs more
// registers than are left lies on the stack as a whole, and those behind it may still get
// registers. [abi §3.2.3]
struct Used {
  unsigned integers = 0, vectors = 0, stack = 0;

  // Whether an argument that needs so many gets registers.
  constexpr bool HasRoomFor(unsigned more_integers, unsigned more_vectors) const {
    return integers + more_integers <= kIntegerRegisters &&
           vectors + more_vectors <= kVectorRegisters;
  }
  // An argument of `words` words, which go on the stack where they find no room.
  constexpr void Add(unsigned more_integers, unsigned more_vectors, unsigned words) {
    if (more_integers + more_vectors != 0 && HasRoomFor(more_integers, more_vectors)) {
      integers += more_integers;
      vectors += more_vectors;
    } else {
      stack += words;
    }
  }
};

// Arguments as they lie in registers and on the stack. [abi §3.2.3]
struct CallFrame {
  std::array<std::uint64_t, kIntegerRegisters> integers{};
  std::array<std::uint64_t, kVectorRegisters> vectors{};
  std::array<std::uint64_t, kMostStackWords> stack;  // those that are counted
  unsigned integer_count = 0, vector_count = 0, stack_count = 0;
  bool wants_vector_result = false;

  void AddInteger(std::uint64_t value) {
    integer_count < kIntegerRegisters ? integers[integer_count++] = value : AddStack(value);
  }
  void AddVector(std::uint64_t value) {
    vector_count < kVectorRegisters ? vectors[vector_count++] = value : AddStack(value);
  }
  // A structure of so many words, each of its class; kNone: in memory.
  void AddStructure(std::span<const std::uint64_t> words, const Eightbytes& places) {
    const unsigned wanted_integers = places.Count(RegisterClass::kInteger);
    const unsigned wanted_vectors = places.Count(RegisterClass::kVector);
    const Used used{.integers = integer_count, .vectors = vector_count};
    const bool in_registers =
        wanted_integers + wanted_vectors != 0 && used.HasRoomFor(wanted_integers, wanted_vectors);
    for (std::size_t i = 0; i < words.size(); ++i) {
      if (!in_registers) {
        AddStack(words[i]);
      } else {
        places.classes[i] == RegisterClass::kVector ? AddVector(words[i]) : AddInteger(words[i]);
      }
    }
  }

 private:
  std::uint64_t AddStack(std::uint64_t value) { return stack[stack_count++] = value; }
};

struct CallResult {
  std::uint64_t integer = 0;         // RAX
  std::uint64_t vector = 0;          // XMM0, where the frame wants it
  std::uint64_t second_integer = 0;  // RDX: of structures only, as the next
  std::uint64_t second_vector = 0;   // XMM1
};

// The plugin has called a callback.
struct CallbackFrame {
  std::array<std::uint64_t, kIntegerRegisters> integers{};
  std::array<std::uint64_t, kVectorRegisters> vectors;  // where the callback uses them
  std::array<std::uint64_t, kMostStackWords> stack;     // as many as it uses
  // The host's answer.
  CallResult result;
  std::vector<std::byte> large_result;  // where RDI says
};

struct Callback {
  std::function<void(CallbackFrame&)> run;
  bool uses_vectors = false;      // arguments or result
  unsigned stack_words = 0;       // of arguments
  bool has_large_result = false;  // kIsLargeStructure
};

}  // namespace dunebox::internal

#endif  // DUNEBOX_SANDBOX_CALL_H_
