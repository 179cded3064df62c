// Memory that the runtimes of one session share, as a file that goes along an execve.
//
// Its size is sealed, so no process can take pages away from under another one. The contents are
// the users' matter: all of them are the session's own runtimes.
//
//   absl::StatusOr<int> fd = CreateSharedMemory("dunebox-output", sizeof(Page));
//   void* memory = MapSharedMemory(*fd, sizeof(Page));   // MAP_FAILED: errno says why
#ifndef DUNEBOX_HOSTCALLS_SERVICES_SHARED_MEMORY_H_
#define DUNEBOX_HOSTCALLS_SERVICES_SHARED_MEMORY_H_

#include <cstddef>

#include "absl/status/statusor.h"

namespace dunebox::hostcalls {

// The descriptor is the caller's, and closed on exec.
absl::StatusOr<int> CreateSharedMemory(const char* name, std::size_t size);
void* MapSharedMemory(int fd, std::size_t size);

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_HOSTCALLS_SERVICES_SHARED_MEMORY_H_
