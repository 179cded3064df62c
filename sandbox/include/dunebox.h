/* Untrusted native code, called like a function, from C and from whatever can call C: the same sandboxes as
 * dunebox/sandbox.h has for C++, and the same promises (docs/plugins.md).
 *
 *   dunebox_error error;
 *   dunebox_sandbox* sandbox;
 *   dunebox_function* add;
 *   dunebox_value arguments[2] = {{.i = 40}, {.i = 2}}, sum;
 *   if (dunebox_create(NULL, &sandbox, &error) != DUNEBOX_OK ||
 *       dunebox_load(sandbox, "/srv/plugins/libadd.so", &error) != DUNEBOX_OK ||
 *       dunebox_find(sandbox, "add", "i32(i32, i32)", &add, &error) != DUNEBOX_OK ||
 *       dunebox_call(add, arguments, 2, &sum, &error) != DUNEBOX_OK) {
 *     fprintf(stderr, "%s\n", error.message);
 *   }
 *
 * What holds for every function:
 *
 * Errors. Each one that can fail returns a status; DUNEBOX_OK is 0. `error` may be NULL; if it is not, it says
 * more, after a success too (status DUNEBOX_OK, no text). Outputs are written in case of success only, unless
 * something else is said. A NULL where an object belongs, a handle that has been destroyed, a value that does
 * not fit its type: DUNEBOX_INVALID_ARGUMENT. (A destroyed handle is recognised until its place is used again,
 * which takes some thousand new ones. A pointer that never was a handle is not recognised.) A host that has no
 * memory left for the library's own small objects is ended, as by abort.
 *
 * Ownership. Handles belong to the caller, who gives each back once: dunebox_destroy, dunebox_function_destroy,
 * dunebox_memory_free, dunebox_policy_destroy. All of these take NULL and do nothing. Functions and memory may
 * be given back after their sandbox. Text that is passed is copied.
 *
 * Threads. All functions may be called from several threads at once, on the same handle too; but a handle is
 * not to be destroyed while somebody uses it, nor a sandbox destroyed or reset while a call is under way, and
 * a policy is one thread's at a time. Not for children of fork, where every call is refused.
 *
 * What comes from a plugin (results, what it has written into memory, pointers) may be anything, and what lies
 * in memory that it shares may change at any moment: copy, then check, then use the copy.
 */
#ifndef DUNEBOX_H_
#define DUNEBOX_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* C knows no `using`, and its names have their own form. */
/* NOLINTBEGIN(modernize-use-using, readability-identifier-naming) */

typedef struct dunebox_policy dunebox_policy;
typedef struct dunebox_sandbox dunebox_sandbox;
typedef struct dunebox_function dunebox_function;
typedef struct dunebox_memory dunebox_memory;

/* An address as the plugin sees it, of no use to the host as it is. 0: NULL. */
typedef uint64_t dunebox_pointer;

typedef enum dunebox_status {
  DUNEBOX_OK = 0,
  DUNEBOX_INVALID_ARGUMENT = 1,    /* the caller's mistake */
  DUNEBOX_NOT_FOUND = 2,           /* no such library or function */
  DUNEBOX_OUT_OF_RANGE = 3,        /* not the plugin's memory; does not fit */
  DUNEBOX_RESOURCE_EXHAUSTED = 4,  /* no room in the sandbox; nested too deep */
  DUNEBOX_FAILED_PRECONDITION = 5, /* in a forked child; the sandbox is destroyed; handlers are not guarded */
  DUNEBOX_UNIMPLEMENTED = 6,       /* the policy demands what cannot be had yet */
  DUNEBOX_UNAVAILABLE = 7,         /* this machine or process cannot have sandboxes */
  DUNEBOX_INTERNAL = 8,            /* a bug of Dunebox's */
  DUNEBOX_FAILED = 9               /* the sandbox is over until it is reset: dunebox_error.failure says why */
} dunebox_status;

/* Why a sandbox is over. */
typedef enum dunebox_failure {
  DUNEBOX_FAILURE_NONE = 0,
  DUNEBOX_FAILURE_TRAP = 1,     /* a CPU exception, or a signal that the plugin sent itself (abort) */
  DUNEBOX_FAILURE_TIMEOUT = 2,  /* the call's deadline */
  DUNEBOX_FAILURE_EXITED = 3,   /* the plugin called exit */
  DUNEBOX_FAILURE_DENIED = 4,   /* a system call that the policy refuses, where that ends the sandbox */
  DUNEBOX_FAILURE_MISMATCH = 5, /* a call returned with another stack than it was entered with (longjmp) */
  DUNEBOX_FAILURE_CPU_BUDGET = 6, /* cpu_budget or idle_cpu_budget is used up */
  DUNEBOX_FAILURE_INSTRUCTION_BUDGET = 7
} dunebox_failure;

