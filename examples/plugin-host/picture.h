// What the decoders of this example give: pixels, and nothing else of what the library says.
#ifndef DUNEBOX_EXAMPLES_PLUGIN_HOST_PICTURE_H_
#define DUNEBOX_EXAMPLES_PLUGIN_HOST_PICTURE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "dunebox/sandbox.h"

struct Picture {
  std::uint32_t width = 0, height = 0;
  std::vector<std::uint8_t> pixels;  // RGB
};

// What the host accepts of a library that may claim anything.
constexpr std::uint32_t kMostPixels = 64 << 20;
inline bool IsPossibleSize(std::uint32_t width, std::uint32_t height) {
  return width != 0 && height != 0 && height <= kMostPixels / width;
}

// With the library loaded that it is for.
absl::StatusOr<Picture> DecodePng(dunebox::Sandbox& sandbox, const std::vector<std::uint8_t>& file);
absl::StatusOr<Picture> DecodeJpeg(dunebox::Sandbox& sandbox,
                                   const std::vector<std::uint8_t>& file);

#endif  // DUNEBOX_EXAMPLES_PLUGIN_HOST_PICTURE_H_
