// Decodes a picture with the system's own, unmodified libpng or libjpeg in a sandbox, so that a
// picture that exploits a bug of the library gets no further than the sandbox.
//
//   plugin-host PICTURE OUTPUT.ppm [LIBRARY]
//
// A name that ends in .jpg is libjpeg's, any other libpng's. What the host relies on it has
// checked: the size before it allocates, and the pixels only as pixels.
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "picture.h"

namespace {

constexpr const char* kPngLibrary = "/usr/lib/x86_64-linux-gnu/libpng16.so.16";
constexpr const char* kJpegLibrary = "/usr/lib/x86_64-linux-gnu/libjpeg.so.62";

absl::StatusOr<Picture> Decode(std::string_view name, const std::vector<std::uint8_t>& file,
                               const char* library) {
  const bool is_jpeg = name.ends_with(".jpg");
  if (library == nullptr) library = is_jpeg ? kJpegLibrary : kPngLibrary;
  absl::StatusOr<std::unique_ptr<dunebox::Sandbox>> sandbox = dunebox::Sandbox::Create(
      {.deadline = absl::Seconds(5), .memory_limit = std::uint64_t{256} << 20});
  if (!sandbox.ok()) return sandbox.status();
  if (absl::Status status = (*sandbox)->Load(library); !status.ok()) return status;
  return is_jpeg ? DecodeJpeg(**sandbox, file) : DecodePng(**sandbox, file);
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 3 || count > 4) {
    std::fprintf(stderr, "usage: plugin-host PICTURE OUTPUT.ppm [LIBRARY]\n");
    return 2;
  }
  std::ifstream input(arguments[1], std::ios::binary);
  const std::vector<std::uint8_t> file{std::istreambuf_iterator<char>(input), {}};
  if (!input || file.empty()) {
    std::fprintf(stderr, "plugin-host: cannot read %s\n", arguments[1]);
    return 2;
  }
  const absl::StatusOr<Picture> picture =
      Decode(arguments[1], file, count == 4 ? arguments[3] : nullptr);
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
