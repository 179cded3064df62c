// The program that lies in every sandbox's window: an ordinary one, so that the plugin's own dynamic
// linker and C library start as in any process. It tells the host where its functions are and parks.
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>

#include "sandbox/plugin/guest/gates.h"

_Noreturn static void tell_ready(const struct PluginTable* table) {
  __asm__ volatile("syscall" : : "a"(DUNEBOX_GATE_READY), "D"(table) : "rcx", "r11", "memory");
  __builtin_trap();
}

struct Library {
  void* handle;
  struct Library* next;
};
static struct Library* libraries;  // the last one first; changed by one call of the host's at a time

static void* open_library(const char* path) {
  if (path == NULL) return libraries != NULL ? libraries->handle : NULL;
  struct Library* library = malloc(sizeof(*library));
  if (library == NULL) return NULL;
  library->handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library->handle == NULL) {
    free(library);
    return NULL;
  }
  library->next = libraries;
  __atomic_store_n(&libraries, library, __ATOMIC_RELEASE);
  return library->handle;
}

// Behind them what the program itself has: malloc, free and the rest of the C library.
static void* find_symbol(const char* name) {
  for (struct Library* library = __atomic_load_n(&libraries, __ATOMIC_ACQUIRE); library != NULL;
       library = library->next) {
    void* const found = dlsym(library->handle, name);
    if (found != NULL) return found;
  }
  return dlsym(RTLD_DEFAULT, name);
}

static const char* last_error(void) { return dlerror(); }

int main(void) {
  const struct PluginTable table = {
      .open_library = (uintptr_t)open_library,
      .find_symbol = (uintptr_t)find_symbol,
      .last_error = (uintptr_t)last_error,
      .make_thread = (uintptr_t)pthread_create,
  };
  tell_ready(&table);
}
