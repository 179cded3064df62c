// A library that does more than its functions say: when it comes, when it goes, and what it brings along.
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

namespace {
struct Lasting {
  ~Lasting() { fputs("a static object goes\n", stdout); }
} lasting;
__attribute__((destructor)) void Destroy() { fputs("the library goes\n", stdout); }
}  // namespace

extern "C" {
void leave_after_all(int status) { exit(status); }
void leave_at_once(int status) { _exit(status); }
void complain(const char* text) { fprintf(stderr, "%s\n", text); }
// Of a library that is loaded for it: what a function without arguments says, and whether there is one.
int bring(const char* path, const char* name) {
  void* const library = dlopen(path, RTLD_NOW);
  if (library == nullptr) return 1;
  void* const function = dlsym(library, name);
  if (function == nullptr) return 2;
  puts(reinterpret_cast<const char* (*)()>(function)());
  fflush(stdout);
  dlclose(library);
  return 0;
}
const char* why_not() { return dlerror(); }
int add(int a, int b) { return a + b; }
}
