// The registers of a thread in the order and the widths in which gdb reads and writes them, and the
// description of them that it is sent. They are numbered in the order of gdb's own description of
// x86-64 Linux: general, x87, SSE, orig_rax, segment bases, upper halves of AVX. Pure.
//
//   RegisterFile file{.general = thread.registers, .extended = area};
//   std::string bytes = file.Get(kRip);
#ifndef DUNEBOX_RUNTIME_DEBUGGER_REGISTER_FILE_H_
#define DUNEBOX_RUNTIME_DEBUGGER_REGISTER_FILE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/engine.h"

namespace dunebox::debugger {

// Numbers that are used here by name.
inline constexpr std::size_t kRbp = 6, kRsp = 7, kRip = 16;
inline constexpr std::size_t kRegistersWithoutAvx = 60, kRegistersWithAvx = 76;

struct RegisterFile {
  runtime::Registers general;
  std::vector<std::byte> extended;  // XSAVE's standard format; at least its legacy part and header

  // Is there room for AVX?
  std::size_t count() const;
  // Little-endian, as wide as the register; empty when there is no such register.
  std::string Get(std::size_t number) const;
  // False: no such register, another width, or one that has only one value (selectors).
  bool Set(std::size_t number, std::string_view bytes);
  // All of them, as `g` and `G` have them.
  std::string GetAll() const;
  bool SetAll(std::string_view bytes);
};

// target.xml, for a machine with or without AVX.
std::string TargetDescription(bool has_avx);

}  // namespace dunebox::debugger

#endif  // DUNEBOX_RUNTIME_DEBUGGER_REGISTER_FILE_H_
