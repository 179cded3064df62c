// A worker, from its first instruction on: takes its order, makes the guest's engine, confines
// itself, starts the guest and serves the host.
//
//   int main(...) { ResetSignals(); return WorkerMain(namespaces); }
#ifndef DUNEBOX_SANDBOX_WORKER_WORKER_H_
#define DUNEBOX_SANDBOX_WORKER_WORKER_H_

namespace dunebox::worker {

// `namespaces`: flags of clone(2), as a number. Returns where there is nobody to serve.
int WorkerMain(const char* namespaces);

}  // namespace dunebox::worker

#endif  // DUNEBOX_SANDBOX_WORKER_WORKER_H_
