// libpng's simple interface: two calls, and a structure that both sides see.
#include <png.h>

#include <algorithm>
#include <cstddef>

#include "picture.h"

absl::StatusOr<Picture> DecodePng(dunebox::Sandbox& sandbox,
                                  const std::vector<std::uint8_t>& file) {
  auto begin = sandbox.Function<decltype(png_image_begin_read_from_memory)>(
      "png_image_begin_read_from_memory");
  if (!begin.ok()) return begin.status();
  auto finish = sandbox.Function<decltype(png_image_finish_read)>("png_image_finish_read");
  if (!finish.ok()) return finish.status();

  // The structure and the file lie where both sides see them.
  auto image = sandbox.Allocate<png_image>(1);
  auto bytes = sandbox.Allocate<std::uint8_t>(file.size());
  if (!image.ok()) return image.status();
  if (!bytes.ok()) return bytes.status();
  std::ranges::copy(file, bytes->span().begin());
  image->span()[0].version = PNG_IMAGE_VERSION;

  const auto begun = (*begin)(*image, *bytes, file.size());
  if (!begun.ok()) return begun.status();
  // Copied once: what is checked is what is used, whatever the library does to the structure later.
  const std::uint32_t width = image->span()[0].width, height = image->span()[0].height;
  if (begun->UnverifiedValue() == 0) return absl::InvalidArgumentError("no picture");
  if (!IsPossibleSize(width, height)) {
    return absl::OutOfRangeError("the library claims a picture of impossible size");
  }

  image->span()[0].format = PNG_FORMAT_RGB;
  const std::size_t size = std::size_t{width} * height * 3;
  auto pixels = sandbox.Allocate<std::uint8_t>(size);
  if (!pixels.ok()) return pixels.status();
  const auto finished = (*finish)(*image, nullptr, *pixels, 0, nullptr);
  if (!finished.ok()) return finished.status();
  if (finished->UnverifiedValue() == 0) return absl::InvalidArgumentError("a damaged picture");
  return Picture{width, height, {pixels->span().begin(), pixels->span().end()}};
}
