// Functions of a plugin as typed values of the host, and functions of the host as C function pointers of the
// plugin. The types say what may cross the wall; whatever cannot be done safely does not compile:
//
//   parameter of the plugin's function       what the host passes
//   integers, enumerations, floating point   the same
//   T*                                       TaintedPtr<T>, Memory<T>, nullptr; never a pointer of the host's
//   R (*)(A...)                              FunctionPointer<R(A...)> from Sandbox::Export, nullptr
//   result                                   what the host gets
//   void                                     absl::Status
//   integers, enumerations, floating point   absl::StatusOr<Tainted<T>>
//   T*                                       absl::StatusOr<TaintedPtr<T>>
//   a structure of more than 16 bytes        absl::StatusOr<Tainted<T>>
//
// Variable arguments, structures passed by value, small structures returned, long double: refused.
//
//   absl::StatusOr<Function<int(unsigned char*, unsigned long*, const unsigned char*, unsigned long)>> compress =
//       sandbox.Function<int(unsigned char*, unsigned long*, const unsigned char*, unsigned long)>("compress");
//   absl::StatusOr<Tainted<int>> result = (*compress)(to, to_size, from, 100ul);
#ifndef DUNEBOX_SANDBOX_FUNCTION_H_
#define DUNEBOX_SANDBOX_FUNCTION_H_

#include <bit>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "dunebox/call.h"
#include "dunebox/tainted.h"

namespace dunebox {

class Sandbox;

// A function of the host's as the plugin sees it: Sandbox::Export.
template <typename Signature>
class FunctionPointer {
 public:
  FunctionPointer() = default;
  FunctionPointer(std::nullptr_t) {}  // NOLINT: as for pointers
  explicit FunctionPointer(std::uint64_t address) : address_(address) {}
  std::uint64_t address() const { return address_; }

 private:
  std::uint64_t address_ = 0;
};

namespace internal {

template <typename T, std::size_t kMost>
consteval bool IsNoLargerThan() {
  if constexpr (std::is_void_v<T>) {
    return true;
  } else {
    return sizeof(T) <= kMost;
  }
}
template <typename T>
inline constexpr bool kIsNumber = (std::is_integral_v<T> || std::is_enum_v<T> ||
                                   std::is_same_v<T, float> || std::is_same_v<T, double>) &&
                                  IsNoLargerThan<T, 8>();
template <typename T>
inline constexpr bool kIsFloating = std::is_same_v<T, float> || std::is_same_v<T, double>;
// Returned in memory that the caller gives. [abi §3.2.3]
template <typename T>
inline constexpr bool kIsLargeStruct =
    std::is_class_v<T> && std::is_trivially_copyable_v<T> && !IsNoLargerThan<T, 16>();

// As a register has it.
template <typename T>
std::uint64_t ToWord(T value) {
  if constexpr (std::is_same_v<T, float>) {
    return std::bit_cast<std::uint32_t>(value);
  } else if constexpr (std::is_same_v<T, double>) {
    return std::bit_cast<std::uint64_t>(value);
  } else {
    return static_cast<std::uint64_t>(value);  // sign-extended
  }
}
template <typename T>
T FromWord(std::uint64_t word) {
  if constexpr (std::is_same_v<T, float>) {
    return std::bit_cast<float>(static_cast<std::uint32_t>(word));
  } else if constexpr (std::is_same_v<T, double>) {
    return std::bit_cast<double>(word);
  } else if constexpr (std::is_same_v<T, bool>) {
    return (word & 0xff) != 0;
  } else {
    return static_cast<T>(word);
  }
}

// What stands for a parameter on the host's side.
template <typename P>
struct ParameterOf {
  static_assert(kIsNumber<P>, "this type of parameter cannot cross the wall: numbers and pointers can");
  using Type = P;
  static void Add(CallFrame& frame, P value) {
    kIsFloating<P> ? frame.AddVector(ToWord(value)) : frame.AddInteger(ToWord(value));
  }
};
template <typename T>
struct ParameterOf<T*> {
  using Type = std::conditional_t<std::is_function_v<T>, FunctionPointer<T>, TaintedPtr<T>>;
  static void Add(CallFrame& frame, Type value) { frame.AddInteger(value.address()); }
};

template <typename R>
struct ResultOf {
  static_assert(kIsNumber<R> || kIsLargeStruct<R>,
                "this type of result cannot cross the wall: numbers, pointers and structures of more "
                "than 16 bytes can");
  using Type = absl::StatusOr<Tainted<R>>;
};
template <>
struct ResultOf<void> {
  using Type = absl::Status;
};
template <typename T>
struct ResultOf<T*> {
  using Type = absl::StatusOr<TaintedPtr<T>>;
};

// Where a function is: found again when the sandbox has been reset.
class Target {
 public:
  Target(Sandbox& sandbox, std::string name) : sandbox_(sandbox), name_(std::move(name)) {}
  // Of no name: an address of the plugin's.
  Target(Sandbox& sandbox, std::uint64_t address) : sandbox_(sandbox), address_(address) {}
  // The same in another sandbox.
  Target(Sandbox& sandbox, const Target& original)
      : sandbox_(sandbox),
        name_(original.name_),
        address_(original.address_),
        generation_(original.generation_) {}
  absl::Status Find();
  absl::StatusOr<CallResult> Call(const CallFrame& frame);
  // Room in the sandbox for a result, and what is in it after the call.
  absl::StatusOr<CallResult> CallInto(CallFrame& frame, void* result, std::size_t size);

