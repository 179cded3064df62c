// UserContext::extended before it is loaded: the program may have put anything there, and XRSTOR faults on what it does
// not like. [intel/vol1 §13.8.1]
//
//   MakeRestorable(context.extended, features);
#ifndef DUNEBOX_LIBDUNE_EXTENDED_AREA_H_
#define DUNEBOX_LIBDUNE_EXTENDED_AREA_H_

#include <cstdint>
#include <cstring>

#include "dune/user.h"
#include "hostcalls/abi/signal_frame.h"

namespace dune {

// What would be refused is made what is taken, with components of `features` only; a fresh area becomes the initial
// state.
inline void MakeRestorable(decltype(UserContext::extended)& area, std::uint64_t features) {
  namespace abi = dunebox::abi;
  std::uint32_t mxcsr = 0;
  abi::ExtendedHeader header{};
  std::memcpy(&mxcsr, area.data() + abi::kMxcsrOffset, sizeof(mxcsr));
  std::memcpy(&header.present, area.data() + abi::kHeaderOffset, sizeof(header.present));
  header.present &= features;
  if (header.present == 0) mxcsr = abi::kInitialMxcsr;
  mxcsr &= abi::kMxcsrMask;
  std::memcpy(area.data() + abi::kMxcsrOffset, &mxcsr, sizeof(mxcsr));
  std::memcpy(area.data() + abi::kHeaderOffset, &header, sizeof(header));
}

}  // namespace dune

#endif  // DUNEBOX_LIBDUNE_EXTENDED_AREA_H_
