#include "runtime/debugger/register_file.h"

#include <array>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace dunebox::debugger {
namespace {

using runtime::Registers;

enum class Place : std::uint8_t {
  kGeneral,   // `where` is an index of kGeneral
  kFlags,
  kFixed,     // always the value `where`
  kStack87,   // ST(where)
  kControl,   // x87 control: `where` is an offset, `width` what lies there
  kTag,       // x87 tag word, made of the one bit a register that is there
  kVector,    // XMM, YMM's upper half, MXCSR: `where` is an offset
};

// The format that XSAVE writes. [intel/vol1 §10.5.1, §13.4]
constexpr std::size_t kControlWord = 0, kStatusWord = 2, kTags = 4, kOpcode = 6;
constexpr std::size_t kInstructionOffset = 8, kInstructionSegment = 12;
constexpr std::size_t kOperandOffset = 16, kOperandSegment = 20;
constexpr std::size_t kMxcsr = 24, kStack = 32, kXmm = 160;
constexpr std::size_t kPresent = 512, kLeastSize = 576, kYmmHigh = 576, kSizeWithAvx = 832;
constexpr std::size_t kVectorBytes = 16;
constexpr std::uint64_t kX87Present = 1, kSsePresent = 2, kAvxPresent = 4;
constexpr std::uint32_t kMxcsrKnown = 0xffff;

constexpr std::uint64_t kUserCode = 0x33, kUserStack = 0x2b;  // [linux] __USER_CS, __USER_DS
constexpr std::uint64_t kNoCall = ~std::uint64_t{0};          // orig_rax outside a call

// In gdb's order.
constexpr std::uint64_t Registers::*kGeneral[] = {
    &Registers::rax, &Registers::rbx, &Registers::rcx, &Registers::rdx, &Registers::rsi,
    &Registers::rdi, &Registers::rbp, &Registers::rsp, &Registers::r8,  &Registers::r9,
    &Registers::r10, &Registers::r11, &Registers::r12, &Registers::r13, &Registers::r14,
    &Registers::r15, &Registers::rip, &Registers::fs_base, &Registers::gs_base};

struct Row {
  const char* name;
  std::size_t width;  // bytes that gdb has of it
  const char* type;
  Place place;
  std::uint64_t where;
  std::size_t inside = 0;  // bytes it has in memory, when they are fewer
  const char* group = "";
};

// clang-format off
constexpr Row kCore[] = {
    {"rax", 8, "int64", Place::kGeneral, 0},  {"rbx", 8, "int64", Place::kGeneral, 1},
    {"rcx", 8, "int64", Place::kGeneral, 2},  {"rdx", 8, "int64", Place::kGeneral, 3},
    {"rsi", 8, "int64", Place::kGeneral, 4},  {"rdi", 8, "int64", Place::kGeneral, 5},
    {"rbp", 8, "data_ptr", Place::kGeneral, 6}, {"rsp", 8, "data_ptr", Place::kGeneral, 7},
    {"r8", 8, "int64", Place::kGeneral, 8},   {"r9", 8, "int64", Place::kGeneral, 9},
    {"r10", 8, "int64", Place::kGeneral, 10}, {"r11", 8, "int64", Place::kGeneral, 11},
    {"r12", 8, "int64", Place::kGeneral, 12}, {"r13", 8, "int64", Place::kGeneral, 13},
    {"r14", 8, "int64", Place::kGeneral, 14}, {"r15", 8, "int64", Place::kGeneral, 15},
    {"rip", 8, "code_ptr", Place::kGeneral, 16},
    {"eflags", 4, "i386_eflags", Place::kFlags, 0},
    {"cs", 4, "int32", Place::kFixed, kUserCode}, {"ss", 4, "int32", Place::kFixed, kUserStack},
    {"ds", 4, "int32", Place::kFixed, 0}, {"es", 4, "int32", Place::kFixed, 0},
    {"fs", 4, "int32", Place::kFixed, 0}, {"gs", 4, "int32", Place::kFixed, 0},
    {"st0", 10, "i387_ext", Place::kStack87, 0}, {"st1", 10, "i387_ext", Place::kStack87, 1},
    {"st2", 10, "i387_ext", Place::kStack87, 2}, {"st3", 10, "i387_ext", Place::kStack87, 3},
    {"st4", 10, "i387_ext", Place::kStack87, 4}, {"st5", 10, "i387_ext", Place::kStack87, 5},
    {"st6", 10, "i387_ext", Place::kStack87, 6}, {"st7", 10, "i387_ext", Place::kStack87, 7},
    {"fctrl", 4, "int", Place::kControl, kControlWord, 2, "float"},
    {"fstat", 4, "int", Place::kControl, kStatusWord, 2, "float"},
    {"ftag", 4, "int", Place::kTag, 0, 0, "float"},
    {"fiseg", 4, "int", Place::kControl, kInstructionSegment, 4, "float"},
    {"fioff", 4, "int", Place::kControl, kInstructionOffset, 4, "float"},
    {"foseg", 4, "int", Place::kControl, kOperandSegment, 4, "float"},
    {"fooff", 4, "int", Place::kControl, kOperandOffset, 4, "float"},
    {"fop", 4, "int", Place::kControl, kOpcode, 2, "float"},
};
constexpr Row kMxcsrRow = {"mxcsr", 4, "i386_mxcsr", Place::kVector, kMxcsr, 0, "vector"};
constexpr Row kLinux[] = {{"orig_rax", 8, "int", Place::kFixed, kNoCall, 0, "system"}};
constexpr Row kSegments[] = {{"fs_base", 8, "int", Place::kGeneral, 17},
                             {"gs_base", 8, "int", Place::kGeneral, 18}};
// clang-format on
constexpr std::size_t kVectors = 16;
constexpr std::array<const char*, kVectors> kXmmNames = {
    "xmm0", "xmm1", "xmm2",  "xmm3",  "xmm4",  "xmm5",  "xmm6",  "xmm7",
    "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15"};
constexpr std::array<const char*, kVectors> kYmmNames = {
    "ymm0h", "ymm1h", "ymm2h",  "ymm3h",  "ymm4h",  "ymm5h",  "ymm6h",  "ymm7h",
    "ymm8h", "ymm9h", "ymm10h", "ymm11h", "ymm12h", "ymm13h", "ymm14h", "ymm15h"};

constexpr auto kRows = [] {
  std::array<Row, kRegistersWithAvx> rows{};
  std::size_t next = 0;
  for (const Row& row : kCore) rows[next++] = row;
  for (std::size_t i = 0; i < kVectors; ++i) {
    rows[next++] = {kXmmNames[i], kVectorBytes, "vec128", Place::kVector, kXmm + i * kVectorBytes};
  }
  rows[next++] = kMxcsrRow;
  for (const Row& row : kLinux) rows[next++] = row;
  for (const Row& row : kSegments) rows[next++] = row;
  for (std::size_t i = 0; i < kVectors; ++i) {
    rows[next++] = {kYmmNames[i], kVectorBytes, "uint128", Place::kVector,
                    kYmmHigh + i * kVectorBytes};
  }
  return rows;
}();
static_assert(std::size(kCore) + kVectors + 1 + std::size(kLinux) + std::size(kSegments) ==
              kRegistersWithoutAvx);
static_assert(std::string_view(kRows[kRip].name) == "rip");
static_assert(std::string_view(kRows[kRsp].name) == "rsp");

std::string LittleEndian(std::uint64_t value, std::size_t width) {
  return {reinterpret_cast<const char*>(&value), width};
}

std::uint64_t NumberOf(std::string_view bytes) {
  std::uint64_t value = 0;
  std::memcpy(&value, bytes.data(), std::min(bytes.size(), sizeof(value)));
  return value;
}

template <typename T>
T Load(const std::vector<std::byte>& area, std::size_t offset) {
  T value;
  std::memcpy(&value, area.data() + offset, sizeof(value));
  return value;
}

// Of physical register `physical`: 0 valid, 1 zero, 2 special. [intel/vol1 §8.1.7]
unsigned TagOf(const std::vector<std::byte>& area, unsigned physical, unsigned top) {
  const std::size_t at = kStack + ((physical - top) & 7) * kVectorBytes;
  const auto mantissa = Load<std::uint64_t>(area, at);
  const unsigned exponent = Load<std::uint16_t>(area, at + 8) & 0x7fffu;
  if (exponent == 0x7fff) return 2;
  if (exponent == 0) return mantissa == 0 ? 1 : 2;
  return mantissa >> 63 != 0 ? 0 : 2;
}

std::uint64_t TagWord(const std::vector<std::byte>& area) {
  constexpr unsigned kEmpty = 3;
  const auto full = Load<std::uint8_t>(area, kTags);
  const unsigned top = (Load<std::uint16_t>(area, kStatusWord) >> 11) & 7u;
  unsigned word = 0;
  for (unsigned i = 0; i < 8; ++i) {
    const unsigned tag = (full >> i & 1) != 0 ? TagOf(area, i, top) : kEmpty;
    word |= tag << (2 * i);
  }
  return word;
}

std::uint8_t TagsOf(std::uint64_t word) {
  unsigned full = 0;
  for (unsigned i = 0; i < 8; ++i) {
    if ((word >> (2 * i) & 3) != 3) full |= 1u << i;
  }
  return static_cast<std::uint8_t>(full);
}

void AppendRegister(std::string& xml, const Row& row) {
  absl::StrAppend(&xml, "<reg name=\"", row.name, "\" bitsize=\"", row.width * 8, "\" type=\"",
                  row.type, "\"");
  if (*row.group != 0) absl::StrAppend(&xml, " group=\"", row.group, "\"");
  absl::StrAppend(&xml, "/>\n");
}

struct Flag {
  const char* name;
  int bit;
};
constexpr Flag kFlags[] = {{"CF", 0},  {"", 1},    {"PF", 2},   {"AF", 4},   {"ZF", 6},  {"SF", 7},
                           {"TF", 8},  {"IF", 9},  {"DF", 10},  {"OF", 11},  {"NT", 14}, {"RF", 16},
                           {"VM", 17}, {"AC", 18}, {"VIF", 19}, {"VIP", 20}, {"ID", 21}};
constexpr Flag kMxcsrFlags[] = {{"IE", 0}, {"DE", 1}, {"ZE", 2},  {"OE", 3},  {"UE", 4},
                                {"PE", 5}, {"DAZ", 6}, {"IM", 7}, {"DM", 8},  {"ZM", 9},
                                {"OM", 10}, {"UM", 11}, {"PM", 12}, {"FZ", 15}};

template <std::size_t N>
void AppendFlags(std::string& xml, const char* id, const Flag (&flags)[N]) {
  absl::StrAppend(&xml, "<flags id=\"", id, "\" size=\"4\">\n");
  for (const Flag& flag : flags) {
    absl::StrAppend(&xml, "<field name=\"", flag.name, "\" start=\"", flag.bit, "\" end=\"",
                    flag.bit, "\"/>\n");
  }
  absl::StrAppend(&xml, "</flags>\n");
}

struct Feature {
  const char* name;
  std::size_t first, end;
};
constexpr std::size_t kFirstXmm = std::size(kCore);
constexpr std::size_t kFirstLinux = kFirstXmm + kVectors + 1;
constexpr Feature kFeatures[] = {
    {"core", 0, kFirstXmm},
    {"sse", kFirstXmm, kFirstLinux},
    {"linux", kFirstLinux, kFirstLinux + 1},
    {"segments", kFirstLinux + 1, kRegistersWithoutAvx},
    {"avx", kRegistersWithoutAvx, kRegistersWithAvx},
};

// gdb looks at an XMM register as any of these.
constexpr const char* kVectorTypes = R"(<vector id="v4f" type="ieee_single" count="4"/>
<vector id="v2d" type="ieee_double" count="2"/>
<vector id="v16i8" type="int8" count="16"/>
<vector id="v8i16" type="int16" count="8"/>
<vector id="v4i32" type="int32" count="4"/>
<vector id="v2i64" type="int64" count="2"/>
<union id="vec128">
<field name="v4_float" type="v4f"/>
<field name="v2_double" type="v2d"/>
<field name="v16_int8" type="v16i8"/>
<field name="v8_int16" type="v8i16"/>
<field name="v4_int32" type="v4i32"/>
<field name="v2_int64" type="v2i64"/>
<field name="uint128" type="uint128"/>
</union>
)";

}  // namespace

