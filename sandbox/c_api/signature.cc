#include "sandbox/c_api/signature.h"

#include <algorithm>
#include <bit>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace dunebox::c_api {
namespace {

struct TypeRow {
  std::string_view name;
  Type type;
};
constexpr TypeRow kTypes[] = {
#define TYPE(name, kind, bytes) {name, {Kind::kind, bytes}},
#include "sandbox/c_api/types.inc"
#undef TYPE
};

constexpr std::string_view kStructurePrefix = "struct:";
constexpr std::size_t kSmallestStructure = 17, kLargestStructure = std::size_t{1} << 20;

std::optional<Type> FindType(std::string_view name) {
  for (const TypeRow& row : kTypes) {
    if (row.name == name) return row.type;
  }
  if (!name.starts_with(kStructurePrefix)) return std::nullopt;
  name.remove_prefix(kStructurePrefix.size());
  std::size_t size = 0;
  const bool is_number = absl::SimpleAtoi(absl::string_view(name.data(), name.size()), &size);
  if (!is_number || size < kSmallestStructure || size > kLargestStructure) return std::nullopt;
  return Type{Kind::kStructure, size};
}

bool IsFloating(const Type& type) {
  return type.kind == Kind::kFloat || type.kind == Kind::kDouble;
}

unsigned BitsAbove(const Type& type) { return static_cast<unsigned>(64 - 8 * type.size); }

std::int64_t SignExtended(std::uint64_t word, const Type& type) {
  return static_cast<std::int64_t>(word << BitsAbove(type)) >> BitsAbove(type);
}
std::uint64_t ZeroExtended(std::uint64_t word, const Type& type) {
  return word << BitsAbove(type) >> BitsAbove(type);
}

bool Fits(const dunebox_value& value, const Type& type) {
  switch (type.kind) {
    case Kind::kSigned:
      return SignExtended(value.u, type) == value.i;
    case Kind::kUnsigned:
      return ZeroExtended(value.u, type) == value.u;
    case Kind::kBool:
      return value.u <= 1;
    case Kind::kVoid:
    case Kind::kFloat:
    case Kind::kDouble:
    case Kind::kPointer:
    case Kind::kStructure:
      return true;
  }
  return true;
}

// As a register has it, and back. What is above the type is not looked at.
std::uint64_t ToWord(const dunebox_value& value, const Type& type) {
  switch (type.kind) {
    case Kind::kVoid:
    case Kind::kStructure:
      return 0;
    case Kind::kSigned:
      return static_cast<std::uint64_t>(SignExtended(value.u, type));
    case Kind::kUnsigned:
      return ZeroExtended(value.u, type);
    case Kind::kBool:
      return value.u != 0 ? 1 : 0;
    case Kind::kFloat:
      return std::bit_cast<std::uint32_t>(value.f32);
    case Kind::kDouble:
    case Kind::kPointer:
      return value.u;
  }
  return 0;
}

dunebox_value FromWord(std::uint64_t word, const Type& type) {
  dunebox_value value{.u = 0};
  switch (type.kind) {
    case Kind::kVoid:
    case Kind::kStructure:
      break;
    case Kind::kSigned:
      value.i = SignExtended(word, type);
      break;
    case Kind::kUnsigned:
      value.u = ZeroExtended(word, type);
      break;
    case Kind::kBool:
      value.u = (word & 0xff) != 0 ? 1 : 0;
      break;
    case Kind::kFloat:
      value.f32 = std::bit_cast<float>(static_cast<std::uint32_t>(word));
      break;
    case Kind::kDouble:
    case Kind::kPointer:
      value.u = word;
      break;
  }
  return value;
}

absl::Status BadSignature(std::string_view text, std::string_view why) {
  return absl::InvalidArgumentError(
      absl::StrCat("signature '", std::string(text), "': ", std::string(why)));
}

}  // namespace

absl::StatusOr<Signature> Signature::Parse(std::string_view text) {
  std::string packed;
  for (const char c : text) {
    if (!absl::ascii_isspace(static_cast<unsigned char>(c))) packed.push_back(c);
  }
  const std::size_t open = packed.find('(');
  if (open == std::string::npos || packed.back() != ')') {
    return BadSignature(text, "is not RESULT(PARAMETER, ...)");
  }
  Signature signature;
  const std::optional<Type> result = FindType(std::string_view(packed).substr(0, open));
  if (!result) return BadSignature(text, "no such type of a result");
  signature.result_ = *result;
  const std::string inside = packed.substr(open + 1, packed.size() - open - 2);
  if (inside.empty() || inside == "void") return signature;
  for (const std::string& name : std::vector<std::string>(absl::StrSplit(inside, ','))) {
    const std::optional<Type> type = FindType(name);
    if (!type || type->kind == Kind::kVoid || type->kind == Kind::kStructure) {
      return BadSignature(text, absl::StrCat("no parameter can be '", name, "'"));
    }
    signature.parameters_.push_back(*type);
  }
  if (signature.count() > kMostParameters) return BadSignature(text, "more than 16 parameters");
  return signature;
}

absl::StatusOr<internal::CallFrame> Signature::Frame(
    std::span<const dunebox_value> arguments) const {
  if (arguments.size() != parameters_.size()) {
    return absl::InvalidArgumentError(absl::StrCat("the function has ", parameters_.size(),
                                                   " parameters, and not ", arguments.size()));
  }
  internal::CallFrame frame;
  if (result_.kind == Kind::kStructure) frame.AddInteger(0);
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const Type& type = parameters_[i];
    if (!Fits(arguments[i], type)) {
      return absl::InvalidArgumentError(
          absl::StrCat("argument ", i + 1, " does not fit into its type"));
    }
    const std::uint64_t word = ToWord(arguments[i], type);
    IsFloating(type) ? frame.AddVector(word) : frame.AddInteger(word);
  }
  frame.wants_vector_result = IsFloating(result_);
  return frame;
}

dunebox_value Signature::ResultIn(const internal::CallResult& result) const {
  return FromWord(IsFloating(result_) ? result.vector : result.integer, result_);
}

absl::Status Signature::CheckForCallback() const {
  const auto vectors =
      static_cast<std::size_t>(std::count_if(parameters_.begin(), parameters_.end(), IsFloating));
  if (result_.kind == Kind::kStructure || vectors > internal::kVectorRegisters ||
      count() - vectors > internal::kIntegerRegisters) {
    return absl::InvalidArgumentError(
        "a callback's arguments and result have to fit into registers");
  }
  return absl::OkStatus();
}

bool Signature::UsesVectors() const {
  return IsFloating(result_) || std::any_of(parameters_.begin(), parameters_.end(), IsFloating);
}

void Signature::ArgumentsIn(const internal::CallbackFrame& frame,
                            std::span<dunebox_value> arguments) const {
  std::size_t integers = 0, vectors = 0;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const Type& type = parameters_[i];
    arguments[i] =
        FromWord(IsFloating(type) ? frame.vectors[vectors++] : frame.integers[integers++], type);
  }
}

internal::CallResult Signature::ResultFrom(const dunebox_value& value) const {
  const std::uint64_t word = ToWord(value, result_);
  return IsFloating(result_) ? internal::CallResult{.vector = word}
                             : internal::CallResult{.integer = word};
}

}  // namespace dunebox::c_api
