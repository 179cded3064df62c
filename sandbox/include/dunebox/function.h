// Functions of a plugin as typed values of the host, and functions of the host as C function
// pointers of the plugin. The types say what may cross the wall; whatever cannot be done safely
// does not compile:
//
//   parameter of the plugin's function       what the host passes
//   integers, enumerations, floating point   the same
//   T*                                       TaintedPtr<T>, Memory<T>, nullptr; never a pointer of the host's
//   R (*)(A...)                              FunctionPointer<R(A...)> from Sandbox::Export, nullptr
//   a structure                              the same, copied
//
//   result                                   what the host gets
//   void                                     absl::Status
//   integers, enumerations, floating point   absl::StatusOr<Tainted<T>>
//   T*                                       absl::StatusOr<TaintedPtr<T>>
//   a structure                              absl::StatusOr<Tainted<T>>
//
// Structures have to be trivially copyable and no more aligned than a word. Of those of up to 16
// bytes the fields decide in which registers they are (structure.h): plain ones of at most eight
// fields, arrays among them. Variable arguments, unions, bit-fields, long double: refused. What
// lies between the fields of the host's is cleared, where the compiler can (GCC).
//
//   using Compress = int(unsigned char*, unsigned long*, const unsigned char*, unsigned long);
//   absl::StatusOr<Function<Compress>> compress = sandbox.Function<Compress>("compress");
//   absl::StatusOr<Tainted<int>> result = (*compress)(to, to_size, from, 100ul);
#ifndef DUNEBOX_SANDBOX_FUNCTION_H_
#define DUNEBOX_SANDBOX_FUNCTION_H_

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "dunebox/call.h"
#include "dunebox/structure.h"
#include "dunebox/tainted.h"

namespace dunebox {

class Sandbox;

namespace plugin {
class Guest;
}

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
                                   std::is_same_v<T, float> ||
                                   std::is_same_v<T, double>)&&IsNoLargerThan<T, 8>();
template <typename T>
inline constexpr bool kIsFloating = std::is_same_v<T, float> || std::is_same_v<T, double>;
inline constexpr std::size_t kMostCallbackResult = std::size_t{16} << 10;
template <typename T>
inline constexpr bool kIsStructure = kIsSmallStructure<T> || kIsLargeStructure<T>;

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

template <typename T>
inline constexpr std::size_t kWordsOf = (sizeof(T) + kWord - 1) / kWord;
// Without what happened to be in the host's memory between its fields.
template <typename T>
void ClearPadding([[maybe_unused]] T& value) {
#if __has_builtin(__builtin_clear_padding)
  __builtin_clear_padding(&value);
#endif
}
template <typename T>
std::array<std::uint64_t, kWordsOf<T>> ToWords(const T& value) {
  std::array<std::uint64_t, kWordsOf<T>> words{};
  T plain = value;
  ClearPadding(plain);
  std::memcpy(words.data(), &plain, sizeof(plain));
  return words;
}
template <typename T>
T FromWords(std::span<const std::uint64_t> words) {
  T value;
  std::memcpy(&value, words.data(), sizeof(value));
  return value;
}
// No registers for large ones.
template <typename T>
consteval Eightbytes PlacesOf() {
  if constexpr (kIsLargeStructure<T>) {
    return Eightbytes{};
  } else {
    return EightbytesOf<T>();
  }
}

// What stands for a parameter on the host's side.
template <typename P>
struct ParameterOf {
  static_assert(
      kIsNumber<P> || kIsStructure<P>,
      "this type of parameter cannot cross the wall: numbers, pointers and plain structures can");
  using Type = P;
  static void Add(CallFrame& frame, const P& value) {
    if constexpr (kIsStructure<P>) {
      frame.AddStructure(ToWords(value), PlacesOf<P>());
    } else {
      kIsFloating<P> ? frame.AddVector(ToWord(value)) : frame.AddInteger(ToWord(value));
    }
  }
};
template <typename T>
struct ParameterOf<T*> {
  using Type = std::conditional_t<std::is_function_v<T>, FunctionPointer<T>, TaintedPtr<T>>;
  static void Add(CallFrame& frame, Type value) { frame.AddInteger(value.address()); }
};

