// The executable of workers.
#include "sandbox/worker/reset_signals.h"
#include "sandbox/worker/worker.h"

int main(int argc, char** argv) {
  dunebox::worker::ResetSignals();
  return dunebox::worker::WorkerMain(argc, argv);
}
