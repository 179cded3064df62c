// One guest thread of a sandbox: made by the plugin's own C library, run by whichever host thread has
// borrowed it, or, where the plugin has started it by itself, by a host thread of its own.
//
// Used by one host thread at a time, but for Kick.
#ifndef DUNEBOX_SANDBOX_PLUGIN_PLUGIN_THREAD_H_
#define DUNEBOX_SANDBOX_PLUGIN_PLUGIN_THREAD_H_

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "runtime/engine.h"
#include "runtime/signals/frame.h"
#include "sandbox/plugin/guest_engine.h"
#include "sandbox/plugin/watchdog.h"

namespace dunebox::plugin {

struct PluginThread {
  PluginThread(pid_t virtual_id, std::unique_ptr<GuestCpu> guest_cpu)
      : id(virtual_id),
        cpu(std::move(guest_cpu)),
        engine(&cpu->thread()),
        watch(Watchdog::Instance(), [this] { Kick(); }) {}

  // From any thread: the host thread that runs this looks soon why it was kicked.
  void Kick();

  const pid_t id;  // as the plugin knows it
  const std::unique_ptr<GuestCpu> cpu;
  runtime::EngineThread* const engine;  // the cpu's
  runtime::Registers registers;
  std::uint64_t clear_child_tid = 0;  // guest address, checked when it is used
  bool has_exited = false;

  // Signals of the plugin's own.
  std::uint64_t signal_mask = 0;
  std::atomic<std::uint64_t> pending_signals{0};
  signals::AlternateStack alternate_stack;

  // Set by a kick; the system calls that block look at it.
  std::atomic<std::uint32_t> kicked{0};
  std::atomic<pid_t> host_thread{0};  // that runs it now; 0: none
  Watch watch;
  std::atomic<std::uint64_t> calls{0};  // of the host's that it has begun
  // How many there were when `registers` was set from a snapshot: until the next, its bases are not the engine's yet.
  std::optional<std::uint64_t> calls_at_restart;
  // Of a thread that the plugin has started: what Instance::CallsSeen said when its budget began.
  bool runs_by_itself = false;
  std::uint64_t calls_seen = 0;

  // While the host has it make a thread to be lent: where that one goes, instead of to the pool of
  // threads that run.
  std::unique_ptr<PluginThread>* made = nullptr;
  // While a program starts: where it parks as at a gate. What is there faults.
  std::optional<std::uint64_t> stops_at;
  unsigned depth = 0;  // of calls
  // By Policy::memory_limit, since the call began that it is in; of a thread that the plugin has started, ever.
  bool was_refused_memory = false;
};

// Where a guest thread is that is lent to the host's. Who has taken the place has the thread to itself, and may put
// another one there, or none.
struct LentPlace {
  // False: somebody has it.
  bool Take() {
    return !is_taken.load(std::memory_order_relaxed) && !is_taken.exchange(true, std::memory_order_acquire);
  }
  void GiveBack() { is_taken.store(false, std::memory_order_release); }

  std::unique_ptr<PluginThread> thread;
  std::atomic<bool> is_taken{false};
};

}  // namespace dunebox::plugin

#endif  // DUNEBOX_SANDBOX_PLUGIN_PLUGIN_THREAD_H_
