// The three kinds of address, which never mix: a guest's virtual address, a
// guest-physical one, and (as an ordinary pointer) ours.
//
// In a whole-program sandbox GuestVirt and host address are numerically equal
// (window base 0), which is just why they need different types.
#ifndef DUNEBOX_HOSTCALLS_MEMORY_ADDRESS_H_
#define DUNEBOX_HOSTCALLS_MEMORY_ADDRESS_H_

#include <compare>
#include <cstdint>

namespace dunebox {

inline constexpr std::uint64_t kPageSize = 4096;

struct GuestVirt {
  std::uint64_t value = 0;
  constexpr auto operator<=>(const GuestVirt&) const = default;
  constexpr GuestVirt operator+(std::uint64_t bytes) const { return {value + bytes}; }
  constexpr GuestVirt operator-(std::uint64_t bytes) const { return {value - bytes}; }
  constexpr std::uint64_t operator-(GuestVirt other) const { return value - other.value; }
};

struct GuestPhys {
  std::uint64_t value = 0;
  constexpr auto operator<=>(const GuestPhys&) const = default;
  constexpr GuestPhys operator+(std::uint64_t bytes) const { return {value + bytes}; }
  constexpr std::uint64_t operator-(GuestPhys other) const { return value - other.value; }
};

// A pointer of the guest: it cannot be dereferenced, only copied through GuestMemory.
template <typename T>
struct GuestPtr {
  std::uint64_t value = 0;
  constexpr bool is_null() const { return value == 0; }
};

// A half-open range of guest addresses [start, end).
struct GuestRange {
  GuestVirt start;
  GuestVirt end;
  constexpr std::uint64_t size() const { return end - start; }
  constexpr bool empty() const { return end <= start; }
  constexpr bool Contains(GuestVirt address) const { return start <= address && address < end; }
  constexpr bool Overlaps(const GuestRange& other) const {
    return start < other.end && other.start < end;
  }
};

constexpr std::uint64_t PageDown(std::uint64_t value) { return value & ~(kPageSize - 1); }
// Wraps to 0 for the last page of the address space; callers check lengths first.
constexpr std::uint64_t PageUp(std::uint64_t value) { return PageDown(value + kPageSize - 1); }
constexpr bool IsPageAligned(std::uint64_t value) { return (value & (kPageSize - 1)) == 0; }

}  // namespace dunebox

#endif  // DUNEBOX_HOSTCALLS_MEMORY_ADDRESS_H_
