// What the kernel says of an address of this process, without an allocation: asked (PROCMAP_QUERY, Linux 6.11), or read
// from the text of /proc/self/maps.
//
// The file stays open: a program that has no descriptor left, or takes the lowest free number, is not disturbed.
//
//   if (maps.Open() < 0) ...;  // and again in a forked child, whose file is the parent's
//   Area area;
//   if (maps.Find(address, &area) && (area.rights & Area::kWrite)) ...
#ifndef DUNEBOX_LIBDUNE_RING0_BACKEND_MEMORY_MAPS_H_
#define DUNEBOX_LIBDUNE_RING0_BACKEND_MEMORY_MAPS_H_

#include <cstddef>
#include <cstdint>

namespace dune::ring0 {

struct Area {
  static constexpr unsigned kRead = 1, kWrite = 2, kExecute = 4;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  unsigned rights = 0;
  bool of_file = false;  // its end may lie before the mapping's
};

// One line of the file, without its end. False: not such a line.
bool ParseMapsLine(const char* line, std::size_t size, Area* area);

class MemoryMaps {
 public:
  // `proc` is a descriptor of /proc, which stays open: a program that changes its root can still be
  // served.
  explicit constexpr MemoryMaps(int proc = -1) : proc_(proc) {}
  // -errno on failure. The file of before is closed, and its number used again.
  long Open();
  void Close();
  // False: nothing is mapped at `address`.
  bool Find(std::uint64_t address, Area* area) const {
    return FindFrom(address, area) && area->begin <= address;
  }
  // The first area that ends behind `address`.
  bool FindFrom(std::uint64_t address, Area* area) const;

  enum class Source : std::uint8_t { kBest, kText };
  constexpr void Use(Source source) { source_ = source; }

 private:
  int proc_;
  int file_ = -1;
  Source source_ = Source::kBest;
};

}  // namespace dune::ring0

#endif  // DUNEBOX_LIBDUNE_RING0_BACKEND_MEMORY_MAPS_H_