std::size_t RegisterFile::count() const {
  return extended.size() >= kSizeWithAvx ? kRegistersWithAvx : kRegistersWithoutAvx;
}

std::string RegisterFile::Get(std::size_t number) const {
  if (number >= count() || extended.size() < kLeastSize) return {};
  const Row& row = kRows[number];
  const char* const area = reinterpret_cast<const char*>(extended.data());
  switch (row.place) {
    case Place::kGeneral:
      return LittleEndian(general.*kGeneral[row.where], row.width);
    case Place::kFlags:
      return LittleEndian(general.rflags, row.width);
    case Place::kFixed:
      return LittleEndian(row.where, row.width);
    case Place::kStack87:
      return {area + kStack + row.where * kVectorBytes, row.width};
    case Place::kControl: {
      std::string bytes(area + row.where, row.inside);
      bytes.resize(row.width, '\0');
      return bytes;
    }
    case Place::kTag:
      return LittleEndian(TagWord(extended), row.width);
    case Place::kVector:
      return {area + row.where, row.width};
  }
  return {};
}

bool RegisterFile::Set(std::size_t number, std::string_view bytes) {
  if (bytes.empty()) return false;
  const std::string before = Get(number);
  if (bytes.size() != before.size()) return false;
  if (bytes == before) return true;
  const Row& row = kRows[number];
  std::byte* const area = extended.data();
  switch (row.place) {
    case Place::kGeneral:
      general.*kGeneral[row.where] = NumberOf(bytes);
      return true;
    case Place::kFlags:
      general.rflags = dune::x86::rflags::ForUser(NumberOf(bytes));
      return true;
    case Place::kFixed:
      // Before it calls a function gdb says that no system call is to be made again: there is none.
      return row.where == kNoCall;
    case Place::kStack87:
      std::memcpy(area + kStack + row.where * kVectorBytes, bytes.data(), bytes.size());
      break;
    case Place::kControl:
      std::memcpy(area + row.where, bytes.data(), row.inside);
      break;
    case Place::kTag:
      area[kTags] = std::byte{TagsOf(NumberOf(bytes))};
      break;
    case Place::kVector: {
      const std::uint64_t mxcsr = NumberOf(bytes) & kMxcsrKnown;
      const bool is_mxcsr = row.where == kMxcsr;
      std::memcpy(area + row.where, is_mxcsr ? reinterpret_cast<const char*>(&mxcsr) : bytes.data(),
                  bytes.size());
      break;
    }
  }
  // What was in its initial state is not any more.
  auto present = Load<std::uint64_t>(extended, kPresent);
  present |= row.where >= kYmmHigh ? kAvxPresent : kX87Present | kSsePresent;
  std::memcpy(area + kPresent, &present, sizeof(present));
  return true;
}

