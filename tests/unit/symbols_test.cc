#include "runtime/loader/symbols.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>

namespace dunebox::loader {
namespace {

using ::testing::IsEmpty;
using ::testing::Not;

// A function of this program whose name is the same in every symbol table.
extern "C" [[gnu::noinline]] int dunebox_symbols_test_marker(int value) { return value * 3 + 1; }

const Symbol* Find(const std::vector<Symbol>& symbols, const char* name) {
  const auto found = std::ranges::find(symbols, name, &Symbol::name);
  return found == symbols.end() ? nullptr : &*found;
}

TEST(Symbols, AFunctionIsFoundByAnyOfItsBytesAndNoFurther) {
  ASSERT_EQ(dunebox_symbols_test_marker(2), 7);
  const std::vector<Symbol> symbols = ReadSymbols("/proc/self/exe");
  const Symbol* marker = Find(symbols, "dunebox_symbols_test_marker");
  ASSERT_NE(marker, nullptr);
  SymbolNames names;
  EXPECT_EQ(names.NameOf("/proc/self/exe", marker->offset), marker->name);
  EXPECT_EQ(names.NameOf("/proc/self/exe", marker->offset + 1), marker->name + "+0x1");
  EXPECT_NE(names.NameOf("/proc/self/exe", marker->offset + marker->size), marker->name);
}

TEST(Symbols, WhatIsNoElfFileHasNoNames) {
  EXPECT_THAT(ReadSymbols("/no/such/file"), IsEmpty());
  EXPECT_THAT(ReadSymbols("/etc/passwd"), IsEmpty());
  EXPECT_THAT(ReadSymbols("/"), IsEmpty());
  SymbolNames names;
  EXPECT_EQ(names.NameOf("/no/such/file", 0x1000), std::nullopt);
}

// Wherever a damaged file points, nothing but names can be lost.
TEST(Symbols, ADamagedFileIsReadWithoutHarm) {
  std::ifstream self("/proc/self/exe", std::ios::binary);
  const std::string image(std::istreambuf_iterator<char>(self), {});
  ASSERT_THAT(image, Not(IsEmpty()));
  const std::string path = ::testing::TempDir() + "/damaged_symbols";
  for (std::size_t at = 16; at < 64; ++at) {
    for (const char value : {'\x00', '\x7f', '\xff'}) {
      std::string damaged = image.substr(0, 4096);
      damaged[at] = value;
      std::ofstream(path, std::ios::binary | std::ios::trunc) << damaged;
      ReadSymbols(path);
    }
  }
  std::remove(path.c_str());
}

}  // namespace
}  // namespace dunebox::loader
