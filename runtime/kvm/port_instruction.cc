#include "runtime/kvm/port_instruction.h"

#include <array>
#include <span>

namespace dunebox::kvm {
namespace {

// [intel/vol2 OUT, OUTS]
constexpr std::byte kOutImmediateByte{0xe6};
constexpr std::byte kOutImmediate{0xe7};
constexpr std::byte kOutDxByte{0xee};
constexpr std::byte kOutDx{0xef};
constexpr std::byte kOperandSizePrefix{0x66};
constexpr std::byte kRepPrefix{0xf3};
constexpr std::byte kOutStringByte{0x6e};
constexpr std::byte kOutString{0x6f};

bool IsOutString(std::byte opcode) { return opcode == kOutStringByte || opcode == kOutString; }

// RIP is at an OUTS with at most two prefixes.
bool StandsAtOutString(const hostcalls::GuestMemory& memory, std::uint64_t rip) {
  for (unsigned i = 0; i < 3; ++i) {
    std::array<std::byte, 1> byte;
    if (!memory.Read(rip + i, byte)) return false;
    if (IsOutString(byte[0])) return true;
    if (byte[0] != kOperandSizePrefix && byte[0] != kRepPrefix) return false;
  }
  return false;
}

}  // namespace

std::uint64_t PortInstructionStart(const hostcalls::GuestMemory& memory, std::uint64_t rip,
                                   bool out, std::uint16_t port) {
  std::array<std::byte, 3> before;
  if (!out || StandsAtOutString(memory, rip) || !memory.Read(rip - before.size(), before)) {
    return rip;
  }
  std::uint64_t start = rip;
  std::byte prefix = before[1];
  if ((before[1] == kOutImmediateByte || before[1] == kOutImmediate) &&
      before[2] == static_cast<std::byte>(port)) {
    start = rip - 2;
    prefix = before[0];
  } else if (before[2] == kOutDxByte || before[2] == kOutDx) {
    start = rip - 1;
  } else {
    return rip;
  }
  return prefix == kOperandSizePrefix ? start - 1 : start;
}

}  // namespace dunebox::kvm
