#include "runtime/kvm/port_instruction.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "runtime/signals/host_signals.h"
#include "tests/fakes/guest_pages.h"

namespace dunebox::kvm {
namespace {

constexpr std::uint64_t kAt = fakes::kTestWindow + 0x100;

struct Case {
  const char* what;
  std::vector<unsigned char> before;  // what lies right before RIP
  std::vector<unsigned char> at;      // what RIP points to
  bool out;
  std::uint16_t port;
  unsigned back;  // how far before RIP the instruction began
};

TEST(PortInstruction, StartIsFoundFromTheBytesBeforeRip) {
  const Case cases[] = {
      {"out imm8, al", {0x90, 0xe6, 0xd0}, {0x90}, true, 0xd0, 2},
      {"out imm8, eax", {0x90, 0xe7, 0xd0}, {0x90}, true, 0xd0, 2},
      {"out imm8, ax", {0x66, 0xe7, 0xd0}, {0x90}, true, 0xd0, 3},
      {"out dx, al", {0x90, 0x90, 0xee}, {0x90}, true, 0x3f8, 1},
      {"out dx, eax", {0x90, 0x90, 0xef}, {0x90}, true, 0x3f8, 1},
      {"out dx, ax", {0x90, 0x66, 0xef}, {0x90}, true, 0x3f8, 2},
      {"immediate of another port", {0x90, 0xe6, 0xd1}, {0x90}, true, 0xd0, 0},
      {"immediate that looks like out dx", {0x90, 0xe6, 0xee}, {0x90}, true, 0xee, 2},
      {"no out at all", {0x90, 0x90, 0x90}, {0x90}, true, 0xd0, 0},
      // These are reported at the instruction itself.
      {"in", {0x90, 0x90, 0x90}, {0xec}, false, 0x60, 0},
      {"in after an out", {0x90, 0xe6, 0xd0}, {0xec}, false, 0xd0, 0},
      {"outsb", {0x90, 0x90, 0xee}, {0x6e}, true, 0x3f8, 0},
      {"rep outsb", {0x90, 0x90, 0xee}, {0xf3, 0x6e}, true, 0x3f8, 0},
      {"rep outsw", {0x90, 0x90, 0xee}, {0xf3, 0x66, 0x6f}, true, 0x3f8, 0},
      {"prefixes of something else", {0x90, 0x90, 0xee}, {0xf3, 0x90}, true, 0x3f8, 1},
  };
  const hostcalls::GuestMemory memory(hostcalls::Window::WholeProgram());
  fakes::GuestPages pages(1);
  for (const Case& c : cases) {
    std::memset(pages.host(), 0x90, kPageSize);
    std::memcpy(pages.host() + 0x100 - c.before.size(), c.before.data(), c.before.size());
    std::memcpy(pages.host() + 0x100, c.at.data(), c.at.size());
    EXPECT_EQ(PortInstructionStart(memory, kAt, c.out, c.port), kAt - c.back) << c.what;
  }
}

TEST(PortInstruction, UnreadableCodeLeavesRipAlone) {
  signals::InstallFaultHandlers();
  const hostcalls::GuestMemory memory(hostcalls::Window::WholeProgram());
  const std::uint64_t rips[] = {0,
                                1,
                                fakes::kTestWindow,
                                0x1'0000,
                                0x3fff'ffff'ffff,
                                0x4000'0000'0000,
                                0xffff'ff80'0000'0000,
                                ~std::uint64_t{0}};
  for (const std::uint64_t rip : rips) {
    EXPECT_EQ(PortInstructionStart(memory, rip, true, 0xd0), rip) << std::hex << rip;
    EXPECT_EQ(PortInstructionStart(memory, rip, false, 0xd0), rip) << std::hex << rip;
  }
}

TEST(PortInstruction, IsFoundAtTheVeryEndOfTheMappedCode) {
  signals::InstallFaultHandlers();
  const hostcalls::GuestMemory memory(hostcalls::Window::WholeProgram());
  fakes::GuestPages pages(1);
  std::memset(pages.host(), 0x90, kPageSize);
  pages.At<unsigned char>(kPageSize - 1) = 0xee;
  EXPECT_EQ(PortInstructionStart(memory, pages.end(), true, 0x3f8), pages.end() - 1);
}

}  // namespace
}  // namespace dunebox::kvm
