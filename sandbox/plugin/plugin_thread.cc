#include "sandbox/plugin/plugin_thread.h"

#include "hostcalls/asymmetric_fence.h"
#include "sandbox/plugin/host_signals.h"

namespace dunebox::plugin {

// In this order: who sees the last sees the others, or is on its way out of guest code or of a wait.
void PluginThread::Kick() {
  engine->Kick();
  kicked.store(1, std::memory_order_seq_cst);
  HeavyFence();
  const pid_t host = host_thread.load(std::memory_order_seq_cst);
  if (host != 0) SendKick(host);
}

}  // namespace dunebox::plugin
