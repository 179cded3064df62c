// The type of a plugin's function where there is no compiler to know it: "i32(ptr, u64)" as
// dunebox_find takes it, and what becomes of values in registers. The rules are those of
// dunebox/function.h.
//
//   absl::StatusOr<Signature> signature = Signature::Parse("f64(f64, i32)");
//   absl::StatusOr<internal::CallFrame> frame = signature->Frame(values);
#ifndef DUNEBOX_SANDBOX_C_API_SIGNATURE_H_
#define DUNEBOX_SANDBOX_C_API_SIGNATURE_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "dunebox.h"
#include "dunebox/call.h"

namespace dunebox::c_api {

enum class Kind : std::uint8_t {
  kVoid,  // as a result only
  kSigned,
  kUnsigned,
  kBool,
  kFloat,
  kDouble,
  kPointer,
  kStructure,  // as a result only: more than 16 bytes, returned in memory
};

struct Type {
  Kind kind = Kind::kVoid;
  std::size_t size = 0;
};

class Signature {
 public:
  static absl::StatusOr<Signature> Parse(std::string_view text);

  const Type& result() const { return result_; }
  // How many arguments; structures as results do not count.
  std::size_t count() const { return parameters_.size(); }

  // kInvalidArgument: an integer is none of its type's. The place of a structure is left 0.
  absl::StatusOr<internal::CallFrame> Frame(std::span<const dunebox_value> arguments) const;
  dunebox_value ResultIn(const internal::CallResult& result) const;

  // ---- for callbacks
  absl::Status CheckForCallback() const;
  bool UsesVectors() const;
  void ArgumentsIn(const internal::CallbackFrame& frame, std::span<dunebox_value> arguments) const;
  internal::CallResult ResultFrom(const dunebox_value& value) const;

 private:
  Type result_;
  std::vector<Type> parameters_;
};

inline constexpr std::size_t kMostParameters = internal::kMostStackWords;

}  // namespace dunebox::c_api

#endif  // DUNEBOX_SANDBOX_C_API_SIGNATURE_H_
