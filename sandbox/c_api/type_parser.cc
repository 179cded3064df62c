#include "sandbox/c_api/type_parser.h"

#include <algorithm>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"

namespace dunebox::c_api {
namespace {

using internal::kWord;
using internal::RegisterClass;

struct TypeRow {
  std::string_view name;
  Kind kind;
  std::size_t size;
};
constexpr TypeRow kTypes[] = {
#define TYPE(name, kind, bytes) {name, Kind::kind, bytes},
#include "sandbox/c_api/types.inc"
#undef TYPE
};

constexpr std::string_view kStructurePrefix = "struct:";
constexpr unsigned kDeepest = 16;

// Of a small structure: what each eight bytes of it are, as dunebox/structure.h has it. [abi §3.2.3]
internal::Eightbytes PlacesOf(const std::vector<RegisterClass>& bytes) {
  internal::Eightbytes places;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    RegisterClass& place = places.classes[i / kWord];
    if (bytes[i] == RegisterClass::kInteger || place == RegisterClass::kNone) place = bytes[i];
  }
  return places;
}

// False: it is too large.
bool PadTo(Type& structure, std::size_t alignment) {
  structure.size = (structure.size + alignment - 1) / alignment * alignment;
  if (structure.size > kLargestStructure) return false;
  structure.bytes.resize(structure.size, RegisterClass::kNone);
  return true;
}

}  // namespace

bool TypeParser::Take(std::string_view text) {
  if (!rest_.starts_with(text)) return false;
  rest_.remove_prefix(text.size());
  return true;
}

std::optional<std::size_t> TypeParser::NextNumber() {
  const auto* const end = std::ranges::find_if_not(rest_, [](unsigned char c) { return absl::ascii_isdigit(c); });
  const auto length = static_cast<std::size_t>(end - rest_.begin());
  std::size_t number = 0;
  if (!absl::SimpleAtoi(absl::string_view(rest_.data(), length), &number)) return std::nullopt;
  rest_.remove_prefix(length);
  return number;
}

std::optional<Type> TypeParser::Next(unsigned depth) {
  if (Take("{")) return NextFields(depth + 1);
  if (Take(kStructurePrefix)) {
    const std::optional<std::size_t> size = NextNumber();
    // In which registers a small one is, its fields say.
    if (!size || *size <= internal::kMostSmallBytes || *size > kLargestStructure) return std::nullopt;
    return Type{.kind = Kind::kStructure, .size = *size, .alignment = kWord};
  }
  const auto* const end = std::ranges::find_if_not(rest_, [](unsigned char c) { return absl::ascii_isalnum(c); });
  const std::string_view name = rest_.substr(0, static_cast<std::size_t>(end - rest_.begin()));
  for (const TypeRow& row : kTypes) {
    if (row.name != name) continue;
    rest_.remove_prefix(name.size());
    const bool is_floating = row.kind == Kind::kFloat || row.kind == Kind::kDouble;
    return Type{.kind = row.kind,
                .size = row.size,
                .alignment = std::max<std::size_t>(row.size, 1),
                .bytes = std::vector(row.size, is_floating ? RegisterClass::kVector : RegisterClass::kInteger)};
  }
  return std::nullopt;
}

bool TypeParser::AddField(Type& structure, unsigned depth) {
  const std::optional<Type> field = Next(depth);
  if (!field || field->kind == Kind::kVoid || field->bytes.empty()) return false;
  std::size_t count = 1;
  if (Take("[")) {
    const std::optional<std::size_t> number = NextNumber();
    if (!number || *number == 0 || *number > kLargestStructure || !Take("]")) return false;
    count = *number;
  }
  structure.alignment = std::max(structure.alignment, field->alignment);
  if (!PadTo(structure, field->alignment)) return false;
  if (field->size > (kLargestStructure - structure.size) / count) return false;
  for (std::size_t i = 0; i < count; ++i) {
    structure.bytes.insert(structure.bytes.end(), field->bytes.begin(), field->bytes.end());
    structure.size += field->size;
  }
  return true;
}

std::optional<Type> TypeParser::NextFields(unsigned depth) {
  if (depth > kDeepest) return std::nullopt;
  Type structure{.kind = Kind::kStructure};
  do {
    if (!AddField(structure, depth)) return std::nullopt;
  } while (Take(","));
  if (!Take("}") || !PadTo(structure, structure.alignment)) return std::nullopt;
  if (structure.is_small()) structure.places = PlacesOf(structure.bytes);
  return structure;
}

}  // namespace dunebox::c_api
