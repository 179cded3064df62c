// Where the runtime's ring-0 image lies and what its header says; the file is the built ring0.bin, given as an argument.
#ifndef DUNEBOX_TESTS_VICTIMS_IMAGE_H_
#define DUNEBOX_TESTS_VICTIMS_IMAGE_H_

#include <cstdio>
#include <cstdlib>

#include "hostcalls/abi/ring0_abi.h"

namespace victim {

inline dunebox::abi::ImageHeader ReadImageHeader(int argc, char** argv) {
  dunebox::abi::ImageHeader header{};
  FILE* file = argc > 1 ? std::fopen(argv[1], "r") : nullptr;
  if (file == nullptr || std::fread(&header, sizeof(header), 1, file) != 1 || header.magic != DUNE_IMAGE_MAGIC) {
    std::printf("the argument has to be the built ring0.bin\n");
    std::exit(2);
  }
  std::fclose(file);
  return header;
}

}  // namespace victim

#endif  // DUNEBOX_TESTS_VICTIMS_IMAGE_H_
