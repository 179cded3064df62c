#include "libdune/ring0/image.h"

namespace dune {

extern "C" {
extern const std::byte dune_ring0_image_start[];
extern const std::byte dune_ring0_image_end[];
}

std::span<const std::byte> Ring0Image() {
  return {dune_ring0_image_start,
          static_cast<std::size_t>(dune_ring0_image_end - dune_ring0_image_start)};
}

const dunebox::abi::ImageHeader& Ring0Header() {
  return *reinterpret_cast<const dunebox::abi::ImageHeader*>(dune_ring0_image_start);
}

}  // namespace dune
