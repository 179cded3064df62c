// The part of every compartment's window that is for regions: nothing else of the guest's ever lies
// there, and each region has one place in it, the same in all compartments of the process.
//
//   0x0010_0000  regions, a free page behind each
//   0x0f00_0000  end; images of libraries begin at 0x1000_0000 (runtime/memory/layout.h)
//
//   std::optional<RegionPlace> place = FindRegion(0x10'0010);   // {"key", 0x10}
#ifndef DUNEBOX_SANDBOX_COMPARTMENT_REGION_AREA_H_
#define DUNEBOX_SANDBOX_COMPARTMENT_REGION_AREA_H_

#include <cstdint>
#include <optional>
#include <string>

#include "dunebox/grants.h"
#include "hostcalls/memory/address.h"

namespace dunebox::compartment {

inline constexpr GuestRange kRegionArea{GuestVirt{0x0010'0000}, GuestVirt{0x0f00'0000}};

struct RegionPlace {
  const Region* region;  // alive as long as somebody has it; for comparing
  std::string name;
  std::uint64_t offset;
};
// The region that has the address, whoever was granted it. Nothing: none.
std::optional<RegionPlace> FindRegion(std::uint64_t address);

// The pages of a region.
GuestRange RangeOf(const Region& region);

}  // namespace dunebox::compartment

#endif  // DUNEBOX_SANDBOX_COMPARTMENT_REGION_AREA_H_
