// Values that come from a plugin. The host cannot use one by accident: it has to say what it checked.
// They are copies, so what was checked is what is used.
//
//   absl::StatusOr<Tainted<int>> count = get_count();
//   absl::StatusOr<int> checked = count->Verify([](int n) { return n >= 0 && n < 100; });
#ifndef DUNEBOX_SANDBOX_TAINTED_H_
#define DUNEBOX_SANDBOX_TAINTED_H_

#include <cstdint>
#include <type_traits>
#include <utility>

#include "absl/status/statusor.h"

namespace dunebox {

template <typename T>
class Tainted {
 public:
  static_assert(std::is_trivially_copyable_v<T> && !std::is_pointer_v<T>);
  Tainted() = default;
  explicit Tainted(T value) : value_(value) {}

  // The value, if `is_good(value)`; else kOutOfRange.
  template <typename Check>
  absl::StatusOr<T> Verify(Check is_good) const {
    if (is_good(value_)) return value_;
    return absl::OutOfRangeError("a value of the plugin's is not what the host accepts");
  }
  // Whatever it is, within a range.
  template <typename U = T>
  requires std::is_arithmetic_v<U>
  absl::StatusOr<T> Within(U least, U most) const {
    return Verify([&](T value) { return value >= least && value <= most; });
  }
  // For what needs no check: every value will do.
  T UnverifiedValue() const { return value_; }

 private:
  T value_{};
};

// A pointer as the plugin sees it: an address in its window, of no use to the host as it is. Sandbox
// copies what it points to (CopyIn), or allocates it. Has the size of a pointer, and is one in structures
// that are shared with the plugin.
template <typename T>
class TaintedPtr {
 public:
  TaintedPtr() = default;
  TaintedPtr(std::nullptr_t) {}  // NOLINT: as for pointers
  explicit TaintedPtr(std::uint64_t address) : address_(address) {}
  // As pointers convert: to const, to void.
  template <typename U>
  requires(std::is_convertible_v<U*, T*>)
  TaintedPtr(TaintedPtr<U> other) : address_(other.address()) {}  // NOLINT

  std::uint64_t address() const { return address_; }
  bool is_null() const { return address_ == 0; }
  // For fields of structures that a plugin's header declares: never to be followed by the host.
  T* as_field() const { return reinterpret_cast<T*>(address_); }  // NOLINT
  template <typename U>
  TaintedPtr<U> Cast() const {
    return TaintedPtr<U>(address_);
  }
  TaintedPtr operator+(std::uint64_t elements) const
  requires(!std::is_void_v<T> && !std::is_function_v<T>)
  {
    return TaintedPtr(address_ + elements * sizeof(T));
  }
  bool operator==(const TaintedPtr&) const = default;

 private:
  std::uint64_t address_ = 0;
};
static_assert(sizeof(TaintedPtr<int>) == sizeof(int*));

}  // namespace dunebox

#endif  // DUNEBOX_SANDBOX_TAINTED_H_
