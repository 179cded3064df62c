#include "sandbox/c_api/signature.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "dunebox/function.h"
#include "sandbox/c_api/type_parser.h"

namespace dunebox::c_api {
namespace {

using internal::RegisterClass;

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
    case Kind::kStructure:
      return value.s != nullptr;
    case Kind::kVoid:
    case Kind::kFloat:
    case Kind::kDouble:
    case Kind::kPointer:
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

std::size_t WordsOf(const Type& type) { return (type.size + internal::kWord - 1) / internal::kWord; }

internal::Used With(internal::Used used, const Type& type) {
  if (type.kind == Kind::kStructure) {
    used.Add(type.places.Count(RegisterClass::kInteger), type.places.Count(RegisterClass::kVector),
             static_cast<unsigned>(WordsOf(type)));
  } else {
    used.Add(IsFloating(type) ? 0 : 1, IsFloating(type) ? 1 : 0, 1);
  }
  return used;
}

// Without what happened to be in the host's memory between its fields.
void CopyFields(const Type& type, const void* from, std::span<std::byte> to) {
  std::memcpy(to.data(), from, type.size);
  for (std::size_t i = 0; i < type.bytes.size(); ++i) {
    if (type.bytes[i] == RegisterClass::kNone) to[i] = std::byte{0};
  }
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
  TypeParser parser(packed);
  Signature signature;
  std::optional<Type> result = parser.Next();
  if (!result) return BadSignature(text, "no such type of a result");
  signature.result_ = *std::move(result);
  if (!parser.Take("(")) return BadSignature(text, "is not RESULT(PARAMETER, ...)");
  if (signature.has_large_result()) signature.used_.integers = 1;
  const bool is_empty = parser.rest() == ")" || parser.rest() == "void)";
  while (!is_empty) {
    const std::string next(parser.rest());
    std::optional<Type> type = parser.Next();
    if (!type || type->kind == Kind::kVoid) return BadSignature(text, absl::StrCat("no parameter can be '", next, "'"));
    signature.used_ = With(signature.used_, *type);
    if (signature.used_.stack > internal::kMostStackWords) {
      return BadSignature(text, "more arguments than there is room for");
    }
    signature.parameters_.push_back(*std::move(type));
    if (!parser.Take(",")) break;
  }
  if (!is_empty && parser.rest() != ")") return BadSignature(text, "is not RESULT(PARAMETER, ...)");
  return signature;
}

absl::StatusOr<internal::CallFrame> Signature::Frame(
    std::span<const dunebox_value> arguments) const {
  if (arguments.size() != parameters_.size()) {
    return absl::InvalidArgumentError(absl::StrCat("the function has ", parameters_.size(),
                                                   " parameters, and not ", arguments.size()));
  }
  internal::CallFrame frame;
  if (has_large_result()) frame.AddInteger(0);
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const Type& type = parameters_[i];
    if (!Fits(arguments[i], type)) {
      return absl::InvalidArgumentError(
          absl::StrCat("argument ", i + 1, " does not fit into its type"));
    }
    if (type.kind == Kind::kStructure) {
      std::array<std::uint64_t, internal::kMostStackWords> words{};
      CopyFields(type, arguments[i].s, std::as_writable_bytes(std::span(words)));
      frame.AddStructure(std::span(words).first(WordsOf(type)), type.places);
      continue;
    }
    const std::uint64_t word = ToWord(arguments[i], type);
    IsFloating(type) ? frame.AddVector(word) : frame.AddInteger(word);
  }
  frame.wants_vector_result = IsFloating(result_) || result_.places.Count(RegisterClass::kVector) != 0;
  return frame;
}

dunebox_value Signature::ResultIn(const internal::CallResult& result) const {
  return FromWord(IsFloating(result_) ? result.vector : result.integer, result_);
}

void Signature::StructureIn(const internal::CallResult& result, void* to) const {
  const std::array<std::uint64_t, 2> integers = {result.integer, result.second_integer},
                                     vectors = {result.vector, result.second_vector};
  std::array<std::uint64_t, 2> words{};
  std::size_t integer = 0, vector = 0;
  for (std::size_t i = 0; i < WordsOf(result_); ++i) {
    words[i] = result_.places.classes[i] == RegisterClass::kVector ? vectors[vector++] : integers[integer++];
  }
  std::memcpy(to, words.data(), result_.size);
}

absl::Status Signature::CheckForCallback() const {
  if (result_.kind == Kind::kStructure && result_.size > internal::kMostCallbackResult) {
    return absl::InvalidArgumentError("a callback's result has at most 16 KiB");
  }
  return absl::OkStatus();
}

bool Signature::UsesVectors() const {
  return used_.vectors != 0 || IsFloating(result_) || result_.places.Count(RegisterClass::kVector) != 0;
}

void Signature::ArgumentsIn(const internal::CallbackFrame& frame,
                            std::span<dunebox_value> arguments, Words& room) const {
  internal::Used used{.integers = has_large_result() ? 1u : 0u};
  const auto next = [&](RegisterClass wanted) {
    if (wanted == RegisterClass::kVector && used.vectors < internal::kVectorRegisters) {
      return frame.vectors[used.vectors++];
    }
    if (wanted == RegisterClass::kInteger && used.integers < internal::kIntegerRegisters) {
      return frame.integers[used.integers++];
    }
    return frame.stack[used.stack++];
  };
  std::size_t words = 0;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const Type& type = parameters_[i];
    if (type.kind != Kind::kStructure) {
      arguments[i] = FromWord(next(IsFloating(type) ? RegisterClass::kVector : RegisterClass::kInteger), type);
      continue;
    }
    const unsigned integers = type.places.Count(RegisterClass::kInteger);
    const unsigned vectors = type.places.Count(RegisterClass::kVector);
    const bool in_registers = integers + vectors != 0 && used.HasRoomFor(integers, vectors);
    arguments[i].s = &room[words];
    for (std::size_t word = 0; word < WordsOf(type); ++word) {
      room[words++] = next(in_registers ? type.places.classes[word] : RegisterClass::kNone);
    }
  }
}

void Signature::PutResult(const dunebox_value& value, std::span<const std::byte> structure,
                          internal::CallbackFrame& frame) const {
  if (has_large_result()) {
    frame.large_result.resize(result_.size);
    CopyFields(result_, structure.data(), frame.large_result);
    return;
  }
  if (result_.kind != Kind::kStructure) {
    (IsFloating(result_) ? frame.result.vector : frame.result.integer) = ToWord(value, result_);
    return;
  }
  std::array<std::uint64_t, 2> words{}, integers{}, vectors{};
  CopyFields(result_, structure.data(), std::as_writable_bytes(std::span(words)));
  std::size_t integer = 0, vector = 0;
  for (std::size_t i = 0; i < WordsOf(result_); ++i) {
    (result_.places.classes[i] == RegisterClass::kVector ? vectors[vector++] : integers[integer++]) = words[i];
  }
  frame.result = {.integer = integers[0], .vector = vectors[0], .second_integer = integers[1], .second_vector = vectors[1]};
}

}  // namespace dunebox::c_api
