// Decodes a PNG picture with the system's own, unmodified libpng in a sandbox, so that a picture that exploits a
// bug of the library gets no further than the sandbox.
//
//   plugin-host PICTURE.png OUTPUT.ppm [LIBRARY]
//
// What the host relies on it has checked: the size before it allocates, and the pixels only as pixels.
#include <png.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "dunebox/sandbox.h"

namespace {

constexpr const char* kLibrary = "/usr/lib/x86_64-linux-gnu/libpng16.so.16";
constexpr std::uint32_t kMostPixels = 64 << 20;

struct Picture {
  std::uint32_t width = 0, height = 0;
  std::vector<std::uint8_t> pixels;  // RGB
};

absl::StatusOr<Picture> Decode(const std::vector<std::uint8_t>& file, const std::string& library) {
  using dunebox::TaintedPtr;
  absl::StatusOr<std::unique_ptr<dunebox::Sandbox>> made = dunebox::Sandbox::Create(
      {.deadline = absl::Seconds(5), .memory_limit = std::uint64_t{256} << 20});
  if (!made.ok()) return made.status();
  dunebox::Sandbox& sandbox = **made;
  if (absl::Status status = sandbox.Load(library); !status.ok()) return status;
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
  if (width == 0 || height == 0 || height > kMostPixels / width) {
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

}  // namespace

int main(int count, char** arguments) {
  if (count < 3 || count > 4) {
    std::fprintf(stderr, "usage: plugin-host PICTURE.png OUTPUT.ppm [LIBRARY]\n");
    return 2;
  }
  std::ifstream input(arguments[1], std::ios::binary);
  const std::vector<std::uint8_t> file{std::istreambuf_iterator<char>(input), {}};
  if (!input || file.empty()) {
    std::fprintf(stderr, "plugin-host: cannot read %s\n", arguments[1]);
    return 2;
  }
  const absl::StatusOr<Picture> picture = Decode(file, count == 4 ? arguments[3] : kLibrary);
  if (!picture.ok()) {
    std::fprintf(stderr, "plugin-host: %s\n", std::string(picture.status().message()).c_str());
    return 1;
  }
  std::ofstream output(arguments[2], std::ios::binary);
  output << "P6\n" << picture->width << " " << picture->height << "\n255\n";
  output.write(reinterpret_cast<const char*>(picture->pixels.data()),
               static_cast<std::streamsize>(picture->pixels.size()));
  return output ? 0 : 2;
}