/* Texts end with NUL and are cut to their size. Fields that do not apply are 0 or "". */
typedef struct dunebox_error {
  dunebox_status status;
  dunebox_failure failure;
  int signal;             /* DUNEBOX_FAILURE_TRAP */
  int exit_status;        /* DUNEBOX_FAILURE_EXITED */
  uint64_t instruction;   /* where the plugin was */
  uint64_t fault_address; /* what it accessed */
  int reached_memory_limit; /* not 0: since its call began it was refused memory by memory_limit; whether that is why, nobody knows */
  char symbol[256];       /* "libz.so.1.2.13: deflate+0x1f" for `instruction` */
  char system_call[64];   /* DUNEBOX_FAILURE_DENIED */
  char message[512];
} dunebox_error;

const char* dunebox_version(void);
/* "out of range"; "unknown" for what is no status. */
const char* dunebox_status_name(dunebox_status status);

/* ---- what a sandbox may do ------------------------------------------------------------------------------- */

/* A policy with the defaults: compute, read the system's libraries, and no more. */
dunebox_policy* dunebox_policy_create(void);
dunebox_status dunebox_policy_destroy(dunebox_policy* policy);

/* The settings, as dunebox/policy.h describes them. Durations are written "250ms", "1.5s", "inf"; sizes
 * "4096", "64K", "512M", "2G".
 *
 *   engine               auto, jit, kvm
 *   demand               one-wall, two-walls (in a confined process of its own)
 *   least_isolation      translation, virtual-machine, hardware: no sandbox with less
 *   deadline             duration, of each call
 *   load_deadline        duration, of starting, of loading a library, of looking a name up
 *   cpu_budget           duration on a processor, of the calling thread in each call
 *   idle_cpu_budget      the same, of each thread of the plugin's while the host makes no call
 *   instruction_budget   number, of instructions in each call; 0: no limit
 *   memory_limit, stack, captured_output, code_cache      sizes
 *   prepared_translations   a directory of `dunebox prepare`, or none
 *   stdout_to, stderr_to descriptors of the host's to which output goes besides; -1: none
 *   host_threads, plugin_threads, nesting, open_files     numbers
 *   readable, libraries  a path more; "" empties the list
 *   file_access          broker (a confined process opens the plugin's files), direct (this one does)
 *   environment          a NAME=value more; "" empties the list
 *   on_denied            error, end-sandbox
 *   late_handlers        guarded, none: see dunebox_create
 */
dunebox_status dunebox_policy_set(dunebox_policy* policy, const char* name, const char* value,
                                  dunebox_error* error);

/* ---- sandboxes ------------------------------------------------------------------------------------------- */

/* `policy` may be NULL: the defaults. It may be destroyed, or changed for another one, afterwards.
 *
 * Signal handlers that the host sets while it has sandboxes are put behind the library's: for that it defines
 * `sigaction` and `signal`, and what changes masks and signal stacks. Where these are not what the process
 * calls, since the library was opened by dlopen, DUNEBOX_FAILED_PRECONDITION. Then either preload it
 * (LD_PRELOAD), or promise that no handler, mask or signal stack is set after the first sandbox: late_handlers
 * = none. A host that breaks that promise can be ended, or worse, by a plugin. With two walls no plugin's code runs
 * in the host, and nothing needs to be promised. */
dunebox_status dunebox_create(const dunebox_policy* policy, dunebox_sandbox** sandbox, dunebox_error* error);
dunebox_status dunebox_destroy(dunebox_sandbox* sandbox);

/* Loads a shared library and what it needs, and runs its constructors. An absolute path. Or a static program, which is
 * not stripped: it has the sandbox to itself, starts as far as its main, and is called by the names in its symbol table
 * (docs/plugins.md, Static programs). DUNEBOX_UNAVAILABLE: there is no broker for its files to be had (file_access).
 * DUNEBOX_FAILED_PRECONDITION: it cannot be loaded, or not here, and nothing has changed. When it does not come to its main, the sandbox has failed. */
dunebox_status dunebox_load(dunebox_sandbox* sandbox, const char* path, dunebox_error* error);

/* Keeps the sandbox as it is between calls, in place of an older snapshot, for dunebox_reset and dunebox_clone.
 * DUNEBOX_FAILED_PRECONDITION: a call is under way, the sandbox has failed, or threads run that the plugin has
 * started. */
dunebox_status dunebox_snapshot(dunebox_sandbox* sandbox, dunebox_error* error);

