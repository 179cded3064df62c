// The translator lends a thread's own registers to what it runs, segment bases included, which in ring 0 are libdune's to
// keep. So a thread that is in ring 0 leaves it while the translator runs.
//
//   {
//     OutsideRing0 outside;
//     if (!outside.status().ok()) return outside.status();
//     ...
//     if (absl::Status back = outside.Return(); !back.ok()) return back;
//   }
#ifndef DUNEBOX_SANDBOX_COMPARTMENT_OUTSIDE_RING0_H_
#define DUNEBOX_SANDBOX_COMPARTMENT_OUTSIDE_RING0_H_

#include <utility>

#include "absl/status/status.h"
#include "dune/dune.h"

namespace dunebox::compartment {

class OutsideRing0 {
 public:
  // kFailedPrecondition: another page table than the process's is active.
  OutsideRing0() {
    if (dune::CurrentBackend() != dune::Backend::kRing0) return;
    status_ = dune::Leave();
    has_left_ = status_.ok();
  }
  ~OutsideRing0() { Return().IgnoreError(); }
  OutsideRing0(const OutsideRing0&) = delete;
  OutsideRing0& operator=(const OutsideRing0&) = delete;

  const absl::Status& status() const { return status_; }
  // Where the thread was. On an error it stays outside.
  absl::Status Return() {
    if (!std::exchange(has_left_, false)) return absl::OkStatus();
    return dune::Enter({.backend = dune::Wanted::kRing0});
  }

 private:
  absl::Status status_;
  bool has_left_ = false;
};

}  // namespace dunebox::compartment

#endif  // DUNEBOX_SANDBOX_COMPARTMENT_OUTSIDE_RING0_H_
