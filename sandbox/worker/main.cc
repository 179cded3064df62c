// The executable of workers.
#include "sandbox/worker/reset_signals.h"
#include "sandbox/worker/worker.h"

int main(int argc, char** argv) {
  dunebox::worker::ResetSignals();
  return argc == 2 ? dunebox::worker::WorkerMain(argv[1]) : 2;
}
