// What is behind a sandbox of one wall, for what is built on it.
#ifndef DUNEBOX_SANDBOX_PLUGIN_IN_PROCESS_H_
#define DUNEBOX_SANDBOX_PLUGIN_IN_PROCESS_H_

#include <memory>

#include "dunebox/sandbox.h"
#include "sandbox/plugin/instance.h"

namespace dunebox::internal {

class InProcess {
 public:
  // Until a Reset without a snapshot. Null: it is not in this process.
  static plugin::Instance* InstanceOf(Sandbox& sandbox);
  // What its clones begin with; null: there is none.
  static std::shared_ptr<const plugin::InstanceSnapshot> SnapshotOf(const Sandbox& sandbox);
  // For calls and memory; it has no policy of its own, is not reset and has no clones.
  static std::unique_ptr<Sandbox> Around(std::unique_ptr<plugin::Guest> guest);
};

}  // namespace dunebox::internal

#endif  // DUNEBOX_SANDBOX_PLUGIN_IN_PROCESS_H_