template <typename R>
struct ResultOf {
  static_assert(
      kIsNumber<R> || kIsStructure<R>,
      "this type of result cannot cross the wall: numbers, pointers and plain structures can");
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

template <typename R>
consteval bool IsInVector() {
  if constexpr (kIsSmallStructure<R>) {
    return PlacesOf<R>().Count(RegisterClass::kVector) != 0;
  } else {
    return kIsFloating<R>;
  }
}

// A small structure in the registers of a result: the next one of its class for each eight bytes.
template <typename R>
R FromResult(const CallResult& result) {
  constexpr Eightbytes kPlaces = PlacesOf<R>();
  const std::array<std::uint64_t, 2> integers = {result.integer, result.second_integer},
                                     vectors = {result.vector, result.second_vector};
  std::array<std::uint64_t, kWordsOf<R>> words{};
  std::size_t integer = 0, vector = 0;
  for (std::size_t i = 0; i < words.size(); ++i) {
    words[i] =
        kPlaces.classes[i] == RegisterClass::kVector ? vectors[vector++] : integers[integer++];
  }
  return FromWords<R>(words);
}
template <typename R>
CallResult ToResult(const R& value) {
  constexpr Eightbytes kPlaces = PlacesOf<R>();
  std::array<std::uint64_t, 2> integers{}, vectors{};
  const auto words = ToWords(value);
  std::size_t integer = 0, vector = 0;
  for (std::size_t i = 0; i < words.size(); ++i) {
    (kPlaces.classes[i] == RegisterClass::kVector ? vectors[vector++] : integers[integer++]) =
        words[i];
  }
  return {.integer = integers[0],
          .vector = vectors[0],
          .second_integer = integers[1],
          .second_vector = vectors[1]};
}

template <typename P>
consteval Used With(Used used) {
  if constexpr (kIsStructure<P>) {
    constexpr Eightbytes kPlaces = PlacesOf<P>();
    used.Add(kPlaces.Count(RegisterClass::kInteger), kPlaces.Count(RegisterClass::kVector),
             kWordsOf<P>);
  } else {
    used.Add(kIsFloating<P> ? 0 : 1, kIsFloating<P> ? 1 : 0, 1);
  }
  return used;
}
// Of all parameters of a function together.
template <typename... Parameters>
consteval Used UsedBy(bool has_large_result) {
  Used used{.integers = has_large_result ? 1u : 0u};
  ((used = With<Parameters>(used)), ...);
  return used;
}

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
  // The same without its name: after Find, for one call.
  Target Found() const {
    Target found(sandbox_, address_);
    found.generation_ = generation_;
    return found;
  }
  absl::StatusOr<CallResult> Call(const CallFrame& frame);
  // Room in the sandbox for a result, and what is in it after the call.
  absl::StatusOr<CallResult> CallInto(CallFrame& frame, void* result, std::size_t size);

 private:
  absl::StatusOr<CallResult> FindAndCall(const CallFrame& frame);
  absl::Status FindIn(plugin::Guest& guest, std::uint64_t generation);

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

// Belongs to one host thread at a time; copies are as good as the original. Outlived by its
// sandbox.
template <typename R, typename... Parameters>
class Function<R(Parameters...)> {
 public:
  explicit Function(internal::Target target) : target_(std::move(target)) {}
  const internal::Target& target() const { return target_; }