/* With a snapshot: everything is as it was then. Memory of the host's keeps its place: what was allocated before
 * the snapshot has its old contents, what was allocated after has any. Without one it starts over: a new
 * guest, the same libraries, functions and callbacks. Functions go on; pointers that the plugin gave, and
 * memory, are those of the old guest, and are of no use to the new one. */
dunebox_status dunebox_reset(dunebox_sandbox* sandbox, dunebox_error* error);

/* A new sandbox that begins as `sandbox` was when its snapshot was taken, and has that snapshot, too; one more
 * to destroy, in any order. Its callbacks are those that there were: what their `user` points to has to live as
 * long as the clone. Any thread, at any time. DUNEBOX_FAILED_PRECONDITION: there is no snapshot. */
dunebox_status dunebox_clone(dunebox_sandbox* sandbox, dunebox_sandbox** clone, dunebox_error* error);

/* The snapshot as a file, at once or not at all, and a sandbox that begins with one. The file is trusted as a plugin
 * is: what is in it has no more rights than the policy gives (NULL: the defaults). Callbacks are not in it: they
 * are to be exported again, in the same order. DUNEBOX_INVALID_ARGUMENT: no such file, or damaged;
 * DUNEBOX_FAILED_PRECONDITION: it needs another processor, or files that are not to be had. */
dunebox_status dunebox_save(dunebox_sandbox* sandbox, const char* path, dunebox_error* error);
dunebox_status dunebox_open(const char* path, const dunebox_policy* policy, dunebox_sandbox** sandbox,
                            dunebox_error* error);

/* DUNEBOX_OK while calls can succeed; else what they fail with, in `error` too. */
dunebox_status dunebox_state(dunebox_sandbox* sandbox, dunebox_error* error);

/* What the plugin has written to its stdout and stderr, the oldest first: at most `size` bytes, which are
 * forgotten here. `*length` 0: no more. Not text: no NUL behind it. */
dunebox_status dunebox_take_output(dunebox_sandbox* sandbox, char* buffer, size_t size, size_t* length,
                                   dunebox_error* error);
/* What it asked for and was not permitted, each once, a line each: "call socket\nread /etc/passwd\n", and a
 * NUL. `*length` is that of all, without the NUL, whether it fits or not; DUNEBOX_OUT_OF_RANGE: it does not,
 * and nothing is written. */
dunebox_status dunebox_denials(dunebox_sandbox* sandbox, char* buffer, size_t size, size_t* length,
                               dunebox_error* error);
/* "jit" and "seg", or "kvm" and "virtual machine (hardware)"; as long as the sandbox lives. NULL: no sandbox. */
const char* dunebox_engine(dunebox_sandbox* sandbox);
const char* dunebox_isolation(dunebox_sandbox* sandbox);
/* The second wall, where the policy demands it: "seccomp, landlock 7, pid namespace". With one wall, what the broker of
 * its files is kept in, which is started where there is none: "files: seccomp, files: landlock 7"; "": file_access is
 * direct, or it cannot be started. As it was when first asked. */
const char* dunebox_confinement(dunebox_sandbox* sandbox);

/* ---- calls ----------------------------------------------------------------------------------------------- */

/* An argument or a result; which field, its type says. */
typedef union dunebox_value {
  int64_t i;         /* i8 i16 i32 i64 */
  uint64_t u;        /* bool u8 u16 u32 u64 */
  double f64;        /* f64 */
  float f32;         /* f32 */
  dunebox_pointer p; /* ptr */
  const void* s;     /* {...} struct:BYTES as an argument: the host's structure */
  void* to;          /* the same as a callback's result: where it is to be put */
} dunebox_value;

/* Finds a function of the libraries that were loaded, the last one first, or of the C library.
 *
 * `signature` is RESULT(PARAMETER, ...), spaces as you like:
 *   i8 u8 i16 u16 i32 u32 i64 u64 bool f32 f64 ptr     numbers and pointers
 *   void                                               no result
 *   {FIELD, ...}      a structure by value, its fields as C lays them out: {i32, f32[3], {ptr, u32}}
 *   struct:BYTES      the same where it has more than 16 bytes, whatever its fields are
 * Of what does not fit into registers (6 integers and pointers, 8 floating-point numbers) at most 128 bytes. Structures
 * are copied; what lies between the fields of {...} does not go to the plugin. As a result: dunebox_call_into.
 * It has to be the function's own; nobody can check that, but nothing worse than a failed call, or one with
 * odd results, comes of another. Variable arguments, unions, bit-fields, packed structures, long double: there is no way
 * to say it. */
dunebox_status dunebox_find(dunebox_sandbox* sandbox, const char* name, const char* signature,
                            dunebox_function** function, dunebox_error* error);
/* In `sandbox` the function that another sandbox has: without looking it up again where both have the same
 * snapshot. */
