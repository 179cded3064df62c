#include "sandbox/plugin/interposed.h"

#include <dlfcn.h>
#include <sys/auxv.h>

namespace dunebox::plugin {
namespace {

const void* ModuleOf(const void* address) {
  Dl_info info;
  return dladdr(address, &info) != 0 ? info.dli_fbase : nullptr;
}

}  // namespace

bool IsSigactionOurs() {
  // A static program has one function of a name.
  if (getauxval(AT_BASE) == 0) return true;
  const void* const all_use = dlsym(RTLD_DEFAULT, "sigaction");
  return all_use != nullptr && ModuleOf(all_use) == ModuleOf(reinterpret_cast<const void*>(&IsSigactionOurs));
}

}  // namespace dunebox::plugin
