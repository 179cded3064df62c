// The ring-0 image that the build made, embedded in this program.
//
//   std::span<const std::byte> image = Ring0Image();
//   const abi::ImageHeader& header = Ring0Header();
#ifndef DUNEBOX_LIBDUNE_RING0_IMAGE_H_
#define DUNEBOX_LIBDUNE_RING0_IMAGE_H_

#include <cstddef>
#include <span>

#include "hostcalls/abi/ring0_abi.h"

namespace dune {

std::span<const std::byte> Ring0Image();
// The header at its start; the build asserts its magic.
const dunebox::abi::ImageHeader& Ring0Header();

}  // namespace dune

#endif  // DUNEBOX_LIBDUNE_RING0_IMAGE_H_
