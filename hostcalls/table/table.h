// THE system-call table: one row a call of Linux 6.18 x86-64 (syscalls.inc).
//
// Owns the names, argument kinds, routes and notes; refuses to know how a call
// is carried out. A number with no row is answered with ENOSYS.
//
//   if (const Row* row = FindRow(number)) Trace(row->name);
#ifndef DUNEBOX_HOSTCALLS_TABLE_TABLE_H_
#define DUNEBOX_HOSTCALLS_TABLE_TABLE_H_

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

#include "hostcalls/table/argument.h"

namespace dunebox::hostcalls {

enum class Route : std::uint8_t {
  kForwarded,  // arguments validated from their kinds, then issued to the host
  kHandled,    // a handler of hostcalls/services or runtime carries it out
  kDenied,     // EPERM: would hand the guest power over the runtime itself
  kAbsent,     // ENOSYS: not there; the note says why and what programs do then
};

// Families, for policy groups, statistics and the documentation.
enum class Family : std::uint8_t {
  kFiles,
  kDescriptors,
  kMemory,
  kProcess,
  kSignals,
  kTime,
  kFutex,
  kSockets,
  kIdentity,
  kIpc,
  kSystem,
};

inline constexpr int kMaxArguments = 6;
inline constexpr std::uint32_t kSyscallTableSize = 512;  // numbers are below this

struct Row {
  std::uint16_t number;
  const char* name;
  Route route;
  Family family;
  const char* note;  // what is missing or different; "" when it is all there
  std::array<Argument, kMaxArguments> arguments;

  int argument_count() const;
};

// All rows in ascending order of number.
std::span<const Row> AllRows();
// nullptr when the number has no row. Safe against speculative out-of-bounds reads:
// the index is masked, so a mistrained branch cannot read outside the table.
const Row* FindRow(std::uint64_t number);
const Row* FindRow(std::string_view name);

std::string_view ToString(Route route);
std::string_view ToString(Family family);

// One named bit or value of a flag set.
struct FlagName {
  std::uint64_t value;
  std::uint64_t mask;  // the bits that have to equal `value`
  const char* name;
};
std::span<const FlagName> NamesOf(FlagSet set);

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_HOSTCALLS_TABLE_TABLE_H_
