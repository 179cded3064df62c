// libjpeg's interface: a structure full of pointers, which are the library's business; the host
// reads two numbers in it. An error of libjpeg's calls exit, which ends the sandbox and not the
// host.
#include <cstddef>
#include <cstdio>
// It needs what is above.
#include <jpeglib.h>

#include <algorithm>

#include "picture.h"

namespace {

using dunebox::Function;

// A function of the library's, called with what it takes.
template <typename Signature, typename... Arguments>
auto Call(dunebox::Sandbox& sandbox, const char* name, Arguments&&... arguments) {
  absl::StatusOr<Function<Signature>> function = sandbox.Function<Signature>(name);
  using Result = decltype((*function)(arguments...));
  if (!function.ok()) return Result(function.status());
  return (*function)(arguments...);
}

}  // namespace

absl::StatusOr<Picture> DecodeJpeg(dunebox::Sandbox& sandbox,
                                   const std::vector<std::uint8_t>& file) {
  auto errors = sandbox.Allocate<jpeg_error_mgr>(1);
  auto image = sandbox.Allocate<jpeg_decompress_struct>(1);
  auto bytes = sandbox.Allocate<std::uint8_t>(file.size());
  if (!errors.ok()) return errors.status();
  if (!image.ok()) return image.status();
  if (!bytes.ok()) return bytes.status();
  std::ranges::copy(file, bytes->span().begin());
  const auto handlers = Call<decltype(jpeg_std_error)>(sandbox, "jpeg_std_error", *errors);
  if (!handlers.ok()) return handlers.status();
  image->span()[0].err = handlers->as_field();

  absl::Status done = Call<decltype(jpeg_CreateDecompress)>(
      sandbox, "jpeg_CreateDecompress", *image, JPEG_LIB_VERSION, sizeof(jpeg_decompress_struct));
  if (!done.ok()) return done;
  done = Call<decltype(jpeg_mem_src)>(sandbox, "jpeg_mem_src", *image, *bytes, file.size());
  if (!done.ok()) return done;
  const auto header = Call<decltype(jpeg_read_header)>(sandbox, "jpeg_read_header", *image, TRUE);
  if (!header.ok()) return header.status();
  image->span()[0].out_color_space = JCS_RGB;
  const auto started =
      Call<decltype(jpeg_start_decompress)>(sandbox, "jpeg_start_decompress", *image);
  if (!started.ok()) return started.status();

  // Copied once: what is checked is what is used.
  const std::uint32_t width = image->span()[0].output_width,
                      height = image->span()[0].output_height;
  if (!IsPossibleSize(width, height)) {
    return absl::OutOfRangeError("the library claims a picture of impossible size");
  }
  const std::size_t stride = std::size_t{width} * 3;
  auto pixels = sandbox.Allocate<std::uint8_t>(stride * height);
  auto rows = sandbox.Allocate<JSAMPROW>(height);
  if (!pixels.ok()) return pixels.status();
  if (!rows.ok()) return rows.status();
  for (std::uint32_t row = 0; row < height; ++row) {
    rows->span()[row] = (pixels->guest() + row * stride).as_field();
  }
  for (std::uint32_t row = 0; row < height;) {
    const auto read = Call<decltype(jpeg_read_scanlines)>(sandbox, "jpeg_read_scanlines", *image,
                                                          rows->guest() + row, height - row);
    if (!read.ok()) return read.status();
    const auto count = read->Within(1u, height - row);
    if (!count.ok()) return absl::InvalidArgumentError("a damaged picture");
    row += *count;
  }
  return Picture{width, height, {pixels->span().begin(), pixels->span().end()}};
}
