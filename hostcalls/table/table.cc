#include "hostcalls/table/table.h"

#include <algorithm>
#include <iterator>
#include <numeric>

namespace dunebox::hostcalls {
namespace {

constexpr Row kRows[] = {
#define SYSCALL(number, name, route, family, note, ...) \
  {number, #name, Route::route, Family::family, note, {{__VA_ARGS__}}},
#include "hostcalls/table/syscalls.inc"
#undef SYSCALL
};

constexpr bool IsAscending() {
  for (std::size_t i = 1; i < std::size(kRows); ++i) {
    if (kRows[i - 1].number >= kRows[i].number) return false;
  }
  return true;
}
static_assert(IsAscending(), "rows of syscalls.inc are in ascending order of number");
static_assert(std::size(kRows) > 0 && std::rbegin(kRows)->number < kSyscallTableSize);
static_assert((kSyscallTableSize & (kSyscallTableSize - 1)) == 0, "FindRow masks with it");

// From a number to its place in kRows.
constexpr std::int16_t kNoRow = -1;
constexpr std::array<std::int16_t, kSyscallTableSize> kIndex = [] {
  std::array<std::int16_t, kSyscallTableSize> index{};
  index.fill(kNoRow);
  for (std::size_t i = 0; i < std::size(kRows); ++i) {
    index[kRows[i].number] = static_cast<std::int16_t>(i);
  }
  return index;
}();

// Places in kRows by name: handlers and filters of a starting process ask for hundreds of them.
constexpr std::array<std::int16_t, std::size(kRows)> kByName = [] {
  std::array<std::int16_t, std::size(kRows)> order{};
  std::iota(order.begin(), order.end(), std::int16_t{0});
  std::ranges::sort(order, {}, [](std::int16_t place) { return std::string_view(kRows[place].name); });
  return order;
}();

// ---- Flag names ---------------------------------------------------------------------------------

#define BIT(name, value) \
  FlagName { value, value, #name }
#define FIELD(name, value, mask) \
  FlagName { value, mask, #name }
#define VALUE(name, value) \
  FlagName { value, ~std::uint64_t{0}, #name }
#define FLAG_SET(set, ...) constexpr FlagName kNames##set[] = {__VA_ARGS__};
#include "hostcalls/table/flag_names.inc"
#undef FLAG_SET
#undef VALUE
#undef FIELD
#undef BIT

}  // namespace

int Row::argument_count() const {
  int count = 0;
  while (count < kMaxArguments &&
         arguments[static_cast<std::size_t>(count)].kind != ArgumentKind::kNone) {
    ++count;
  }
  return count;
}

std::span<const Row> AllRows() { return kRows; }

const Row* FindRow(std::uint64_t number) {
  if (number >= kSyscallTableSize) return nullptr;
  // The guest chooses `number` and can train the branch above to be predicted as not taken. The
  // CPU then runs ahead with any number it likes, and an index outside the table would pull
  // memory of the runtime's into the cache, where the guest can measure it (Spectre v1). The mask
  // keeps the load inside the table however the branch is predicted. Reading the number into a
  // register first stops the compiler from dropping the mask as redundant.
  std::uint64_t index = number;
  asm("" : "+r"(index));
  const std::int16_t place = kIndex[index & (kSyscallTableSize - 1)];
  return place == kNoRow ? nullptr : &kRows[place];
}

const Row* FindRow(std::string_view name) {
  const auto* const found = std::ranges::lower_bound(
      kByName, name, {}, [](std::int16_t place) { return std::string_view(kRows[place].name); });
  if (found == kByName.end() || kRows[*found].name != name) return nullptr;
  return &kRows[*found];
}

std::string_view ToString(Route route) {
  switch (route) {
    case Route::kForwarded:
      return "forwarded";
    case Route::kHandled:
      return "handled";
    case Route::kDenied:
      return "denied";
    case Route::kAbsent:
      return "absent";
  }
  return "?";
}

std::string_view ToString(Family family) {
  switch (family) {
    case Family::kFiles:
      return "files";
    case Family::kDescriptors:
      return "descriptors";
    case Family::kMemory:
      return "memory";
    case Family::kProcess:
      return "process";
    case Family::kSignals:
      return "signals";
    case Family::kTime:
      return "time";
    case Family::kFutex:
      return "futex";
    case Family::kSockets:
      return "sockets";
    case Family::kIdentity:
      return "identity";
    case Family::kIpc:
      return "ipc";
    case Family::kSystem:
      return "system";
  }
  return "?";
}

std::span<const FlagName> NamesOf(FlagSet set) {
  switch (set) {
    case FlagSet::kNone:
      return {};
#define FLAG_SET(set_name, ...) \
  case FlagSet::k##set_name:    \
    return kNames##set_name;
#include "hostcalls/table/flag_names.inc"
#undef FLAG_SET
  }
  return {};
}

}  // namespace dunebox::hostcalls
