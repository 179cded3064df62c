// --jit-dump: translated blocks as a person reads them, guest code beside the host code made of it.
//
//   dump: block at guest:true+0x2345, guest 0x412345, 9 bytes; host 0x7f12c0000040, 31 bytes;
//   direct entry dump: guest       412345 copy    48 8b 05 11 22 33 00       | host 7f12c0000040
//   copy    48 8b 04 25 ... dump: guest       41234c branch  75 f2                      | host
//   7f12c0000048 branch  0f 85 .. -> guest 412340 dump: | host 7f12c000004e jump    e9 ..    ->
//   exit stub
//
// Bytes and classes are those of our decoder; tests/bench/disassemble adds mnemonics.
#ifndef DUNEBOX_RUNTIME_JIT_DUMP_H_
#define DUNEBOX_RUNTIME_JIT_DUMP_H_

#include <string>

#include "jit-fallback/dispatch/translator.h"
#include "runtime/memory/address_space.h"

namespace dunebox::runtime {

// Of every block since the last flush that has the place in it; a line that says so when there is
// none. `place` is a CodePlace.
std::string DumpBlocks(jit::Translator& translator, const memory::AddressSpace& space,
                       const std::string& place);

}  // namespace dunebox::runtime

#endif  // DUNEBOX_RUNTIME_JIT_DUMP_H_
