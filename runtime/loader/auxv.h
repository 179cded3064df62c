// The auxiliary vector: what a program learns from the kernel beside its
// arguments. The entries we provide, by name, and the form of one entry.
//
//   std::vector<AuxEntry> auxv = {{AuxType::kPageSize, 4096}, {AuxType::kRandom}};
#ifndef DUNEBOX_RUNTIME_LOADER_AUXV_H_
#define DUNEBOX_RUNTIME_LOADER_AUXV_H_

#include <array>
#include <cstdint>
#include <string_view>

namespace dunebox::loader {

// [abi] figure 3.12 and [linux] include/uapi/linux/auxvec.h
enum class AuxType : std::uint64_t {
  kNull = 0,
  kProgramHeaders = 3,
  kProgramHeaderSize = 4,
  kProgramHeaderCount = 5,
  kPageSize = 6,
  kInterpreterBase = 7,
  kFlags = 8,
  kEntry = 9,
  kUid = 11,
  kEffectiveUid = 12,
  kGid = 13,
  kEffectiveGid = 14,
  kPlatform = 15,
  kHardwareCapabilities = 16,
  kClockTicks = 17,
  kSecure = 23,
  kRandom = 25,
  kHardwareCapabilities2 = 26,
  kRseqFeatureSize = 27,
  kRseqAlignment = 28,
  kExecutableName = 31,
  kVdso = 33,
  kMinimumSignalStack = 51,
};

// As it lies in memory.
struct AuxEntry {
  AuxType type;
  // Left 0 for the types of PointsIntoStack: the stack builder knows the address.
  std::uint64_t value = 0;
};
static_assert(sizeof(AuxEntry) == 16);

constexpr bool PointsIntoStack(AuxType type) {
  return type == AuxType::kPlatform || type == AuxType::kRandom || type == AuxType::kExecutableName;
}

struct AuxName {
  AuxType type;
  std::string_view name;
};

// In the order in which x86-64 Linux lists them.
inline constexpr std::array kAuxNames = std::to_array<AuxName>({
    {AuxType::kVdso, "AT_SYSINFO_EHDR"},
    {AuxType::kMinimumSignalStack, "AT_MINSIGSTKSZ"},
    {AuxType::kHardwareCapabilities, "AT_HWCAP"},
    {AuxType::kPageSize, "AT_PAGESZ"},
    {AuxType::kClockTicks, "AT_CLKTCK"},
    {AuxType::kProgramHeaders, "AT_PHDR"},
    {AuxType::kProgramHeaderSize, "AT_PHENT"},
    {AuxType::kProgramHeaderCount, "AT_PHNUM"},
    {AuxType::kInterpreterBase, "AT_BASE"},
    {AuxType::kFlags, "AT_FLAGS"},
    {AuxType::kEntry, "AT_ENTRY"},
    {AuxType::kUid, "AT_UID"},
    {AuxType::kEffectiveUid, "AT_EUID"},
    {AuxType::kGid, "AT_GID"},
    {AuxType::kEffectiveGid, "AT_EGID"},
    {AuxType::kSecure, "AT_SECURE"},
    {AuxType::kRandom, "AT_RANDOM"},
    {AuxType::kHardwareCapabilities2, "AT_HWCAP2"},
    {AuxType::kExecutableName, "AT_EXECFN"},
    {AuxType::kPlatform, "AT_PLATFORM"},
    {AuxType::kRseqFeatureSize, "AT_RSEQ_FEATURE_SIZE"},
    {AuxType::kRseqAlignment, "AT_RSEQ_ALIGN"},
    {AuxType::kNull, "AT_NULL"},
});

}  // namespace dunebox::loader

#endif  // DUNEBOX_RUNTIME_LOADER_AUXV_H_
