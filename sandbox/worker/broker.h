// A broker, from its first instruction on: takes its policy, confines itself, and opens files for
// sandboxes that run in the host's own process (brokered_files.h). What the host has named for one of them is for
// that one's session alone.
//
//   if (fork() == 0) _exit(BrokerMain(namespaces));
#ifndef DUNEBOX_SANDBOX_WORKER_BROKER_H_
#define DUNEBOX_SANDBOX_WORKER_BROKER_H_

#include <cstddef>
#include <cstdint>

namespace dunebox::worker {

// Requests: a session's number, which, LastLink, access mode, and a path. The first message of all is the policy
// (StartOrder).
enum class FileRequest : std::uint32_t { kOpen, kStatus, kAccess, kReadLink, kGrant, kEnd };
// Replies to all but the last two: an errno, struct stat, a text; an open file comes along.
inline constexpr std::size_t kMostBrokerMessage = std::size_t{128} << 10;

// `namespaces`: flags of clone(2). Returns when the host has closed its end.
int BrokerMain(int namespaces);

}  // namespace dunebox::worker

#endif  // DUNEBOX_SANDBOX_WORKER_BROKER_H_
