// The executable of workers.
#include "sandbox/worker/reset_signals.h"
#include "sandbox/worker/worker.h"

int main(int argc, char** argv) {
  dunebox::worker::ResetSignals();
  // Behind it comes the loader's.
  return argc == 3 ? dunebox::worker::WorkerMain(argv[1]) : 2;
}
