// In which registers a structure of up to 16 bytes travels, found out from its fields at compile
// time. Nothing here is for hosts to use directly.
//
// Each eight bytes of it go into a vector register if they hold floating point only, into an
// integer register otherwise [abi §3.2.3]. What this cannot take apart it refuses, rather than
// guess: classes with constructors or bases, unions, fields that are not where their types'
// alignment puts them (bit-fields, packed ones).
//
//   struct Point { double x, y; };
//   static_assert(kIsSmallStructure<Point>);
//   constexpr Eightbytes kPlaces = EightbytesOf<Point>();   // two of kVector
#ifndef DUNEBOX_SANDBOX_STRUCTURE_H_
#define DUNEBOX_SANDBOX_STRUCTURE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "dunebox/tainted.h"

namespace dunebox::internal {

inline constexpr std::size_t kWord = 8, kMostSmallBytes = 2 * kWord;

enum class RegisterClass : std::uint8_t { kNone, kInteger, kVector };

struct Eightbytes {
  std::array<RegisterClass, 2> classes{};
  std::size_t alignment = 1;
  bool is_known = true;

  constexpr unsigned Count(RegisterClass wanted) const {
    return (classes[0] == wanted ? 1u : 0u) + (classes[1] == wanted ? 1u : 0u);
  }
};

// ---- the fields of an aggregate: how many, and their types

// Never made: stands for a field of any type.
template <std::size_t>
struct AnyField {
  template <typename Field>
  constexpr operator Field() const noexcept;  // NOLINT
};

template <typename T, std::size_t... kAll>
consteval bool TakesFields(std::index_sequence<kAll...>) {
  return requires { T{AnyField<kAll>()...}; };
}
template <typename T, std::size_t... kLeft, std::size_t... kGroup, std::size_t... kRight>
consteval bool TakesGroup(std::index_sequence<kLeft...>, std::index_sequence<kGroup...>,
                          std::index_sequence<kRight...>) {
  return requires { T{AnyField<kLeft>()..., {AnyField<kGroup>()...}, AnyField<kRight>()...}; };
}

// How many initialisers, each element of an array being one.
template <typename T, std::size_t kKnown = 0>
consteval std::size_t InitializerCount() {
  if constexpr (kKnown < kMostSmallBytes &&
                TakesFields<T>(std::make_index_sequence<kKnown + 1>())) {
    return InitializerCount<T, kKnown + 1>();
  } else {
    return kKnown;
  }
}
// How many of them belong to the field that begins with initialiser kFirst: more than one for an
// array, which is what takes exactly so many in braces of its own.
template <typename T, std::size_t kFirst, std::size_t kGroup>
consteval std::size_t GroupSize() {
  if constexpr (kGroup <= 1) {
    return 1;
  } else {
    constexpr std::size_t kRest = InitializerCount<T>() - kFirst - kGroup;
    if constexpr (TakesGroup<T>(std::make_index_sequence<kFirst>(),
                                std::make_index_sequence<kGroup>(),
                                std::make_index_sequence<kRest>()) &&
                  !TakesGroup<T>(std::make_index_sequence<kFirst>(),
                                 std::make_index_sequence<kGroup>(),
                                 std::make_index_sequence<kRest + 1>())) {
      return kGroup;
    } else {
      return GroupSize<T, kFirst, kGroup - 1>();
    }
  }
}
template <typename T, std::size_t kFirst = 0>
consteval std::size_t FieldCount() {
  if constexpr (kFirst >= InitializerCount<T>()) {
    return 0;
  } else {
    return 1 + FieldCount<T, kFirst + GroupSize<T, kFirst, InitializerCount<T>() - kFirst>()>();
  }
}

template <typename... Fields>
struct FieldList {};

// Of the type only: it is never called. Bindings are the one way to name what has no name here.
template <std::size_t kCount, typename T>
constexpr auto FieldsOf(const T& value) {
#define DUNEBOX_FIELDS(count, ...)                      \
  if constexpr (kCount == count) {                      \
    [[maybe_unused]] const auto& [__VA_ARGS__] = value; \
    return DUNEBOX_FIELD_LIST_##count(__VA_ARGS__);     \
  } else
#define DUNEBOX_FIELD_LIST_1(a) FieldList<decltype(a)>()
#define DUNEBOX_FIELD_LIST_2(a, b) FieldList<decltype(a), decltype(b)>()
#define DUNEBOX_FIELD_LIST_3(a, b, c) FieldList<decltype(a), decltype(b), decltype(c)>()
#define DUNEBOX_FIELD_LIST_4(a, b, c, d) \
  FieldList<decltype(a), decltype(b), decltype(c), decltype(d)>()
#define DUNEBOX_FIELD_LIST_5(a, b, c, d, e) \
  FieldList<decltype(a), decltype(b), decltype(c), decltype(d), decltype(e)>()
#define DUNEBOX_FIELD_LIST_6(a, b, c, d, e, f) \
  FieldList<decltype(a), decltype(b), decltype(c), decltype(d), decltype(e), decltype(f)>()
#define DUNEBOX_FIELD_LIST_7(a, b, c, d, e, f, g)                                         \
  FieldList<decltype(a), decltype(b), decltype(c), decltype(d), decltype(e), decltype(f), \
            decltype(g)>()
#define DUNEBOX_FIELD_LIST_8(a, b, c, d, e, f, g, h)                                      \
  FieldList<decltype(a), decltype(b), decltype(c), decltype(d), decltype(e), decltype(f), \
            decltype(g), decltype(h)>()
  DUNEBOX_FIELDS(1, a)
  DUNEBOX_FIELDS(2, a, b)
  DUNEBOX_FIELDS(3, a, b, c)
  DUNEBOX_FIELDS(4, a, b, c, d)
  DUNEBOX_FIELDS(5, a, b, c, d, e)
  DUNEBOX_FIELDS(6, a, b, c, d, e, f)
  DUNEBOX_FIELDS(7, a, b, c, d, e, f, g)
  DUNEBOX_FIELDS(8, a, b, c, d, e, f, g, h)
  return FieldList<>();
#undef DUNEBOX_FIELDS
#undef DUNEBOX_FIELD_LIST_1
#undef DUNEBOX_FIELD_LIST_2
#undef DUNEBOX_FIELD_LIST_3
#undef DUNEBOX_FIELD_LIST_4
#undef DUNEBOX_FIELD_LIST_5
#undef DUNEBOX_FIELD_LIST_6
#undef DUNEBOX_FIELD_LIST_7
#undef DUNEBOX_FIELD_LIST_8
}

// ---- where each field lies

template <typename T>
inline constexpr bool kIsTaintedPtr = false;
template <typename T>
inline constexpr bool kIsTaintedPtr<TaintedPtr<T>> = true;
template <typename T>
inline constexpr bool kIsWordClass =
    std::is_integral_v<T> || std::is_enum_v<T> || std::is_pointer_v<T> || kIsTaintedPtr<T>;
template <typename T>
inline constexpr bool kIsFloatingClass = std::is_same_v<T, float> || std::is_same_v<T, double>;

// Notes a field of type T at or behind `offset`; where it ends. Like those it calls not consteval: clang before 15 takes
// what one such function passes on to another for no constant.
template <typename T>
constexpr std::size_t PlaceField(Eightbytes& places, std::size_t offset);

template <typename... Fields>
constexpr std::size_t PlaceFields(FieldList<Fields...>, Eightbytes& places, std::size_t offset) {
  ((offset = PlaceField<std::remove_cv_t<Fields>>(places, offset)), ...);
  return offset;
}

constexpr std::size_t RoundedUp(std::size_t offset, std::size_t alignment) {
  return (offset + alignment - 1) / alignment * alignment;
}

template <typename T>
constexpr std::size_t PlaceField(Eightbytes& places, std::size_t offset) {
  const std::size_t start = RoundedUp(offset, alignof(T));
  if (start + sizeof(T) > kMostSmallBytes) places.is_known = false;
  if (!places.is_known) return start;
  if constexpr (std::is_array_v<T>) {
    std::size_t end = start;
    for (std::size_t i = 0; i < std::extent_v<T>; ++i) {
      end = PlaceField<std::remove_cv_t<std::remove_extent_t<T>>>(places, end);
    }
  } else if constexpr ((kIsWordClass<T> || kIsFloatingClass<T>)&&sizeof(T) <= kWord) {
    RegisterClass& place = places.classes[start / kWord];
    if (kIsWordClass<T>) {
      place = RegisterClass::kInteger;
    } else if (place == RegisterClass::kNone) {
      place = RegisterClass::kVector;
    }
  } else if constexpr (std::is_aggregate_v<T> && std::is_class_v<T> && !std::is_empty_v<T>) {
    constexpr std::size_t kCount = FieldCount<T>();
    if constexpr (kCount >= 1 && kCount <= 8) {
      using List = decltype(FieldsOf<kCount>(std::declval<const T&>()));
      const std::size_t end = RoundedUp(PlaceFields(List(), places, start), alignof(T));
      if (end != start + sizeof(T)) places.is_known = false;
    } else {
      places.is_known = false;
    }
  } else {
    places.is_known = false;
  }
  return start + sizeof(T);
}

template <typename T>
consteval Eightbytes EightbytesOf() {
  Eightbytes places;
  PlaceField<T>(places, 0);
  return places;
}

template <typename T>
inline constexpr bool kIsAlignedAsWords = alignof(T) <= kWord;

template <typename T>
consteval bool IsSmallStructure() {
  if constexpr (std::is_class_v<T> && std::is_trivially_copyable_v<T> && !kIsTaintedPtr<T>) {
    if constexpr (sizeof(T) <= kMostSmallBytes && kIsAlignedAsWords<T>) {
      return EightbytesOf<T>().is_known;
    }
  }
  return false;
}
// Passed and returned in registers, if there are enough.
template <typename T>
inline constexpr bool kIsSmallStructure = IsSmallStructure<T>();

template <typename T>
consteval bool IsLargeStructure() {
  if constexpr (std::is_class_v<T> && std::is_trivially_copyable_v<T>) {
    return sizeof(T) > kMostSmallBytes && kIsAlignedAsWords<T>;
  }
  return false;
}
// Passed on the stack, and returned in memory that the caller gives.
template <typename T>
inline constexpr bool kIsLargeStructure = IsLargeStructure<T>();

}  // namespace dunebox::internal

#endif  // DUNEBOX_SANDBOX_STRUCTURE_H_
