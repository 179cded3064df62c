// What a session may use at most, and the words in which a user says so.
//
// The values of `dunebox run --time, --cpu-time, --mem, --pids, --nofile, --fsize`; nothing means
// no limit of ours. The parsers refuse what they cannot read exactly: no sign, no fraction, no
// unknown unit, nothing that overflows. The ranges are said beside each limit.
//
//   std::optional<std::uint64_t> bytes = ParseSize("512M");              // 536870912
//   std::optional<std::chrono::milliseconds> time = ParseDuration("1m"); // 60,000 ms
#ifndef DUNEBOX_RUNTIME_LIMITS_SESSION_LIMITS_H_
#define DUNEBOX_RUNTIME_LIMITS_SESSION_LIMITS_H_

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace dunebox::runtime {

struct SessionLimits {
  std::optional<std::chrono::milliseconds> wall_time;
  std::optional<std::chrono::milliseconds> cpu_time;  // of all processes together
  std::optional<std::uint64_t> memory;                // bytes, of each process
  std::optional<std::uint64_t> tasks;                 // processes and threads together
  std::optional<std::uint64_t> open_files;            // of each process
  std::optional<std::uint64_t> file_size;             // bytes, of each file written
  std::optional<std::uint64_t> output;                // bytes, to the files it began with
};

// Inclusive.
template <typename T>
struct LimitRange {
  T least;
  T most;
  constexpr bool Contains(T value) const { return least <= value && value <= most; }
};

inline constexpr LimitRange<std::chrono::milliseconds> kTimeRange{std::chrono::milliseconds(1),
                                                                  std::chrono::hours(8760)};
// Below the least a dynamic linker does not get as far as main().
inline constexpr LimitRange<std::uint64_t> kMemoryRange{std::uint64_t{4} << 20,
                                                        std::uint64_t{1} << 40};
inline constexpr LimitRange<std::uint64_t> kTaskRange{1, 32768};
// Opening a program needs a few.
inline constexpr LimitRange<std::uint64_t> kOpenFilesRange{16, std::uint64_t{1} << 20};
// The texts that the runtime makes for /proc and for execve are files, too.
inline constexpr LimitRange<std::uint64_t> kFileSizeRange{std::uint64_t{1} << 20,
                                                          std::uint64_t{1} << 40};

// A whole number of bytes, or of 1024 (K), 1024^2 (M), 1024^3 (G).
std::optional<std::uint64_t> ParseSize(std::string_view text);
// A whole number with a unit: ms, s, m, h.
std::optional<std::chrono::milliseconds> ParseDuration(std::string_view text);
std::optional<std::uint64_t> ParseCount(std::string_view text);

// As one would write it: "10s", "1500ms"; "512M", "1000".
std::string FormatDuration(std::chrono::milliseconds duration);
std::string FormatSize(std::uint64_t bytes);

}  // namespace dunebox::runtime

#endif  // DUNEBOX_RUNTIME_LIMITS_SESSION_LIMITS_H_
