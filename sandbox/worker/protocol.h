// What a host and its worker agree on: memory that both map, in which they take turns, and what
// they say.
//
// The memory (a memfd whose size is sealed) is an array of slots. A slot is one conversation, of
// one thread on either side, which speak in turn: whoever has sent waits for the other. In a slot
// of the host's the host begins; in a slot of the worker's a thread that the plugin has started
// begins, with a callback.
//
//   host                                     worker
//   kCall ------------------------------->   runs the function, which calls the host
//   runs the callback  <------------------   kCallback
//     (kCall ... kDone: may call again)
//   kCallbackDone ----------------------->   goes on
//   <-------------------------------------   kDone
//
// The host believes nothing of what it reads here: it is copied once, and the copy is checked
// (wire.h).
#ifndef DUNEBOX_SANDBOX_WORKER_PROTOCOL_H_
#define DUNEBOX_SANDBOX_WORKER_PROTOCOL_H_

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace dunebox::worker {

enum class Operation : std::uint32_t {
  // The host's.
  kStart,         // policy; what the guest is made of. Once, in the first slot
  kLoad,          // a library, whose file has been sent
  kFind,          // the address of a name
  kCall,          // a function
  kAddCallback,   // one more function of the host's
  kRead,          // of the plugin's memory: at most kMostPayload bytes, as many as there are
  kWrite,         // into it
  kText,          // a piece of a text: output, or denials
  kFailure,       // why calls fail
  kSnapshot,      // the guest, between calls: its memory into a file that has been sent, the rest as a text
  kReset,         // the guest as it was then
  kCallbackDone,  // the callback's result
  kOutputDone,    // how much was written, or an errno below zero
  // The worker's.
  kDone,      // a status and what was asked for
  kCallback,  // the plugin calls the host
  kOutput,    // it has written to its stdout or stderr, which goes to a descriptor of the host's
};

// Of kText. Denials are one behind the other, each with a NUL. A guest is what kSnapshot has found, as EncodeGuest
// has it.
inline constexpr std::uint32_t kTextOutput = 0, kTextDenials = 1, kTextGuest = 2;

inline constexpr std::size_t kMostPayload = std::size_t{32} << 10;

// One way. The sender writes the message, then the number; the receiver sleeps on that.
struct Direction {
  alignas(64) std::atomic<std::uint32_t> number;
  std::atomic<std::uint32_t> is_slept_on;
  std::uint32_t operation;
  std::uint32_t size;
  std::byte payload[kMostPayload];
};
struct Slot {
  Direction to_worker, to_host;
};
static_assert(std::atomic<std::uint32_t>::is_always_lock_free &&
              sizeof(std::atomic<std::uint32_t>) == 4);

// The first slot is for what needs no guest thread: copies, texts, callbacks. Behind it one for
// each host thread that can be in the sandbox, then those of the worker's.
struct SlotCounts {
  std::uint32_t host_threads = 0, plugin_threads = 0;
  std::uint32_t all() const { return 1 + host_threads + plugin_threads; }
  std::uint32_t first_of_worker() const { return 1 + host_threads; }
};
// Plugins may start more threads; those wait for a slot when they call back.
inline constexpr std::uint32_t kMostPluginSlots = 64;

// What a worker begins with, by number.
inline constexpr int kControlFd = 3;   // the slots
inline constexpr int kArenaFd = 4;     // memory that host and plugin share
inline constexpr int kDoorbellFd = 5;  // an eventfd: the worker speaks first in a slot of its own
inline constexpr int kFilesFd = 6;     // a socket on which the host sends files
inline constexpr int kWorkerFds = 4;
inline constexpr int kWorkerImageFd = 7;  // until it is mapped

// And a broker (brokered_files.h).
inline constexpr int kBrokerFd = 3;  // a socket
inline constexpr int kBrokerFds = 1;

// What the fork server begins with.
inline constexpr int kRequestFd = 3;  // a socket: ForkRequest
inline constexpr int kHostFd = 4;     // a pidfd of the host's
inline constexpr int kProgramFd = 5;  // what is executed (Executable::loader)
inline constexpr int kImageFd = 6;    // and what that maps

enum class Role : std::uint32_t { kWorker, kBroker };
struct ForkRequest {
  // 0: start a process with the descriptors that come along; in front of a worker's is what is executed, behind them
  // what that maps. Else: end this one.
  std::int32_t ended_pid = 0;
  Role role = Role::kWorker;
};
struct ForkReply {
  std::int32_t error = 0;   // errno
  std::int32_t pid = 0;     // of a new worker; its pidfd comes along
  std::int32_t status = 0;  // of an ended one, as of wait(2)
};

}  // namespace dunebox::worker

#endif  // DUNEBOX_SANDBOX_WORKER_PROTOCOL_H_
