// The stack that a program finds at its first instruction, as bytes: argument
// and environment strings, the pointers to them, the auxiliary vector. [abi] §3.4.1
//
// It only computes. The caller maps the stack, copies `bytes` to `stack_pointer`
// and brings the random bytes along.
//
//     top ->             8 zero bytes            as Linux leaves them
//     executable_name -> AT_EXECFN string
//     env_start ->       environment strings
//     arg_start ->       argument strings        arg_end == env_start, env_end == executable_name
//                        "x86_64", 16 random bytes, padding
//                        auxiliary vector, AT_NULL
//                        environment pointers, 0
//                        argument pointers, 0
//     stack_pointer ->   argc                    16-byte aligned
//
//   auto stack = BuildInitialStack(contents, top, ArgumentLimit(stack_rlimit));
//   memory.Write(stack->stack_pointer.value, stack->bytes);
#ifndef DUNEBOX_RUNTIME_LOADER_INITIAL_STACK_H_
#define DUNEBOX_RUNTIME_LOADER_INITIAL_STACK_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "hostcalls/memory/address.h"
#include "runtime/loader/auxv.h"

namespace dunebox::loader {

// A string and its NUL. [linux] MAX_ARG_STRLEN
inline constexpr std::uint64_t kMaxArgumentString = std::uint64_t{128} << 10;

// What arguments, environment and their pointers may take: a quarter of the stack limit, within
// [linux] ARG_MAX and three quarters of the default stack limit.
constexpr std::uint64_t ArgumentLimit(std::uint64_t stack_limit) {
  constexpr std::uint64_t kLeast = std::uint64_t{128} << 10;
  constexpr std::uint64_t kMost = std::uint64_t{6} << 20;
  return std::clamp(stack_limit / 4, kLeast, kMost);
}

// Views only. No string contains a NUL, and `auxv` does not contain kNull.
struct StackContents {
  std::span<const std::string> arguments;  // If empty, the program gets one empty argument.
  std::span<const std::string> environment;
  std::string_view executable_name;
  std::span<const AuxEntry> auxv;
  std::array<std::byte, 16> random;
};

struct InitialStack {
  std::vector<std::byte> bytes;  // [stack_pointer, top)
  GuestVirt stack_pointer;
  GuestVirt arg_start;
  GuestVirt arg_end;
  GuestVirt env_start;
  GuestVirt env_end;
  GuestVirt auxv;
  std::uint64_t auxv_size;  // With AT_NULL, as in /proc/self/auxv.
  GuestVirt random;
  GuestVirt platform;
  GuestVirt executable_name;
};

// kResourceExhausted (E2BIG): a string is too long, all together exceed `argument_limit`, or there
// is no room below `top`.
absl::StatusOr<InitialStack> BuildInitialStack(const StackContents& contents, GuestVirt top,
                                               std::uint64_t argument_limit);

}  // namespace dunebox::loader

#endif  // DUNEBOX_RUNTIME_LOADER_INITIAL_STACK_H_
