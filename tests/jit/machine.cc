#include "tests/jit/machine.h"

#include <cpuid.h>

#include <algorithm>
#include <cstring>
#include <span>

#include "absl/strings/str_cat.h"

namespace dunebox::jit {
namespace {

// x87, SSE, AVX, and the three of AVX-512. [intel/vol1 §13.1]
constexpr std::uint64_t kWanted = 0xe7;
constexpr std::size_t kPresentOffset = 512, kHeaderSize = 64;
constexpr std::size_t kLegacyRegisters = 32, kLegacyVectors = 160, kLegacyEnd = 416;
constexpr unsigned kFirstComponent = 2, kComponents = 8;

struct Place {
  std::size_t offset = 0, size = 0;
};

Place PlaceOf(unsigned component) {
  static const std::array<Place, kComponents> places = [] {
    std::array<Place, kComponents> result;
    for (unsigned i = kFirstComponent; i < kComponents; ++i) {
      unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
      __get_cpuid_count(0xd, i, &eax, &ebx, &ecx, &edx);
      result[i] = {ebx, eax};
    }
    return result;
  }();
  return places[component];
}

template <typename T>
void Put(Machine& machine, std::size_t offset, T value) {
  std::memcpy(machine.extended.data() + offset, &value, sizeof(value));
}

std::uint64_t Present(const Machine& machine) {
  std::uint64_t present;
  std::memcpy(&present, machine.extended.data() + kPresentOffset, sizeof(present));
  return present & VectorLayout().mask;
}

// Numbers that arithmetic treats differently.
std::uint64_t Value(Random& random) {
  switch (Below(random, 8)) {
    case 0:
      return Below(random, 4);
    case 1:
      return ~std::uint64_t{0} - Below(random, 4);
    case 2:
      return std::uint64_t{1} << Below(random, 64);
    case 3:
      return random() & 0xffff'ffff;
    case 4:
      return 0x3ff0'0000'3f80'0000 + (random() & 0x00ff'0000'00ff'0000);
    case 5:
      return 0x7ff0'0000'7f80'0000 | (random() & 0x8000'0001'8000'0001);
    default:
      return random();
  }
}

}  // namespace

const ExtendedLayout& VectorLayout() {
  static const ExtendedLayout layout = ExtendedLayout::OfHost(kWanted);
  return layout;
}

void Randomize(Random& random, Machine& machine) {
  for (std::uint64_t& reg : machine.gpr) reg = Value(random);
  constexpr std::uint64_t kArithmetic = 0x8d5, kDirection = 0x400;
  machine.rflags = 0x202 | (random() & kArithmetic);
  if (Chance(random, 10)) machine.rflags |= kDirection;
  for (std::size_t at = 0; at < machine.extended.size(); at += 8) {
    Put(machine, at, Value(random));
  }
  std::memset(machine.extended.data(), 0, kLegacyRegisters);
  const bool masked = Chance(random, 95);
  Put<std::uint16_t>(machine, 0,
                     static_cast<std::uint16_t>((random() & 0xf3f) | (masked ? 0x7f : 0x40)));
  // No exception is pending: the top of the stack and condition codes only.
  Put<std::uint16_t>(machine, 2, static_cast<std::uint16_t>(random() & 0x7f00));
  Put<std::uint8_t>(machine, 4, static_cast<std::uint8_t>(random()));
  Put<std::uint32_t>(machine, 24,
                     static_cast<std::uint32_t>((random() & 0xffff) | (masked ? 0x1f80 : 0)));
  for (std::size_t i = 0; i < 8; ++i) {  // ST registers are 80 bits
    std::memset(machine.extended.data() + kLegacyRegisters + 16 * i + 10, 0, 6);
  }
  std::memset(machine.extended.data() + kPresentOffset, 0, kHeaderSize);
  const std::uint64_t initial = Chance(random, 20) ? random() : 0;
  Put<std::uint64_t>(machine, kPresentOffset, VectorLayout().mask & ~initial);
}

void Normalize(Machine& machine) {
  std::byte* const area = machine.extended.data();
  const std::uint64_t present = Present(machine);
  std::memset(area + 5, 0, 19);  // reserved, opcode and pointers of x87
  std::memset(area + 28, 0, 4);  // MXCSR_MASK
  if ((present & 1) == 0) {
    std::memset(area, 0, 24);
    Put<std::uint16_t>(machine, 0, 0x37f);
    std::memset(area + kLegacyRegisters, 0, kLegacyVectors - kLegacyRegisters);
  }
  for (std::size_t i = 0; i < 8; ++i) std::memset(area + kLegacyRegisters + 16 * i + 10, 0, 6);
  if ((present & 2) == 0) std::memset(area + kLegacyVectors, 0, kLegacyEnd - kLegacyVectors);
  std::memset(area + kLegacyEnd, 0, kPresentOffset + kHeaderSize - kLegacyEnd);
  // What lies between the components is nobody's: on processors of Intel's there is room for those of MPX.
  std::array<std::byte, std::tuple_size_v<decltype(machine.extended)>> components{};
  for (unsigned i = kFirstComponent; i < kComponents; ++i) {
    const Place place = PlaceOf(i);
    if ((VectorLayout().mask & present & (std::uint64_t{1} << i)) != 0) {
      std::memcpy(components.data() + place.offset, area + place.offset, place.size);
    }
  }
  constexpr std::size_t kAfterHeader = kPresentOffset + kHeaderSize;
  std::memcpy(area + kAfterHeader, components.data() + kAfterHeader, components.size() - kAfterHeader);
  Put<std::uint64_t>(machine, kPresentOffset, VectorLayout().mask);
}

std::string Difference(Machine& native, Machine& translated) {
  std::string result;
  const auto compare = [&](const std::string& name, std::uint64_t a, std::uint64_t b) {
    if (a == b) return;
    absl::StrAppend(&result, name, ": native ", absl::Hex(a), ", translated ", absl::Hex(b), "\n");
  };
  for (unsigned i = 0; i < 16; ++i) {
    compare(absl::StrCat("gpr", i), native.gpr[i], translated.gpr[i]);
  }
  compare("rip", native.rip, translated.rip);
  constexpr std::uint64_t kResume = 0x1'0000;  // RF: set in the frame of a fault
  compare("rflags", native.rflags & ~kResume, translated.rflags & ~kResume);
  compare("fs base", native.fs_base, translated.fs_base);
  compare("gs base", native.gs_base, translated.gs_base);
  Normalize(native);
  Normalize(translated);
  for (std::size_t at = 0; at < native.extended.size(); at += 8) {
    std::uint64_t a, b;
    std::memcpy(&a, native.extended.data() + at, 8);
    std::memcpy(&b, translated.extended.data() + at, 8);
    compare(absl::StrCat("xsave+", at), a, b);
  }
  return result;
}

std::string Difference(const Ending& native, const Ending& translated) {
  const auto text = [](const Ending& ending) {
    return absl::StrCat("signal ", ending.signal, " code ", ending.code, " vector ", ending.vector,
                        " error ", absl::Hex(ending.error), " address ", absl::Hex(ending.address));
  };
  const std::string a = text(native), b = text(translated);
  return a == b ? "" : absl::StrCat("native ", a, "\ntranslated ", b, "\n");
}

}  // namespace dunebox::jit
