// Guest memory that is no stretch of this process's addresses: pages here and there, of a page table that only the guest
// runs by. GuestMemory goes through this page by page; the host's kernel, which has addresses only, gets copies.
#ifndef DUNEBOX_HOSTCALLS_MEMORY_PAGED_MEMORY_H_
#define DUNEBOX_HOSTCALLS_MEMORY_PAGED_MEMORY_H_

#include <cstddef>
#include <cstdint>

#include "absl/functional/function_ref.h"

namespace dunebox::hostcalls {

class PagedMemory {
 public:
  enum class Use : bool { kRead, kWrite };
  // Calls `visit` with where the host has these bytes, which are on one page; they stay there until it returns. False,
  // and no call: the guest may not use all of them so.
  virtual bool With(std::uint64_t address, std::size_t size, Use use,
                    absl::FunctionRef<void(std::byte* bytes)> visit) const = 0;

 protected:
  ~PagedMemory() = default;
};

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_HOSTCALLS_MEMORY_PAGED_MEMORY_H_
