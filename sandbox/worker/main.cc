// The executable that is part of the sandbox library: fork server, or worker, as its first argument
// says.
#include <cstring>

#include "sandbox/worker/fork_server.h"
#include "sandbox/worker/worker.h"

int main(int argc, char** argv) {
  dunebox::worker::ResetSignals();
  if (argc == 2 && std::strcmp(argv[1], "fork-server") == 0) {
    return dunebox::worker::ForkServerMain();
  }
  if (argc == 3 && std::strcmp(argv[1], "worker") == 0) {
    return dunebox::worker::WorkerMain(argv[2]);
  }
  return 2;
}
