/* What the plugin's side of a sandbox and the host's agree on: system-call numbers of our own, far
 * outside of the kernel's table, by which guest code goes back to the host, and the table of functions
 * that the program in the window tells the host of.
 *
 * They differ in their low 17 bits only: the engine knows them by the others (JIT_GATE_BITS).
 *
 * Nothing here is a secret or a right: any guest code may execute any gate at any time, and the table
 * is guest memory like any other. For assembler, C and C++. */
#ifndef DUNEBOX_SANDBOX_PLUGIN_GUEST_GATES_H_
#define DUNEBOX_SANDBOX_PLUGIN_GUEST_GATES_H_

/* RDI: address of a PluginTable; or 0, of a thread that was made to be lent. Does not return: from here
 * on the thread runs calls of the host's. Also what a static program may execute that has no `main` to be stopped
 * at, with anything in RDI. */
#define DUNEBOX_GATE_READY 0x44420000
/* A call is over: RDI is what RAX was, RDX and the vector registers as the function has left them. */
#define DUNEBOX_GATE_RETURN 0x44420001
/* Plus the number of a callback: arguments as of a function, but R10 is the fourth. */
#define DUNEBOX_GATE_CALLBACK 0x44430000

#define DUNEBOX_GATE_SIZE 16 /* none is longer */
#define DUNEBOX_MOST_CALLBACKS 512
#define DUNEBOX_CALLBACK_SIZE 16

#ifndef __ASSEMBLER__
#include <stdint.h>

/* Guest addresses. */
struct PluginTable {
  uint64_t open_library;  /* void* (const char* path); of null: the last one opened, or null */
  uint64_t find_symbol;   /* void* (const char* name): in the libraries opened, last one first */
  uint64_t last_error;    /* const char* (void): why one of the two has failed */
  uint64_t make_thread;   /* int (pthread_t*, 0, ready_gate, 0): one more thread to be lent; errno */
  /* What the host has put into the window before: */
  uint64_t ready_gate;    /* void (void*): where such a thread begins */
  uint64_t return_gate;   /* where functions that the host calls return to */
  uint64_t callbacks;     /* the first of DUNEBOX_MOST_CALLBACKS */
};
#endif

#endif /* DUNEBOX_SANDBOX_PLUGIN_GUEST_GATES_H_ */
