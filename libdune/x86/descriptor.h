// Segment and gate descriptors, the 64-bit TSS. [intel/vol3 §3.4.5, §6.14.1, §7.7]
#ifndef DUNEBOX_LIBDUNE_X86_DESCRIPTOR_H_
#define DUNEBOX_LIBDUNE_X86_DESCRIPTOR_H_

#include <cstddef>
#include <cstdint>

#include "libdune/x86/bit_field.h"

namespace dune::x86 {

// A code or data segment of 64-bit mode: base and limit mean nothing there, so only the
// attributes are parameters.
class SegmentDescriptor {
 public:
  constexpr SegmentDescriptor() = default;
  static constexpr SegmentDescriptor Code64(unsigned privilege) {
    return SegmentDescriptor(Flat(privilege) | Type::Set(0, 0xa) | LongMode::Set(0, 1));
  }
  static constexpr SegmentDescriptor Data(unsigned privilege) {
    return SegmentDescriptor(Flat(privilege) | Type::Set(0, 0x2) | Big::Set(0, 1));
  }
  constexpr std::uint64_t word() const { return word_; }

 private:
  using BaseHigh = BitField<63, 56>;
  using Granular = BitField<55, 55>;
  using Big = BitField<54, 54>;
  using LongMode = BitField<53, 53>;
  using LimitHigh = BitField<51, 48>;
  using Present = BitField<47, 47>;
  using Privilege = BitField<46, 45>;
  using NotSystem = BitField<44, 44>;
  using Type = BitField<43, 40>;
  using LimitLow = BitField<15, 0>;

  constexpr explicit SegmentDescriptor(std::uint64_t word) : word_(word) {}
  static constexpr std::uint64_t Flat(unsigned privilege) {
    return Granular::Set(0, 1) | LimitHigh::Set(0, 0xf) | Present::Set(0, 1) |
           Privilege::Set(0, privilege) | NotSystem::Set(0, 1) | LimitLow::Set(0, 0xffff);
  }
  std::uint64_t word_ = 0;
};
static_assert(SegmentDescriptor::Code64(0).word() == 0x00AF'9A00'0000'FFFF);
static_assert(SegmentDescriptor::Data(0).word() == 0x00CF'9200'0000'FFFF);
static_assert(SegmentDescriptor::Code64(3).word() == 0x00AF'FA00'0000'FFFF);
static_assert(SegmentDescriptor::Data(3).word() == 0x00CF'F200'0000'FFFF);

// The 16 bytes of a busy or available 64-bit TSS descriptor.
struct TaskStateDescriptor {
  std::uint64_t low = 0;
  std::uint64_t high = 0;
  static constexpr TaskStateDescriptor Available(std::uint64_t base, std::uint32_t limit) {
    TaskStateDescriptor descriptor;
    descriptor.low = BitField<15, 0>::Set(0, limit) | BitField<39, 16>::Set(0, base) |
                     BitField<43, 40>::Set(0, 0x9) | BitField<47, 47>::Set(0, 1) |
                     BitField<63, 56>::Set(0, base >> 24);
    descriptor.high = base >> 32;
    return descriptor;
  }
};

// A 64-bit interrupt gate: interrupts off on entry.
struct GateDescriptor {
  std::uint64_t low = 0;
  std::uint64_t high = 0;
  // `stack` is 0 (TSS RSP0) or an IST index 1..7; `privilege` is who may INT n here.
  static constexpr GateDescriptor Interrupt(std::uint64_t handler, std::uint16_t code_selector,
                                            unsigned stack, unsigned privilege) {
    GateDescriptor gate;
    gate.low = BitField<15, 0>::Set(0, handler) | BitField<31, 16>::Set(0, code_selector) |
               BitField<34, 32>::Set(0, stack) | BitField<43, 40>::Set(0, 0xe) |
               BitField<46, 45>::Set(0, privilege) | BitField<47, 47>::Set(0, 1) |
               BitField<63, 48>::Set(0, handler >> 16);
    gate.high = handler >> 32;
    return gate;
  }
};
static_assert(GateDescriptor::Interrupt(0x1122'3344'5566'7788, 8, 1, 3).low ==
              0x5566'EE01'0008'7788);
static_assert(GateDescriptor::Interrupt(0x1122'3344'5566'7788, 8, 1, 3).high == 0x1122'3344);

// The 64-bit task-state segment; the manual's layout has 64-bit fields at odd multiples of 4.
struct __attribute__((packed)) TaskState {
  std::uint32_t reserved0 = 0;
  // Plain arrays: a member function of std::array would want its alignment.
  std::uint64_t rsp[3] = {};  // stacks for entry to ring 0, 1, 2
  std::uint64_t reserved1 = 0;
  std::uint64_t ist[7] = {};  // ist[0] is IST1
  std::uint64_t reserved2 = 0;
  std::uint16_t reserved3 = 0;
  std::uint16_t io_map_base = sizeof(TaskState);  // past the limit: no I/O permission at all
};
static_assert(sizeof(TaskState) == 104);
static_assert(offsetof(TaskState, rsp) == 4 && offsetof(TaskState, ist) == 36);
static_assert(offsetof(TaskState, io_map_base) == 102);

}  // namespace dune::x86

#endif  // DUNEBOX_LIBDUNE_X86_DESCRIPTOR_H_
