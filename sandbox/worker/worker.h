// A worker, from its first instruction on: takes its order, makes the guest's engine, confines
// itself, starts the guest and serves the host.
//
//   int main(...) { ResetSignals(); return WorkerMain(argc, argv); }
#ifndef DUNEBOX_SANDBOX_WORKER_WORKER_H_
#define DUNEBOX_SANDBOX_WORKER_WORKER_H_

namespace dunebox::worker {

// Arguments: the namespaces that it is in, flags of clone(2) as a number; and what was for the loader. Returns where there
// is nobody to serve.
int WorkerMain(int argc, const char* const* argv);

}  // namespace dunebox::worker

#endif  // DUNEBOX_SANDBOX_WORKER_WORKER_H_