 private:
  Sandbox& sandbox_;
  std::string name_;
  std::uint64_t address_ = 0;
  std::uint64_t generation_ = 0;  // of the libraries that the address was found in
};

}  // namespace internal

template <typename Signature>
class Function {
  static_assert(sizeof(Signature*) == 0,
                "a plugin's function is R(A...), without variable arguments");
};

// Belongs to one host thread at a time; copies are as good as the original. Outlived by its sandbox.
template <typename R, typename... Parameters>
class Function<R(Parameters...)> {
 public:
  explicit Function(internal::Target target) : target_(std::move(target)) {}
  const internal::Target& target() const { return target_; }

  typename internal::ResultOf<R>::Type operator()(
      typename internal::ParameterOf<Parameters>::Type... arguments) {
    static_assert(sizeof...(Parameters) <= internal::kMostStackWords, "too many parameters");
    internal::CallFrame frame;
    if constexpr (internal::kIsLargeStruct<R>) {
      frame.AddInteger(0);  // where the result goes; CallInto knows
      (internal::ParameterOf<Parameters>::Add(frame, arguments), ...);
      R result;
      const absl::StatusOr<internal::CallResult> called =
          target_.CallInto(frame, &result, sizeof(result));
      if (!called.ok()) return called.status();
      return Tainted<R>(result);
    } else {
      (internal::ParameterOf<Parameters>::Add(frame, arguments), ...);
      frame.wants_vector_result = internal::kIsFloating<R>;
      const absl::StatusOr<internal::CallResult> called = target_.Call(frame);
      if constexpr (std::is_void_v<R>) {
        return called.status();
      } else {
        if (!called.ok()) return called.status();
        if constexpr (std::is_pointer_v<R>) {
          return TaintedPtr<std::remove_pointer_t<R>>(called->integer);
        } else {
          return Tainted<R>(
              internal::FromWord<R>(internal::kIsFloating<R> ? called->vector : called->integer));
        }
      }
    }
  }

 private:
  internal::Target target_;
};

namespace internal {

// The host's side of a callback: takes arguments out of registers in the order of the ABI.
class ArgumentReader {
 public:
  explicit ArgumentReader(const CallbackFrame& frame) : frame_(frame) {}

  template <typename P>
  auto Next() {
    if constexpr (std::is_pointer_v<P>) {
      return TaintedPtr<std::remove_pointer_t<P>>(frame_.integers[integer_++]);
    } else {
      static_assert(kIsNumber<P>, "this type of parameter cannot cross the wall");
      return Tainted<P>(
          FromWord<P>(kIsFloating<P> ? frame_.vectors[vector_++] : frame_.integers[integer_++]));
    }
  }

 private:
  const CallbackFrame& frame_;
  std::size_t integer_ = 0, vector_ = 0;
};

template <typename Signature>
struct CallbackOf;
template <typename R, typename... Parameters>
struct CallbackOf<R(Parameters...)> {
  static constexpr std::size_t kVectors = (0 + ... + (kIsFloating<Parameters> ? 1 : 0));
  static_assert(kVectors <= kVectorRegisters && sizeof...(Parameters) - kVectors <= kIntegerRegisters,
                "a callback's arguments have to fit into registers");
  static_assert(std::is_void_v<R> || kIsNumber<R> || std::is_pointer_v<R>);

  template <typename Callable>
  static Callback Make(Callable callable) {
    return {.run =
                [callable = std::move(callable)](CallbackFrame& frame) mutable {
                  ArgumentReader reader(frame);
                  // Braces: in order.
                  std::tuple arguments{reader.template Next<Parameters>()...};
                  if constexpr (std::is_void_v<R>) {
                    std::apply(callable, arguments);
                  } else if constexpr (std::is_pointer_v<R>) {
                    const TaintedPtr<std::remove_pointer_t<R>> result =
                        std::apply(callable, arguments);
                    frame.result.integer = result.address();
                  } else {
                    const R result = std::apply(callable, arguments);
                    (kIsFloating<R> ? frame.result.vector : frame.result.integer) = ToWord(result);
                  }
                },
            .uses_vectors = kVectors != 0 || kIsFloating<R>};
  }
};

}  // namespace internal
}  // namespace dunebox

#endif  // DUNEBOX_SANDBOX_FUNCTION_H_
