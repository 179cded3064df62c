// Every accessor of every hardware layout, there and back.
#include <gtest/gtest.h>

#include <cstring>

#include "hostcalls/abi/ring0_abi.h"
#include "libdune/ring0/image.h"
#include "libdune/x86/bit_field.h"
#include "libdune/x86/control.h"
#include "libdune/x86/descriptor.h"
#include "libdune/x86/page_table_entry.h"
#include "runtime/kvm/layout.h"

namespace dune::x86 {
namespace {

template <unsigned High, unsigned Low>
void RoundTrip() {
  using Field = BitField<High, Low>;
  for (const std::uint64_t word : {std::uint64_t{0}, ~std::uint64_t{0}, 0xa5a5'5a5a'0ff0'f00fu}) {
    for (const std::uint64_t value : {std::uint64_t{0}, std::uint64_t{1}, Field::kMax}) {
      const std::uint64_t changed = Field::Set(word, value);
      EXPECT_EQ(Field::Get(changed), value);
      EXPECT_EQ(changed & ~Field::kMask, word & ~Field::kMask);
    }
    // What does not fit is cut off, never spilled into the neighbours.
    EXPECT_EQ(Field::Set(word, ~std::uint64_t{0}) & ~Field::kMask, word & ~Field::kMask);
  }
}

TEST(BitField, RoundTripsAtEveryWidthAndEdge) {
  RoundTrip<0, 0>();
  RoundTrip<63, 63>();
  RoundTrip<63, 0>();
  RoundTrip<15, 0>();
  RoundTrip<51, 12>();
  RoundTrip<63, 48>();
  RoundTrip<46, 45>();
  EXPECT_EQ((BitField<51, 12>::kMask), 0x000f'ffff'ffff'f000u);
}

TEST(PageTableEntry, EachBitIsItsOwn) {
  struct Flag {
    unsigned bit;
    PageTableEntry (PageTableEntry::*set)(bool) const;
    bool (PageTableEntry::*get)() const;
  };
  const Flag flags[] = {
      {0, &PageTableEntry::set_present, &PageTableEntry::present},
      {1, &PageTableEntry::set_writable, &PageTableEntry::writable},
      {2, &PageTableEntry::set_user, &PageTableEntry::user},
      {5, &PageTableEntry::set_accessed, &PageTableEntry::accessed},
      {6, &PageTableEntry::set_dirty, &PageTableEntry::dirty},
      {7, &PageTableEntry::set_large, &PageTableEntry::large},
      {63, &PageTableEntry::set_no_execute, &PageTableEntry::no_execute},
  };
  for (const Flag& flag : flags) {
    const PageTableEntry on = (PageTableEntry{}.*flag.set)(true);
    EXPECT_EQ(on.word(), std::uint64_t{1} << flag.bit);
    const PageTableEntry off = (PageTableEntry{~std::uint64_t{0}}.*flag.set)(false);
    EXPECT_EQ(off.word(), ~(std::uint64_t{1} << flag.bit));
    for (const Flag& other : flags) EXPECT_EQ((on.*other.get)(), other.bit == flag.bit);
  }
}

TEST(PageTableEntry, TheFrameKeepsTheFlagsAndCutsWhatIsNoFrame) {
  const PageTableEntry entry = PageTableEntry{}.set_present(true).set_no_execute(true);
  EXPECT_EQ(entry.set_frame(0x000f'ffff'ffff'f000).frame(), 0x000f'ffff'ffff'f000u);
  EXPECT_EQ(entry.set_frame(~std::uint64_t{0}).word(), 0x800f'ffff'ffff'f001u);
  EXPECT_EQ(entry.set_frame(0x5000).set_frame(0x6000).frame(), 0x6000u);
}

TEST(PageTableEntry, IndicesCutAnAddressUp) {
  const std::uint64_t address = 0xffff'ff80'0020'3000;
  EXPECT_EQ(TableIndex(address, 4), 511u);
  EXPECT_EQ(TableIndex(address, 3), 0u);
  EXPECT_EQ(TableIndex(address, 2), 1u);
  EXPECT_EQ(TableIndex(address, 1), 3u);
  EXPECT_EQ(TableIndex(0x7fff'ffff'ffff, 4), 255u);
  EXPECT_EQ(EntrySpan(3), std::uint64_t{1} << 30);
  EXPECT_EQ(EntrySpan(4), std::uint64_t{1} << 39);
}

TEST(TaskStateDescriptor, PutsTheBaseTogetherAgain) {
  const std::uint64_t base = 0x1122'3344'5566'7788;
  const auto descriptor = TaskStateDescriptor::Available(base, 0x67);
  const std::uint64_t again = ((descriptor.low >> 16) & 0xff'ffff) |
                              ((descriptor.low >> 56) << 24) | (descriptor.high << 32);
  EXPECT_EQ(again, base);
  EXPECT_EQ(descriptor.low & 0xffff, 0x67u);
  EXPECT_EQ((descriptor.low >> 40) & 0xff, 0x89u);  // present, available 64-bit TSS
  EXPECT_EQ(descriptor.high >> 32, 0u);
}

TEST(GateDescriptor, PutsTheHandlerTogetherAgain) {
  for (unsigned stack = 0; stack < 8; ++stack) {
    for (const unsigned privilege : {0u, 3u}) {
      const auto gate = GateDescriptor::Interrupt(0xffff'ff80'1234'5678, 0x08, stack, privilege);
      const std::uint64_t handler =
          (gate.low & 0xffff) | (((gate.low >> 48) & 0xffff) << 16) | (gate.high << 32);
      EXPECT_EQ(handler, 0xffff'ff80'1234'5678u);
      EXPECT_EQ((gate.low >> 16) & 0xffff, 0x08u);
      EXPECT_EQ((gate.low >> 32) & 7, stack);
      EXPECT_EQ((gate.low >> 45) & 3, privilege);
    }
  }
}

TEST(TaskState, HasItsFieldsWhereTheManualHasThem) {
  TaskState state;
  state.rsp[0] = 0x1111'1111'1111'1111;
  state.ist[0] = 0x2222'2222'2222'2222;
  state.ist[6] = 0x3333'3333'3333'3333;
  const auto at = [&](std::size_t offset) {
    std::uint64_t word;
    std::memcpy(&word, reinterpret_cast<const char*>(&state) + offset, sizeof(word));
    return word;
  };
  EXPECT_EQ(at(4), 0x1111'1111'1111'1111u);
  EXPECT_EQ(at(36), 0x2222'2222'2222'2222u);
  EXPECT_EQ(at(84), 0x3333'3333'3333'3333u);
}

TEST(Rflags, Ring3GetsNoFlagWithPower) {
  EXPECT_EQ(rflags::ForUser(0), 0x202u);
  const std::uint64_t most = rflags::ForUser(~std::uint64_t{0});
  EXPECT_EQ(most, 0x25'0fd7u);  // ID AC RF OF DF IF TF SF ZF AF PF CF and bit 1
  for (const unsigned bit : {12u, 13u, 14u, 17u, 19u, 20u}) {  // IOPL, NT, VM, VIF, VIP
    EXPECT_EQ(most & Bit(bit), 0u) << bit;
  }
}

TEST(Ring0Image, SaysWhereItsPartsAre) {
  const auto image = Ring0Image();
  const dunebox::abi::ImageHeader& header = Ring0Header();
  EXPECT_EQ(header.magic, DUNE_IMAGE_MAGIC);
  ASSERT_LE(image.size(), dunebox::kvm::layout::kImageBytes);
  const auto byte = [&](std::uint64_t offset) { return std::to_integer<unsigned>(image[offset]); };
  // OUT imm8, AL with the port of each stub.
  EXPECT_EQ(byte(header.trap_out), 0xe6u);
  EXPECT_EQ(byte(header.trap_out + 1), unsigned{DUNE_PORT_TRAP});
  EXPECT_EQ(byte(header.syscall_entry), 0xe6u);
  EXPECT_EQ(byte(header.syscall_entry + 1), unsigned{DUNE_PORT_SYSCALL});
  EXPECT_EQ(byte(header.probe_out), 0xe6u);
  EXPECT_EQ(byte(header.probe_out + 1), unsigned{DUNE_PORT_PROBE});
  // The ways back end with IRETQ and SYSRETQ.
  EXPECT_EQ(byte(header.trap_return_end - 2), 0x48u);
  EXPECT_EQ(byte(header.trap_return_end - 1), 0xcfu);
  EXPECT_EQ(byte(header.syscall_return_end - 3), 0x48u);
  EXPECT_EQ(byte(header.syscall_return_end - 2), 0x0fu);
  EXPECT_EQ(byte(header.syscall_return_end - 1), 0x07u);
}

TEST(Ring0Image, EveryVectorPushesAnErrorCodeExactlyWhereTheCpuDoesNot) {
  const auto image = Ring0Image();
  for (unsigned vector = 0; vector < DUNE_VECTOR_COUNT; ++vector) {
    const std::size_t stub = Ring0Header().vectors + vector * DUNE_VECTOR_STRIDE;
    const bool has_code =
        vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21;
    std::size_t at = stub;
    if (!has_code) {
      EXPECT_EQ(std::to_integer<unsigned>(image[at]), 0x6au) << vector;  // PUSH imm8
      EXPECT_EQ(std::to_integer<unsigned>(image[at + 1]), 0u) << vector;
      at += 2;
    }
    EXPECT_EQ(std::to_integer<unsigned>(image[at]), 0x6au) << vector;
    EXPECT_EQ(std::to_integer<unsigned>(image[at + 1]), vector);
  }
}

}  // namespace
}  // namespace dune::x86
