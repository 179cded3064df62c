// Protection keys in this process (isolation pku): key 0 stays the runtime's, two more are the
// guest's, and one is for what the kernel reads and writes for both. Their numbers, and the values
// of PKRU, are in hostcalls/abi/protection_keys.h.
//
//   if (absl::Status status = OpenProtectionKeys(); !status.ok()) ...
//   SetProtectionKey(page, size, PROT_READ | PROT_WRITE, DUNE_KEY_GUEST);
#ifndef DUNEBOX_HOSTCALLS_MEMORY_PROTECTION_KEYS_H_
#define DUNEBOX_HOSTCALLS_MEMORY_PROTECTION_KEYS_H_

#include <cstddef>

#include "absl/status/status.h"
#include "hostcalls/abi/protection_keys.h"

extern "C" unsigned char dunebox_keys_in_use;

namespace dunebox::hostcalls {

// Whether OpenProtectionKeys has succeeded. It does so before the first guest instruction or never.
inline bool KeysInUse() { return dunebox_keys_in_use != 0; }

// Why the processor or the kernel cannot do it; OK says nothing of signals (CheckIsolation does).
absl::Status CheckProtectionKeys();

// Takes the keys and opens them to the calling thread and those it makes from now on. More often
// than once is no error; a forked child has its parent's.
absl::Status OpenProtectionKeys();

// Of whole pages, as mprotect(2).
bool SetProtectionKey(void* start, std::size_t size, int prot, int key);

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_HOSTCALLS_MEMORY_PROTECTION_KEYS_H_
