/* What hostile_worker.cc and the test that uses it agree on. */
#ifndef DUNEBOX_TESTS_PLUGIN_HOSTILE_WORKER_H_
#define DUNEBOX_TESTS_PLUGIN_HOSTILE_WORKER_H_

#include <cstdint>

namespace dunebox {

inline constexpr std::uint64_t kThrough = 1'000'000, kNoSuchAttack = 1'000'001;

}  // namespace dunebox

#define HOSTILE_FILE "/tmp/dunebox-hostile-worker"

#endif  // DUNEBOX_TESTS_PLUGIN_HOSTILE_WORKER_H_
