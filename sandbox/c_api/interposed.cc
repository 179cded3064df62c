#include "sandbox/c_api/interposed.h"

#include <dlfcn.h>

namespace dunebox::c_api {
namespace {

const void* ModuleOf(const void* address) {
  Dl_info info;
  return dladdr(address, &info) != 0 ? info.dli_fbase : nullptr;
}

}  // namespace

bool IsSigactionOurs() {
  const void* const all_use = dlsym(RTLD_DEFAULT, "sigaction");
  return all_use != nullptr &&
         ModuleOf(all_use) == ModuleOf(reinterpret_cast<const void*>(&IsSigactionOurs));
}

}  // namespace dunebox::c_api
