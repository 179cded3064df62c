// The type of a plugin's function where there is no compiler to know it: "i32(ptr, {f64, f64})" as
// dunebox_find takes it, and what becomes of values in registers and on the stack. The rules are those of
// dunebox/function.h.
//
//   absl::StatusOr<Signature> signature = Signature::Parse("f64(f64, i32)");
//   absl::StatusOr<internal::CallFrame> frame = signature->Frame(values);
#ifndef DUNEBOX_SANDBOX_C_API_SIGNATURE_H_
#define DUNEBOX_SANDBOX_C_API_SIGNATURE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "dunebox.h"
#include "dunebox/call.h"
#include "dunebox/structure.h"

namespace dunebox::c_api {

enum class Kind : std::uint8_t {
  kVoid,  // as a result only
  kSigned,
  kUnsigned,
  kBool,
  kFloat,
  kDouble,
  kPointer,
  kStructure,
};

struct Type {
  Kind kind = Kind::kVoid;
  std::size_t size = 0;
  std::size_t alignment = 1;
  // Of structures.
  internal::Eightbytes places{};               // kNone: in memory
  std::vector<internal::RegisterClass> bytes;  // what each is of; kNone: between fields. Empty: nobody knows

  // Whether it goes in registers, if there are enough.
  bool is_small() const { return size <= internal::kMostSmallBytes; }
};

class Signature {
 public:
  static absl::StatusOr<Signature> Parse(std::string_view text);

  const Type& result() const { return result_; }
  // How many arguments; where structures go that are results does not count.
  std::size_t count() const { return parameters_.size(); }

  // kInvalidArgument: an integer is none of its type's, or a structure is not there. The place of a large structure
  // is left 0.
  absl::StatusOr<internal::CallFrame> Frame(std::span<const dunebox_value> arguments) const;
  dunebox_value ResultIn(const internal::CallResult& result) const;
  // Of a small structure.
  void StructureIn(const internal::CallResult& result, void* to) const;

  // ---- for callbacks
  absl::Status CheckForCallback() const;
  bool UsesVectors() const;
  unsigned stack_words() const { return used_.stack; }
  bool has_large_result() const { return result_.kind == Kind::kStructure && !result_.is_small(); }
  // Structures are copied to `room`, and named.
  static constexpr std::size_t kMostWords =
      internal::kIntegerRegisters + internal::kVectorRegisters + internal::kMostStackWords;
  using Words = std::array<std::uint64_t, kMostWords>;
  void ArgumentsIn(const internal::CallbackFrame& frame, std::span<dunebox_value> arguments,
                   Words& room) const;
  // `structure`: where one is that is the result.
  void PutResult(const dunebox_value& value, std::span<const std::byte> structure,
                 internal::CallbackFrame& frame) const;

 private:
  Type result_;
  std::vector<Type> parameters_;
  internal::Used used_;  // of all parameters
};

// Each takes a register or a word of the stack.
inline constexpr std::size_t kMostParameters = Signature::kMostWords;

}  // namespace dunebox::c_api

#endif  // DUNEBOX_SANDBOX_C_API_SIGNATURE_H_