  typename internal::ResultOf<R>::Type operator()(
      typename internal::ParameterOf<Parameters>::Type... arguments) {
    static_assert(internal::UsedBy<Parameters...>(internal::kIsLargeStructure<R>).stack <=
                      internal::kMostStackWords,
                  "too many parameters");
    internal::CallFrame frame;
    if constexpr (internal::kIsLargeStructure<R>) {
      frame.AddInteger(0);  // where the result goes; CallInto knows
      (internal::ParameterOf<Parameters>::Add(frame, arguments), ...);
      R result;
      const absl::StatusOr<internal::CallResult> called =
          target_.CallInto(frame, &result, sizeof(result));
      if (!called.ok()) return called.status();
      return Tainted<R>(result);
    } else {
      (internal::ParameterOf<Parameters>::Add(frame, arguments), ...);
      frame.wants_vector_result = internal::IsInVector<R>();
      const absl::StatusOr<internal::CallResult> called = target_.Call(frame);
      if constexpr (std::is_void_v<R>) {
        return called.status();
      } else {
        if (!called.ok()) return called.status();
        if constexpr (std::is_pointer_v<R>) {
          return TaintedPtr<std::remove_pointer_t<R>>(called->integer);
        } else if constexpr (internal::kIsSmallStructure<R>) {
          return Tainted<R>(internal::FromResult<R>(*called));
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

// The host's side of a callback: takes arguments out of registers, and off the stack, in the order
// of the ABI.
class ArgumentReader {
 public:
  ArgumentReader(const CallbackFrame& frame, bool has_large_result)
      : frame_(frame), used_{.integers = has_large_result ? 1u : 0u} {}

  template <typename P>
  auto Next() {
    if constexpr (std::is_pointer_v<P>) {
      return TaintedPtr<std::remove_pointer_t<P>>(NextWord(RegisterClass::kInteger));
    } else if constexpr (kIsStructure<P>) {
      return Tainted<P>(NextStructure<P>());
    } else {
      static_assert(kIsNumber<P>, "this type of parameter cannot cross the wall");
      return Tainted<P>(
          FromWord<P>(NextWord(kIsFloating<P> ? RegisterClass::kVector : RegisterClass::kInteger)));
    }
  }

 private:
  std::uint64_t NextWord(RegisterClass wanted) {
    if (wanted == RegisterClass::kVector) {
      return used_.vectors < kVectorRegisters ? frame_.vectors[used_.vectors++]
                                              : frame_.stack[used_.stack++];
    }
    return used_.integers < kIntegerRegisters ? frame_.integers[used_.integers++]
                                              : frame_.stack[used_.stack++];
  }
  template <typename P>
  P NextStructure() {
    constexpr Eightbytes kPlaces = PlacesOf<P>();
    constexpr unsigned kIntegers = kPlaces.Count(RegisterClass::kInteger);
    constexpr unsigned kVectors = kPlaces.Count(RegisterClass::kVector);
    const bool in_registers = kIntegers + kVectors != 0 && used_.HasRoomFor(kIntegers, kVectors);
    std::array<std::uint64_t, kWordsOf<P>> words{};
    for (std::size_t i = 0; i < words.size(); ++i) {
      words[i] = in_registers ? NextWord(kPlaces.classes[i]) : frame_.stack[used_.stack++];
    }
    return FromWords<P>(words);
  }

  const CallbackFrame& frame_;
  Used used_;
};

template <typename Signature>
struct CallbackOf;
template <typename R, typename... Parameters>
struct CallbackOf<R(Parameters...)> {
  static constexpr Used kUsed = UsedBy<Parameters...>(kIsLargeStructure<R>);
  static_assert(kUsed.stack <= kMostStackWords, "a callback's arguments are too many");
  static_assert(IsNoLargerThan<R, kMostCallbackResult>(), "a callback's result is too large");
  static_assert(
      std::is_void_v<R> || kIsNumber<R> || std::is_pointer_v<R> || kIsStructure<R>,
      "this type of result cannot cross the wall: numbers, pointers and plain structures can");

  template <typename Callable>
  static Callback Make(Callable callable) {
    return {.run =
                [callable = std::move(callable)](CallbackFrame& frame) mutable {
                  ArgumentReader reader(frame, kIsLargeStructure<R>);
                  // Braces: in order.
                  std::tuple arguments{reader.template Next<Parameters>()...};
                  if constexpr (std::is_void_v<R>) {
                    std::apply(callable, arguments);
                  } else if constexpr (std::is_pointer_v<R>) {
                    const TaintedPtr<std::remove_pointer_t<R>> result =
                        std::apply(callable, arguments);
                    frame.result.integer = result.address();
                  } else if constexpr (kIsLargeStructure<R>) {
                    R result = std::apply(callable, arguments);
                    ClearPadding(result);
                    const auto bytes = std::as_bytes(std::span(&result, 1));
                    frame.large_result.assign(bytes.begin(), bytes.end());
                  } else if constexpr (kIsSmallStructure<R>) {
                    const R result = std::apply(callable, arguments);
                    frame.result = ToResult(result);
                  } else {
                    const R result = std::apply(callable, arguments);
                    (kIsFloating<R> ? frame.result.vector : frame.result.integer) = ToWord(result);
                  }
                },
            .uses_vectors = kUsed.vectors != 0 || IsInVector<R>(),
            .stack_words = kUsed.stack,
            .has_large_result = kIsLargeStructure<R>};
  }
};

}  // namespace internal
}  // namespace dunebox

#endif  // DUNEBOX_SANDBOX_FUNCTION_H_
