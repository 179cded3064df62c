// The executable of fork servers. Brokers are forks of them.
#include "sandbox/worker/fork_server.h"
#include "sandbox/worker/reset_signals.h"

int main() {
  dunebox::worker::ResetSignals();
  return dunebox::worker::ForkServerMain();
}
