// Takes the memory pool out of ring 0's hands: what a vCPU is doing there is finished, and none begins anew.
//
//   DUNEBOX_CHECK(StopPool(pool), "...");   // now the states are the host's
#ifndef DUNEBOX_RUNTIME_MEMORY_STOP_POOL_H_
#define DUNEBOX_RUNTIME_MEMORY_STOP_POOL_H_

#include "hostcalls/abi/memory_pool.h"

namespace dunebox::memory {

// Waits for the pool's lock, whose holder may have been put aside by the scheduler, but never waits for anybody
// itself. False after a minute: it is not our ring 0 that has it.
bool StopPool(abi::MemoryPool& pool);

}  // namespace dunebox::memory

#endif  // DUNEBOX_RUNTIME_MEMORY_STOP_POOL_H_
