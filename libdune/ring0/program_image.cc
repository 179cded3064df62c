#include "libdune/ring0/program_image.h"

namespace dune {

extern "C" {
extern const std::byte dune_program_image_start[];
extern const std::byte dune_program_image_end[];
}

std::span<const std::byte> ProgramImage() {
  return {dune_program_image_start,
          static_cast<std::size_t>(dune_program_image_end - dune_program_image_start)};
}

const dunebox::abi::ProgramImageHeader& ProgramHeader() {
  return *reinterpret_cast<const dunebox::abi::ProgramImageHeader*>(dune_program_image_start);
}

}  // namespace dune
