// The kernel's vDSO function that tells the time, made fit to be run in ring 0: a copy of its code
// in which SYSCALL, for what it cannot tell, is an instruction after which it returns a number
// other than 0.
//
// All that can be reached from the function is looked at. Where that holds anything but integer
// instructions, direct jumps, the time-stamp counter, and data in the vDSO and its clock pages,
// there is no such code, and the calls stay the host's.
//
//   std::optional<std::vector<std::byte>> code = ClockCode(image, entry, clock_data_size);
#ifndef DUNEBOX_RUNTIME_PROCESS_CLOCK_CODE_H_
#define DUNEBOX_RUNTIME_PROCESS_CLOCK_CODE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace dunebox::process {

// `image` is a vDSO whose clock pages lie right below it, `entry` the function's place in it:
// int f(clockid_t, timespec*).
std::optional<std::vector<std::byte>> ClockCode(std::span<const std::byte> image,
                                                std::uint64_t entry, std::uint64_t clock_data_size);

}  // namespace dunebox::process

#endif  // DUNEBOX_RUNTIME_PROCESS_CLOCK_CODE_H_
