// The image for programs in ring 0 (--ring=0) that the build made, embedded in this program.
//
//   std::span<const std::byte> image = ProgramImage();
//   const abi::ProgramImageHeader& header = ProgramHeader();
#ifndef DUNEBOX_LIBDUNE_RING0_PROGRAM_IMAGE_H_
#define DUNEBOX_LIBDUNE_RING0_PROGRAM_IMAGE_H_

#include <cstddef>
#include <span>

#include "hostcalls/abi/ring0_program_abi.h"

namespace dune {

std::span<const std::byte> ProgramImage();
// The header at its start.
const dunebox::abi::ProgramImageHeader& ProgramHeader();

}  // namespace dune

#endif  // DUNEBOX_LIBDUNE_RING0_PROGRAM_IMAGE_H_
