// Values of system calls as text: quoted bytes, flags by name, signals, errors, socket addresses.
//
// Pure functions of their arguments: they read no guest memory. Whatever bytes a program chooses,
// the text is printable ASCII, so a trace cannot send escape sequences to somebody's terminal.
//
//   Quote("a\x1b[2J\n", kNoLimit)          // "a\x1b[2J\n", escaped and in double quotes
//   FlagsText(02000101, FlagSet::kOpen)    // O_WRONLY|O_CREAT|O_CLOEXEC
#ifndef DUNEBOX_HOSTCALLS_TRACE_TEXT_H_
#define DUNEBOX_HOSTCALLS_TRACE_TEXT_H_

#include <signal.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "hostcalls/result.h"
#include "hostcalls/table/table.h"

namespace dunebox::hostcalls {

inline constexpr std::size_t kNoLimit = static_cast<std::size_t>(-1);

// `bytes` as in a C string.
std::string Escape(std::string_view bytes);

// `bytes` escaped and quoted; of more than `limit` bytes, that many and "..." after the quote.
std::string Quote(std::string_view bytes, std::size_t limit);

// 0x1f, or NULL for 0.
std::string AddressText(std::uint64_t address);

// The names joined by |, then what has no name in hexadecimal; 0 when nothing is set.
std::string FlagsText(std::uint64_t value, FlagSet set);

// SIGINT, SIGRT_3 (the kernel counts real-time signals from 32), or the number.
std::string SignalText(int signal);

// {SIGINT,SIGCHLD} for the 64 bits of a signal set.
std::string SignalSetText(std::uint64_t set);

// {AF_INET, 127.0.0.1:80} and the like; `address` is as long as the call said.
std::string SocketAddressText(std::span<const std::byte> address);

// Is this a call whose result is an address?
bool ReturnsAddress(const Row* row);

// What stands after the "= ". `row` is null for a number without one.
std::string ResultText(const Row* row, SyscallResult result);

// "" for a number without a name.
std::string ErrnoName(int error);

// What a siginfo says, by the names of its fields: si_code first, then what its origin fills in.
struct SignalField {
  std::string_view name;
  std::string value;
};
std::vector<SignalField> SignalFields(const siginfo_t& info);

// --- SIGSEGV {si_code=SEGV_MAPERR, si_addr=0x0} ---
std::string FormatSignal(const siginfo_t& info);

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_HOSTCALLS_TRACE_TEXT_H_
