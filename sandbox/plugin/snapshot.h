// A guest at one moment, between calls: what a sandbox goes back to, and what its clones begin with. It never
// changes, and any number of instances refer to the same one.
//
// Its guest threads are parked at a gate. There a function has been left or not yet entered, so of a thread's
// registers only those count that a function leaves alone.
//
//   absl::StatusOr<std::shared_ptr<const InstanceSnapshot>> snapshot = instance.Snapshot();
//   absl::StatusOr<std::unique_ptr<Instance>> clone = Instance::Create(policy, *snapshot);
#ifndef DUNEBOX_SANDBOX_PLUGIN_SNAPSHOT_H_
#define DUNEBOX_SANDBOX_PLUGIN_SNAPSHOT_H_

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "hostcalls/policy/rules.h"
#include "runtime/jit/jit_engine.h"
#include "runtime/memory/memory_image.h"
#include "runtime/signals/action.h"
#include "runtime/signals/frame.h"
#include "dunebox/call.h"
#include "dunebox/policy.h"
#include "sandbox/plugin/descriptors.h"
#include "sandbox/plugin/guest/gates.h"

namespace dunebox::plugin {

// A guest thread that is parked.
struct ThreadState {
  pid_t id = 0;
  std::uint64_t stack_pointer = 0, fs_base = 0, gs_base = 0;
  std::uint32_t mxcsr = 0;
  std::uint16_t x87_control = 0;
  std::uint64_t signal_mask = 0, pending_signals = 0;
  signals::AlternateStack alternate_stack;
  std::uint64_t clear_child_tid = 0;
};

// An open descriptor, and where its file was read up to.
struct DescriptorState {
  int number = 0;
  std::shared_ptr<const OpenFile> file;
  std::uint64_t offset = 0;  // kFile
  bool closes_on_exec = false;
};

// What the virtual kernel keeps for the guest.
struct KernelState {
  std::array<signals::KernelAction, signals::kSignalCount + 1> actions{};
  std::string directory;
  std::uint32_t mask = 0;
  std::vector<DescriptorState> descriptors;
  hostcalls::policy::Rules files;
};

// Memory of the host's in the window: what is free, and what was given out, by address.
struct ArenaState {
  std::map<std::uint64_t, std::uint64_t> free, used;
};

// The engines whose guests cannot go on with one another's: they show them different processors.
enum class SnapshotEngine : std::uint32_t { kJit = 1, kKvm = 2 };

struct InstanceSnapshot {
  SnapshotEngine engine = SnapshotEngine::kJit;
  std::shared_ptr<const memory::MemoryImage> memory;
  std::shared_ptr<const runtime::SharedCode> code;
  std::vector<ThreadState> threads;
  KernelState kernel;
  ArenaState arena;
  // Behind two walls: the same of the part of memory that both processes have, whose contents the image has
  // although no guest gets them by it; and the libraries that the host has named.
  ArenaState shared;
  std::vector<std::string> named;
  PluginTable table{};
  std::uint64_t names = 0;  // of a static program's functions, as Instance has them
  pid_t next_id = 0;
  std::uint64_t random = 0;  // of the layout
  std::vector<std::shared_ptr<const internal::Callback>> callbacks;
};

inline SnapshotEngine SnapshotEngineOf(const Policy& policy) {
  return policy.engine == Engine::kKvm ? SnapshotEngine::kKvm : SnapshotEngine::kJit;
}

}  // namespace dunebox::plugin

#endif  // DUNEBOX_SANDBOX_PLUGIN_SNAPSHOT_H_