dunebox_status dunebox_find_counterpart(dunebox_sandbox* sandbox, dunebox_function* original,
                                        dunebox_function** function, dunebox_error* error);
/* One that the plugin has given a pointer to. Of no use after a reset. */
dunebox_status dunebox_find_at(dunebox_sandbox* sandbox, dunebox_pointer address, const char* signature,
                               dunebox_function** function, dunebox_error* error);
dunebox_status dunebox_function_destroy(dunebox_function* function);

/* Calls it. `count` has to be the signature's; an integer that its type cannot hold is refused. `result` may
 * be NULL. Pointers are the plugin's: dunebox_memory_guest, dunebox_export, what it has returned. */
dunebox_status dunebox_call(dunebox_function* function, const dunebox_value* arguments, size_t count,
                            dunebox_value* result, dunebox_error* error);
/* The same for a function with a structure as its result, which is copied to `result`; `size` has to be the
 * signature's. */
dunebox_status dunebox_call_into(dunebox_function* function, const dunebox_value* arguments, size_t count,
                                 void* result, size_t size, dunebox_error* error);

/* The host's side of a callback. `arguments` are as the signature has them, structures as copies that last as long as the
 * callback; what `*result` holds is returned (cut to its type), or the structure that is put where result->to says.
 * Called on the thread that made the call, or, when a thread of the plugin's own comes, on that one. It may call into
 * the sandbox; it must not leave by longjmp, and an exception that leaves it, or the end of its thread, ends the process. */
typedef void (*dunebox_callback)(void* user, const dunebox_value* arguments, dunebox_value* result);

/* Makes `callback` a C function for the plugin; a structure as its result has at most 16 KiB. The plugin can call it at
 * any time as long as the sandbox lives, so `user`, which stays the caller's, has to live as long. At most 512; they
 * survive a reset. */
dunebox_status dunebox_export(dunebox_sandbox* sandbox, const char* signature, dunebox_callback callback,
                              void* user, dunebox_pointer* address, dunebox_error* error);

/* ---- memory ---------------------------------------------------------------------------------------------- */

/* Memory that both sides use, zeroed, 64-byte aligned. The plugin can neither unmap nor protect it. */
dunebox_status dunebox_allocate(dunebox_sandbox* sandbox, size_t size, dunebox_memory** memory,
                                dunebox_error* error);
/* `text` and its NUL. */
dunebox_status dunebox_allocate_string(dunebox_sandbox* sandbox, const char* text, dunebox_memory** memory,
                                       dunebox_error* error);
/* In a clone its own copy of memory that was allocated in the sandbox that the snapshot was taken of, before that.
 * Each once. DUNEBOX_NOT_FOUND: there is no such memory, or it was asked for. */
dunebox_status dunebox_memory_counterpart(dunebox_sandbox* clone, dunebox_memory* original,
                                          dunebox_memory** memory, dunebox_error* error);
dunebox_status dunebox_memory_free(dunebox_memory* memory);
/* The host's pointer, the plugin's, and the size; NULL or 0: no memory. Good until it is freed, also after the
 * sandbox's end. */
void* dunebox_memory_host(dunebox_memory* memory);
dunebox_pointer dunebox_memory_guest(dunebox_memory* memory);
size_t dunebox_memory_size(dunebox_memory* memory);

/* The host's pointer to `size` bytes that a pointer of the plugin's names, if all of them lie in one piece of
 * memory that the host has allocated; else DUNEBOX_OUT_OF_RANGE: what is the plugin's own it could unmap, so
 * that has to be copied. Good until that memory is freed. */
dunebox_status dunebox_span(dunebox_sandbox* sandbox, dunebox_pointer address, size_t size, void** host,
                            dunebox_error* error);

/* Copies from the plugin's memory, and into it; DUNEBOX_OUT_OF_RANGE where it is not that. A copy that fails
 * may have been made in part. */
dunebox_status dunebox_read(dunebox_sandbox* sandbox, dunebox_pointer from, void* to, size_t size,
                               dunebox_error* error);
dunebox_status dunebox_write(dunebox_sandbox* sandbox, dunebox_pointer to, const void* from, size_t size,
                                dunebox_error* error);
/* A text of the plugin's with its NUL, in all at most `size` bytes; longer: DUNEBOX_OUT_OF_RANGE. `length`,
 * which may be NULL, does not count the NUL. */
dunebox_status dunebox_read_string(dunebox_sandbox* sandbox, dunebox_pointer from, char* to, size_t size,
                                   size_t* length, dunebox_error* error);

/* NOLINTEND(modernize-use-using, readability-identifier-naming) */

#ifdef __cplusplus
}
#endif

#endif /* DUNEBOX_H_ */
