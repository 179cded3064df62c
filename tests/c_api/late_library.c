/* A host that opens libdunebox.so at run time, so that its handlers cannot be guarded unless the library was preloaded:
 *   late_library LIBRARY refused|taken   whether a sandbox in this process is refused, without a promise
 * LIBRARY may also be a host in C++ (late_host.cc), which looks for itself. */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "dunebox.h"

static int failures = 0;
static void Expect(int condition, const char* text, const dunebox_error* error) {
  if (condition) return;
  fprintf(stderr, "not so: %s (%s)\n", text, error->message);
  ++failures;
}
#define EXPECT(condition) Expect((condition), #condition, &error)

int main(int argc, char** argv) {
  dunebox_error error;
  dunebox_sandbox* sandbox = NULL;
  void* library;
  int is_refused;
  /* A pointer to an object becomes one to a function. [posix] */
  dunebox_status (*create)(const dunebox_policy*, dunebox_sandbox**, dunebox_error*);
  dunebox_status (*destroy)(dunebox_sandbox*);
  dunebox_policy* (*create_policy)(void);
  dunebox_status (*set)(dunebox_policy*, const char*, const char*, dunebox_error*);
  dunebox_policy* policy;
  int (*host)(int);
  if (argc != 3 || (library = dlopen(argv[1], RTLD_NOW)) == NULL) {
    fprintf(stderr, "%s\n", argc == 3 ? dlerror() : "late_library LIBRARY refused|taken");
    return 1;
  }
  is_refused = strcmp(argv[2], "refused") == 0;
  *(void**)&host = dlsym(library, "late_host");
  if (host != NULL) return host(is_refused);
  *(void**)&create = dlsym(library, "dunebox_create");
  *(void**)&destroy = dlsym(library, "dunebox_destroy");
  *(void**)&create_policy = dlsym(library, "dunebox_policy_create");
  *(void**)&set = dlsym(library, "dunebox_policy_set");
  if (create == NULL || destroy == NULL || create_policy == NULL || set == NULL) return 1;
  memset(&error, 0, sizeof(error));
  EXPECT(create(NULL, &sandbox, &error) == (is_refused ? DUNEBOX_FAILED_PRECONDITION : DUNEBOX_OK));
  EXPECT(!is_refused || strstr(error.message, "late_handlers") != NULL);
  EXPECT((sandbox == NULL) == is_refused);
  if (sandbox != NULL) EXPECT(destroy(sandbox) == DUNEBOX_OK);
  policy = create_policy();
  EXPECT(set(policy, "late_handlers", "guarded", &error) == DUNEBOX_OK);
  EXPECT((create(policy, &sandbox, &error) == DUNEBOX_OK) == !is_refused);
  /* The promise. */
  EXPECT(set(policy, "late_handlers", "none", &error) == DUNEBOX_OK);
  EXPECT(create(policy, &sandbox, &error) == DUNEBOX_OK);
  EXPECT(destroy(sandbox) == DUNEBOX_OK);
  return failures != 0;
}
