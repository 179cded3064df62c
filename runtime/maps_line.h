// The lines of /proc/self/maps, taken apart. [proc(5)]
//
//   for (const MapsLine& line : ParseMaps(*ReadTextFile("/proc/self/maps"))) ...
#ifndef DUNEBOX_RUNTIME_MAPS_LINE_H_
#define DUNEBOX_RUNTIME_MAPS_LINE_H_

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace dunebox::runtime {

// The texts are parts of the one that was parsed.
struct MapsLine {
  std::string_view text;  // the whole line
  std::uint64_t start;    // addresses
  std::uint64_t end;
  std::string_view rights;  // four letters: "r-xp"
  std::uint64_t offset;     // in the file, bytes
  dev_t device;             // as stat(2) has it
  std::uint64_t inode;
  std::string_view name;  // a path, which may have spaces in it; "[stack]" and its like; or nothing
};

// Nothing: it is no such line. Pure, as the next.
std::optional<MapsLine> ParseMapsLine(std::string_view text);
// Of all lines that are such.
std::vector<MapsLine> ParseMaps(std::string_view text);

}  // namespace dunebox::runtime

#endif  // DUNEBOX_RUNTIME_MAPS_LINE_H_
