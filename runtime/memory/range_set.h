// A set of addresses as disjoint ranges, which knows its size. No lock, no system call.
//
//   RangeSet filled;
//   filled.Add({GuestVirt{0x1000}, GuestVirt{0x3000}});
//   filled.Remove({GuestVirt{0x1000}, GuestVirt{0x2000}});   // filled.size() == 0x1000
#ifndef DUNEBOX_RUNTIME_MEMORY_RANGE_SET_H_
#define DUNEBOX_RUNTIME_MEMORY_RANGE_SET_H_

#include <cstdint>
#include <map>

#include "hostcalls/memory/address.h"

namespace dunebox::memory {

class RangeSet {
 public:
  void Add(const GuestRange& range);
  void Remove(const GuestRange& range);
  std::uint64_t size() const { return size_; }
  // Of what is in `range`.
  std::uint64_t SizeIn(const GuestRange& range) const;

 private:
  std::map<std::uint64_t, std::uint64_t> ends_;  // by start; no two touch
  std::uint64_t size_ = 0;
};

}  // namespace dunebox::memory

#endif  // DUNEBOX_RUNTIME_MEMORY_RANGE_SET_H_
