#include "hostcalls/generated_page.h"

#include <fstream>
#include <iostream>
#include <iterator>
#include <string_view>

namespace dunebox {
namespace {

int Write(const std::string& page, const char* path) {
  std::ofstream file(path, std::ios::binary);
  file << page;
  file.close();
  if (file.good()) return 0;
  std::cerr << path << ": cannot be written\n";
  return 1;
}

int Check(const std::string& page, const char* path) {
  std::ifstream file(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (text == page) return 0;
  std::cerr << path << " is not what its table says: build the target `docs`\n";
  return 1;
}

}  // namespace

int WriteGeneratedPage(const std::string& page, std::span<char* const> arguments) {
  if (arguments.size() == 1) {
    std::cout << page;
    return 0;
  }
  const std::string_view mode = arguments[1];
  if (arguments.size() == 3 && mode == "--write") return Write(page, arguments[2]);
  if (arguments.size() == 3 && mode == "--check") return Check(page, arguments[2]);
  std::cerr << "usage: " << arguments[0] << " [--write FILE | --check FILE]\n";
  return 2;
}

}  // namespace dunebox