std::string RegisterFile::GetAll() const {
  std::string all;
  for (std::size_t i = 0; i < count(); ++i) all += Get(i);
  return all;
}

bool RegisterFile::SetAll(std::string_view bytes) {
  for (std::size_t i = 0; i < count(); ++i) {
    const std::size_t width = kRows[i].width;
    if (bytes.size() < width || !Set(i, bytes.substr(0, width))) return false;
    bytes.remove_prefix(width);
  }
  return bytes.empty();
}

std::string TargetDescription(bool has_avx) {
  std::string xml =
      "<?xml version=\"1.0\"?>\n<!DOCTYPE target SYSTEM \"gdb-target.dtd\">\n<target>\n"
      "<architecture>i386:x86-64</architecture>\n<osabi>GNU/Linux</osabi>\n";
  for (const Feature& feature : kFeatures) {
    if (feature.first == kRegistersWithoutAvx && !has_avx) break;
    absl::StrAppend(&xml, "<feature name=\"org.gnu.gdb.i386.", feature.name, "\">\n");
    if (feature.first == 0) AppendFlags(xml, "i386_eflags", kFlags);
    if (feature.first == kFirstXmm) {
      xml += kVectorTypes;
      AppendFlags(xml, "i386_mxcsr", kMxcsrFlags);
    }
    for (std::size_t i = feature.first; i < feature.end; ++i) AppendRegister(xml, kRows[i]);
    xml += "</feature>\n";
  }
  return xml + "</target>\n";
}

}  // namespace dunebox::debugger
