// Up to where this process can map memory for guests: the end of the user half; in a build with ThreadSanitizer the end of
// what that knows as a program's memory (it refuses to map anything between there and its own).
//
//   const std::uint64_t at = kMappableEnd / 2;   // above AddressSanitizer's shadow, too
#ifndef DUNEBOX_HOSTCALLS_MEMORY_MAPPABLE_H_
#define DUNEBOX_HOSTCALLS_MEMORY_MAPPABLE_H_

#include <cstdint>

namespace dunebox {

#ifdef __SANITIZE_THREAD__
inline constexpr std::uint64_t kMappableEnd = std::uint64_t{1} << 39;
#else
inline constexpr std::uint64_t kMappableEnd = std::uint64_t{1} << 46;
#endif

}  // namespace dunebox

#endif  // DUNEBOX_HOSTCALLS_MEMORY_MAPPABLE_H_
