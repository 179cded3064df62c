// What is behind a sandbox of one wall, for what is built on it.
#ifndef DUNEBOX_SANDBOX_PLUGIN_IN_PROCESS_H_
#define DUNEBOX_SANDBOX_PLUGIN_IN_PROCESS_H_

#include "dunebox/sandbox.h"
#include "sandbox/plugin/instance.h"

namespace dunebox::internal {

class InProcess {
 public:
  // Until a Reset without a snapshot. Null: it is not in this process.
  static plugin::Instance* InstanceOf(Sandbox& sandbox);
};

}  // namespace dunebox::internal

#endif  // DUNEBOX_SANDBOX_PLUGIN_IN_PROCESS_H_
