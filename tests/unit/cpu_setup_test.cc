#include "runtime/kvm/cpu_setup.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <string>
#include <vector>

#include "libdune/x86/control.h"
#include "libdune/x86/descriptor.h"
#include "runtime/kvm/layout.h"

namespace dunebox::kvm {
namespace {

namespace x86 = dune::x86;

constexpr std::uint32_t kAll = ~std::uint32_t{0};

CpuidTable TableOf(std::initializer_list<kvm_cpuid_entry2> entries) {
  CpuidTable table;
  table.count = 0;
  for (const kvm_cpuid_entry2& entry : entries) table.entries[table.count++] = entry;
  return table;
}

// "leaf.index register bit" for each bit that the guest does not get of one that is offered.
std::vector<std::string> HiddenIn(const kvm_cpuid_entry2& before, const kvm_cpuid_entry2& after) {
  std::vector<std::string> hidden;
  const struct {
    const char* name;
    std::uint32_t offered, given;
  } registers[] = {{"eax", before.eax, after.eax},
                   {"ebx", before.ebx, after.ebx},
                   {"ecx", before.ecx, after.ecx},
                   {"edx", before.edx, after.edx}};
  for (const auto& reg : registers) {
    EXPECT_EQ(reg.given & ~reg.offered, 0u) << "a bit that nobody offered";
    for (unsigned bit = 0; bit < 32; ++bit) {
      if (((reg.offered & ~reg.given) >> bit) & 1) {
        hidden.push_back(std::string(reg.name) + " " + std::to_string(bit));
      }
    }
  }
  return hidden;
}

std::vector<std::string> HiddenOf(std::uint32_t function, std::uint32_t index) {
  const kvm_cpuid_entry2 all{
      .function = function, .index = index, .eax = kAll, .ebx = kAll, .ecx = kAll, .edx = kAll};
  const CpuidTable guest = GuestCpuid(TableOf({all}), CpuFeatures{});
  EXPECT_EQ(guest.count, 1u);
  return HiddenIn(all, guest.entries[0]);
}

using Bits = std::vector<std::string>;

// Changing one of these lists changes what programs see: say why in cpu_setup.cc.
TEST(GuestCpuid, HidesExactlyTheseBits) {
  EXPECT_EQ(HiddenOf(1, 0), (Bits{"ecx 3", "ecx 5", "ecx 15", "ecx 21", "ecx 24"}));
  EXPECT_EQ(HiddenOf(7, 0), (Bits{"ebx 2", "ebx 4", "ebx 11", "ebx 14", "ebx 25", "ecx 3", "ecx 4",
                                  "ecx 5", "ecx 7", "ecx 29", "ecx 31", "edx 5", "edx 11", "edx 20",
                                  "edx 22", "edx 24", "edx 25"}));
  EXPECT_EQ(HiddenOf(0xd, 1), (Bits{"eax 3", "eax 4"}));
  EXPECT_EQ(HiddenOf(0x8000'0001, 0), (Bits{"ecx 2", "ecx 23", "ecx 24"}));
  EXPECT_EQ(HiddenOf(0xa, 0).size(), 128u);  // no performance counters at all
  for (const std::uint32_t function : {0u, 2u, 4u, 6u, 0xbu, 0x8000'0000u, 0x8000'0008u}) {
    EXPECT_EQ(HiddenOf(function, 0), Bits{}) << function;
  }
  EXPECT_EQ(HiddenOf(7, 1), (Bits{"eax 21", "edx 8", "edx 21"}));
}

TEST(GuestCpuid, OffersOnlyEnabledExtendedState) {
  const CpuidTable offered = TableOf(
      {{.function = 0xd, .index = 0, .eax = 0x602e7, .ebx = 0x2b00, .ecx = 0x2b00, .edx = 1},
       {.function = 0xd, .index = 2, .eax = 0x100, .ebx = 0x240},
       {.function = 0xd, .index = 9, .eax = 8, .ebx = 0xa80},
       {.function = 0xd, .index = 17, .eax = 64, .ebx = 0xac0}});
  CpuFeatures features;
  features.xcr0 = 7;
  features.xsave_size = 0x340;
  const CpuidTable guest = GuestCpuid(offered, features);
  ASSERT_EQ(guest.count, 2u);  // no leaf for protection keys and AMX
  EXPECT_EQ(guest.entries[0].eax, 7u);
  EXPECT_EQ(guest.entries[0].edx, 0u);
  EXPECT_EQ(guest.entries[0].ecx, 0x340u);
  EXPECT_EQ(guest.entries[1].index, 2u);
}

TEST(GuestCpuid, SurvivesATableThatClaimsMoreEntriesThanItHas) {
  CpuidTable offered;
  offered.count = 100'000;
  EXPECT_EQ(GuestCpuid(offered, CpuFeatures{}).count, kMaxCpuidEntries);
  FeaturesOf(offered);
  OfferedCpuid(offered, Ring0::kEmulated);
}

TEST(FeaturesOf, MasksTheExtendedStateAndSizesIt) {
  const kvm_cpuid_entry2 basic{.function = 1, .ecx = 1U << 26};
  // x87 .. AVX-512, and MPX, protection keys and AMX that nobody gets.
  const kvm_cpuid_entry2 state{.function = 0xd, .index = 0, .eax = 0x602ff};
  const CpuFeatures features =
      FeaturesOf(TableOf({basic,
                          state,
                          {.function = 0xd, .index = 2, .eax = 0x100, .ebx = 0x240},
                          {.function = 0xd, .index = 5, .eax = 0x40, .ebx = 0x440},
                          {.function = 0xd, .index = 6, .eax = 0x200, .ebx = 0x480},
                          {.function = 0xd, .index = 7, .eax = 0x400, .ebx = 0x680},
                          {.function = 0xd, .index = 9, .eax = 8, .ebx = 0xa80}}));
  EXPECT_EQ(features.xcr0, 0xe7u);
  EXPECT_EQ(features.xsave_size, 0xa80u);
}

TEST(FeaturesOf, WithoutXsaveThereIsTheLegacyAreaOnly) {
  const CpuFeatures features =
      FeaturesOf(TableOf({{.function = 1}, {.function = 0xd, .index = 0, .eax = 7}}));
  EXPECT_EQ(features.xcr0, 0u);
  EXPECT_EQ(features.xsave_size, 576u);
}

TEST(FeaturesOf, ReadsTheFeatureBits) {
  for (const unsigned bit : {0u, 7u, 20u}) {
    const CpuFeatures features = FeaturesOf(TableOf({{.function = 7, .ebx = 1U << bit}}));
    EXPECT_EQ(features.fsgsbase, bit == 0);
    EXPECT_EQ(features.smep, bit == 7);
    EXPECT_EQ(features.smap, bit == 20);
  }
  EXPECT_TRUE(FeaturesOf(TableOf({{.function = 7, .ecx = 1U << 2}})).umip);
}

TEST(OfferedCpuid, IsKvmsListOnHardwareAndGrowsOnlyInFeatureWordsWhenEmulated) {
  const CpuidTable none = TableOf({{.function = 0}, {.function = 1}, {.function = 7}});
  EXPECT_EQ(std::memcmp(OfferedCpuid(none, Ring0::kNative).entries.data(), none.entries.data(),
                        sizeof(none.entries)),
            0);
  const CpuidTable offered = OfferedCpuid(none, Ring0::kEmulated);
  EXPECT_EQ(offered.entries[0].ecx, 0u);  // the vendor is KVM's
  EXPECT_EQ(offered.entries[1].eax, 0u);  // family and model too
  EXPECT_EQ(offered.entries[1].ebx, 0u);
  EXPECT_NE(offered.entries[1].edx, 0u);  // every 64-bit processor has some
}

// ---- registers ----------------------------------------------------------------------------------

constexpr GuestVirt kBlock{0xffff'ff80'0000'2000};

kvm_sregs SystemRegisters(Ring0 ring0, const CpuFeatures& features) {
  kvm_sregs registers{};
  SetSystemRegisters(registers, features, ring0, GuestPhys{0x40'2000}, kBlock);
  return registers;
}

TEST(SystemRegisters, ControlBitsDependOnRing0) {
  const CpuFeatures all{
      .xcr0 = 7, .xsave_size = 0x340, .fsgsbase = true, .smep = true, .smap = true, .umip = true};
  constexpr std::uint64_t kBase = (1 << 5) | (1 << 9) | (1 << 10);      // PAE, OSFXSR, OSXMMEXCPT
  constexpr std::uint64_t kState = (1 << 16) | (1 << 18);               // FSGSBASE, OSXSAVE
  constexpr std::uint64_t kGuards = (1 << 11) | (1 << 20) | (1 << 21);  // UMIP, SMEP, SMAP
  EXPECT_EQ(SystemRegisters(Ring0::kNative, all).cr4, kBase | kState | kGuards);
  EXPECT_EQ(SystemRegisters(Ring0::kEmulated, all).cr4, kBase | kState);
  EXPECT_EQ(SystemRegisters(Ring0::kNative, CpuFeatures{}).cr4, kBase);
  for (const Ring0 ring0 : {Ring0::kNative, Ring0::kEmulated}) {
    const kvm_sregs registers = SystemRegisters(ring0, all);
    EXPECT_EQ(registers.cr0, 0x8005'0033u);  // PG AM WP NE ET MP PE
    EXPECT_EQ(registers.efer, 0xd01u);       // NXE LMA LME SCE
    EXPECT_EQ(registers.cr3, 0x40'2000u);
  }
}

TEST(SystemRegisters, SegmentsAreThoseOfLongModeRing0) {
  const kvm_sregs registers = SystemRegisters(Ring0::kNative, CpuFeatures{});
  EXPECT_EQ(registers.cs.selector, 0x08);
  EXPECT_EQ(registers.cs.l, 1);
  EXPECT_EQ(registers.cs.db, 0);
  EXPECT_EQ(registers.cs.dpl, 0);
  EXPECT_EQ(registers.ss.selector, 0x10);
  for (const kvm_segment* null : {&registers.ds, &registers.es, &registers.fs, &registers.gs}) {
    EXPECT_EQ(null->selector, 0);
    EXPECT_EQ(null->base, 0u);
  }
  EXPECT_EQ(registers.tr.selector, 0x40);
  EXPECT_EQ(registers.tr.base, kBlock.value + layout::kBlockTss);
  EXPECT_EQ(registers.tr.limit, 103u);
  EXPECT_EQ(registers.tr.type, 0xb);  // busy 64-bit TSS
  EXPECT_EQ(registers.gdt.base, kBlock.value + layout::kBlockGdt);
  EXPECT_EQ(registers.gdt.limit, 10 * 8 - 1);
  EXPECT_EQ(registers.idt.base, 0xffff'ff80'0000'4000u);
  EXPECT_EQ(registers.idt.limit, 32 * 16 - 1);
}

TEST(SystemMsrs, StarGivesLinuxsSelectors) {
  const MsrTable msrs = SystemMsrs(GuestVirt{0xffff'ff80'0000'0123}, GuestVirt{0xffff'ff80'0000'4200});
  ASSERT_EQ(msrs.count, 5u);
  EXPECT_EQ(msrs.entries[0].index, 0xc000'0081u);
  const std::uint64_t star = msrs.entries[0].data;
  EXPECT_EQ(star, 0x0023'0008'0000'0000u);
  EXPECT_EQ((star >> 32) & 0xffff, 0x08u);    // SYSCALL: CS, SS = CS + 8
  EXPECT_EQ(((star >> 48) + 16) | 3, 0x33u);  // SYSRETQ: CS
  EXPECT_EQ(((star >> 48) + 8) | 3, 0x2bu);   // SYSRETQ: SS
  EXPECT_EQ(msrs.entries[1].index, 0xc000'0082u);
  EXPECT_EQ(msrs.entries[1].data, 0xffff'ff80'0000'0123u);
  EXPECT_EQ(msrs.entries[2].index, 0xc000'0102u);
  EXPECT_EQ(msrs.entries[2].data, 0xffff'ff80'0000'4200u);  // what SWAPGS finds
  EXPECT_EQ(msrs.entries[3].index, 0xc000'0083u);
  EXPECT_EQ(msrs.entries[3].data, 0u);  // no compatibility mode
  EXPECT_EQ(msrs.entries[4].index, 0xc000'0084u);
  // Everything that could act in ring 0 is cleared: TF, IF, DF, IOPL, NT, RF, AC.
  const std::uint64_t acts =
      (1 << 8) | (1 << 9) | (1 << 10) | (3 << 12) | (1 << 14) | (1 << 16) | (1 << 18);
  EXPECT_EQ(msrs.entries[4].data & acts, acts);
}

// ---- descriptor tables --------------------------------------------------------------------------

TEST(VcpuBlock, HoldsTheseDescriptorsAndStacks) {
  std::array<std::byte, kPageSize> page{};
  WriteVcpuBlock(page.data(), kBlock);
  std::array<std::uint64_t, 10> gdt;
  std::memcpy(gdt.data(), page.data() + layout::kBlockGdt, sizeof(gdt));
  const std::array<std::uint64_t, 10> expected = {
      0,                      // null
      0x00af'9a00'0000'ffff,  // 0x08 ring-0 code
      0x00cf'9200'0000'ffff,  // 0x10 ring-0 data
      0,
      0,
      0x00cf'f200'0000'ffff,  // 0x2b ring-3 data
      0x00af'fa00'0000'ffff,  // 0x33 ring-3 code
      0,
      0x0000'8900'2100'0067,  // 0x40 TSS at kBlock + 0x100, 104 bytes
      0x0000'0000'ffff'ff80};
  EXPECT_EQ(gdt, expected);
  x86::TaskState tss;
  std::memcpy(&tss, page.data() + layout::kBlockTss, sizeof(tss));
  EXPECT_EQ(std::uint64_t{tss.rsp[0]}, kBlock.value + layout::kBlockTrapStackTop);
  EXPECT_EQ(std::uint64_t{tss.ist[0]}, kBlock.value + layout::kBlockIstStackTop);
  EXPECT_EQ(std::uint16_t{tss.io_map_base}, 104);
  // The tables and both frames have room of their own.
  EXPECT_LE(layout::kBlockGdt + sizeof(gdt), layout::kBlockTss);
  EXPECT_LE(layout::kBlockTss + sizeof(tss), layout::kBlockTrapStackTop - 256);
  EXPECT_LE(layout::kBlockTrapStackTop, layout::kBlockIstStackTop - 256);
}

TEST(Idt, EveryVectorGoesToItsStubAndOnlyBreakpointsAreForPrograms) {
  std::array<std::byte, kPageSize> page{};
  const GuestVirt vectors{0xffff'ff80'0000'0070};
  WriteIdt(page.data(), vectors, ProgramRing::kRing3);
  for (unsigned vector = 0; vector < DUNE_VECTOR_COUNT; ++vector) {
    std::array<std::uint64_t, 2> gate;
    std::memcpy(gate.data(), page.data() + vector * sizeof(gate), sizeof(gate));
    const std::uint64_t handler =
        (gate[0] & 0xffff) | ((gate[0] >> 32) & 0xffff'0000) | (gate[1] << 32);
    EXPECT_EQ(handler, vectors.value + vector * 16) << vector;
    EXPECT_EQ((gate[0] >> 16) & 0xffff, 0x08u);
    EXPECT_EQ((gate[0] >> 40) & 0x1f, 0xeu);  // interrupt gate
    EXPECT_EQ((gate[0] >> 47) & 1, 1u);
    EXPECT_EQ((gate[0] >> 45) & 3, vector == 3 || vector == 4 ? 3u : 0u) << vector;
    const bool own_stack = vector == 1 || vector == 2 || vector == 8 || vector == 18;
    EXPECT_EQ((gate[0] >> 32) & 7, own_stack ? 1u : 0u) << vector;
  }
  for (std::size_t i = DUNE_VECTOR_COUNT * 16; i < page.size(); ++i) {
    ASSERT_EQ(page[i], std::byte{0});
  }
}

// Below its stack pointer a program has a red zone.
TEST(Idt, NoVectorUsesTheStackOfAProgramInRing0) {
  std::array<std::byte, kPageSize> page{};
  WriteIdt(page.data(), GuestVirt{0xffff'ff80'0000'0070}, ProgramRing::kRing0);
  for (unsigned vector = 0; vector < DUNE_VECTOR_COUNT; ++vector) {
    std::uint64_t gate;
    std::memcpy(&gate, page.data() + vector * 16, sizeof(gate));
    const bool own_stack = vector == 1 || vector == 2 || vector == 8 || vector == 18;
    EXPECT_EQ((gate >> 32) & 7, own_stack ? 1u : 2u) << vector;
  }
  WriteVcpuBlock(page.data(), kBlock);
  x86::TaskState tss;
  std::memcpy(&tss, page.data() + layout::kBlockTss, sizeof(tss));
  EXPECT_EQ(std::uint64_t{tss.ist[0]}, kBlock.value + layout::kBlockIstStackTop);
  EXPECT_EQ(std::uint64_t{tss.ist[1]}, kBlock.value + layout::kBlockTrapStackTop);
}

}  // namespace
}  // namespace dunebox::kvm
