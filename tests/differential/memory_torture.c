// Several threads change their mappings in orders that a seed decides, access them, take the faults, repair them in handlers that
// fault themselves, make system calls on them, fork, and send each other signals. Each keeps a model of its pages: what is there, with
// what rights and content; every access, fault and result is compared with it. The threads' pages alternate, so that they share page
// tables and 2 MiB spans. One more thread maps, protects and unmaps pages that all look at: once such a change is over, none may
// still see what was before.
//
//   memory_torture [STEPS [SEED]]
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "expect.h"

enum { kThreads = 4, kPages = 64, kRun = 4, kSignalPages = 8, kOwn = kPages + kSignalPages, kSharedPages = 8, kPage = 4096, kDepth = 3 };

struct page {
  int mapped, rights;
  uint64_t value;  // of the page's first word
};

// The access that is being made: a fault must be this one.
struct access {
  char* at;
  int page;  // of the thread's; -1: one of the shared ones
  int code;  // the si_code that the fault must have; 0: there must be none
  int depth;
  uint64_t* state;  // where its repair takes its choices from
  sigjmp_buf* escape;
  struct access* before;
};

struct thread {
  int number;
  pthread_t id;
  uint64_t state, signal_state;  // of the choices of its steps, and of those of its signal handler
  struct page pages[kOwn];       // the last ones belong to the handler of SIGUSR1
  struct access* volatile access;
  int pipe[2];
  uint64_t hash;
  char stack[256 * 1024];
};

static struct thread threads[kThreads];
static __thread struct thread* self;
static char* area;    // of all threads' pages
static char* shared;  // of the pages that one thread changes and all look at
// Counts the changes of each shared page. Modulo 6: 0 read-write, 2 read-only, 4 not there; odd: being changed.
static _Atomic uint64_t shared_change[kSharedPages];
static atomic_int running;
static pthread_barrier_t start, end;
static long steps;

static _Noreturn void fail(const char* what, long a, long b) {
  printf("thread %d: %s (%ld, %ld)\n", self != NULL ? self->number : -1, what, a, b);
  fflush(stdout);
  _exit(1);
}

static uint64_t pick(uint64_t* state, uint64_t below) {
  *state ^= *state << 13;
  *state ^= *state >> 7;
  *state ^= *state << 17;
  return *state % below;
}

static void observe(uint64_t value) { self->hash = (self->hash ^ value) * 0x100000001b3; }

// Runs of kRun pages, each thread's in turn.
static char* address(int page) {
  return area + ((page / kRun * kThreads + self->number) * kRun + page % kRun) * kPage;
}

static int right_for(char how) { return how == 'w' ? PROT_WRITE : PROT_READ; }

// What an access to a page must end in: 0 or the fault's si_code.
static int outcome(const struct page* page, char how) {
  if (!page->mapped) return SEGV_MAPERR;
  return (page->rights & right_for(how)) != 0 ? 0 : SEGV_ACCERR;
}

static int some_rights(uint64_t* state) {
  static const int choices[] = {PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE, PROT_READ | PROT_EXEC};
  return choices[pick(state, sizeof(choices) / sizeof(choices[0]))];
}

static void map(int page, int count, int rights) {
  if (mmap(address(page), (size_t)count * kPage, rights, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != address(page)) {
    fail("mmap", page, errno);
  }
  for (int i = page; i < page + count; ++i) self->pages[i] = (struct page){1, rights, 0};
}

static void protect(int page, int rights) {
  if (mprotect(address(page), kPage, rights) != 0) fail("mprotect", page, errno);
  self->pages[page].rights = rights;
}

// Reads or writes the page's first word. Where that faults, on_fault makes it possible.
static void touch(uint64_t* state, int page, char how, int depth) {
  volatile uint64_t* at = (volatile uint64_t*)address(page);
  struct access access = {(char*)address(page), page, outcome(&self->pages[page], how), depth, state, NULL, self->access};
  self->access = &access;
  if (how == 'w') {
    const uint64_t value = pick(state, UINT64_MAX);
    *at = value;
    self->pages[page].value = value;
  } else {
    const uint64_t value = *at;
    if (value != self->pages[page].value) fail("another content than written", page, (long)value);
  }
  self->access = access.before;
  if (access.code != 0) fail("an access without the rights for it", page, access.code);
}

// The set a page belongs to: the steps' pages, or the signal handler's.
static int some_page(const uint64_t* state, uint64_t* choices) {
  return state == &self->signal_state ? kPages + (int)pick(choices, kSignalPages) : (int)pick(choices, kPages);
}

static void on_fault(int signal, siginfo_t* info, void* context) {
  (void)context;
  struct access* access = self->access;
  if (access == NULL) fail("a fault without an access", signal, (long)info->si_addr);
  if (info->si_addr != access->at) fail("a fault at another address", access->page, (char*)info->si_addr - access->at);
  if (access->escape != NULL) siglongjmp(*access->escape, 1);
  if (signal != SIGSEGV || info->si_code != access->code) fail("another fault than expected", info->si_code, access->code);
  // Handlers fault as well.
  if (access->depth < kDepth) {
    for (uint64_t i = pick(access->state, 3); i > 0; --i) {
      const int page = some_page(access->state, access->state);
      if (page != access->page) touch(access->state, page, pick(access->state, 2) != 0 ? 'w' : 'r', access->depth + 1);
    }
  }
  if (self->pages[access->page].mapped) {
    protect(access->page, PROT_READ | PROT_WRITE);
  } else {
    map(access->page, 1, PROT_READ | PROT_WRITE);
  }
  access->code = 0;
}

// At any place of a step: pages of its own only, and no choice that the steps' hash depends on.
static void on_signal(int signal, siginfo_t* info, void* context) {
  (void)signal, (void)info, (void)context;
  const int error = errno;
  uint64_t* state = &self->signal_state;
  const int page = some_page(state, state);
  touch(state, page, pick(state, 2) != 0 ? 'w' : 'r', 1);
  if (pick(state, 2) != 0) protect(page, some_rights(state));
  errno = error;
}

static uint64_t shared_content(int page) { return 0x5348415245440000 + (uint64_t)page; }

// When the change's number is the same before and after, the access must have been as that state wants it.
static void look_at_shared(void) {
  const int page = (int)pick(&self->state, kSharedPages);
  const char how = pick(&self->state, 2) != 0 ? 'w' : 'r';
  volatile uint64_t* at = (volatile uint64_t*)(shared + page * kPage);
  sigjmp_buf escape;
  struct access access = {(char*)at, -1, 0, kDepth, &self->state, &escape, self->access};
  volatile int faulted = 0;
  volatile uint64_t value = shared_content(page);
  const uint64_t before = atomic_load(&shared_change[page]);
  if (sigsetjmp(escape, 1) == 0) {
    self->access = &access;
    if (how == 'w') {
      *at = shared_content(page);
    } else {
      value = *at;
    }
  } else {
    faulted = 1;
  }
  self->access = access.before;
  atomic_thread_fence(memory_order_seq_cst);
  if (value != shared_content(page) && value != 0) fail("a shared page's content", page, (long)value);
  if (before % 2 != 0 || atomic_load(&shared_change[page]) != before) return;
  const int allowed = before % 6 == 0 || (before % 6 == 2 && how == 'r');
  if (faulted == allowed) fail(faulted ? "a fault after the right was given" : "no fault after the right was taken", page, how);
  if (allowed && value == 0) fail("an empty shared page", page, how);
}

static void* change_shared(void* argument) {
  (void)argument;
  uint64_t state = 4711;
  pthread_barrier_wait(&start);
  while (atomic_load(&running) > 0) {
    const int page = (int)pick(&state, kSharedPages);
    char* at = shared + page * kPage;
    const uint64_t change = atomic_fetch_add(&shared_change[page], 1);
    int result = 0;
    switch (change % 6) {
      case 0:
        result = mprotect(at, kPage, PROT_READ);
        break;
      case 2:
        result = munmap(at, kPage);
        break;
      case 4:
        result = mmap(at, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == at ? 0 : -1;
        *(volatile uint64_t*)at = shared_content(page);
        break;
    }
    if (result != 0) fail("a shared page cannot be changed", page, errno);
    atomic_fetch_add(&shared_change[page], 1);
    usleep(50);
  }
  return NULL;
}

// Everything as the model says, by accesses that repair what they find shut.
static void check_all(void) {
  for (int page = 0; page < kPages; ++page) {
    touch(&self->state, page, 'r', kDepth);
    observe(self->pages[page].value + (uint64_t)self->pages[page].rights);
  }
}

static void fork_and_check(void) {
  fflush(stdout);
  const pid_t child = fork();
  if (child < 0) fail("fork", errno, 0);
  if (child == 0) {
    check_all();
    for (int i = 0; i < kPages; ++i) touch(&self->state, i, 'w', 0);
    _exit(7);
  }
  int status = 0;
  while (waitpid(child, &status, 0) != child) {
    if (errno != EINTR) fail("waitpid", errno, 0);
  }
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 7) fail("a child's status", status, 0);
}

// The kernel reads a page, then writes it: what it may do is in the model, too.
static void system_calls_on(int page) {
  const struct page* model = &self->pages[page];
  const long can_read = outcome(model, 'r') == 0, can_write = outcome(model, 'w') == 0;
  const long sent = write(self->pipe[1], address(page), sizeof(uint64_t));
  if (sent != (can_read ? (long)sizeof(uint64_t) : -1) || (sent < 0 && errno != EFAULT)) fail("write", sent, errno);
  if (sent < 0) return;
  uint64_t value = 0;
  if (can_write && pick(&self->state, 2) != 0) {
    if (read(self->pipe[0], address(page), sizeof(value)) != sizeof(value)) fail("read", page, errno);
    return;
  }
  if (!can_write) {
    // Into a page that the kernel must not write; the pipe keeps its content.
    if (read(self->pipe[0], address(page), sizeof(value)) != -1 || errno != EFAULT) fail("read into a shut page", page, errno);
  }
  if (read(self->pipe[0], &value, sizeof(value)) != sizeof(value) || value != model->value) fail("read", page, (long)value);
}

static void step(void) {
  uint64_t* state = &self->state;
  const int page = (int)pick(state, kPages);
  const int count = 1 + (int)pick(state, (uint64_t)(kRun - page % kRun));
  switch (pick(state, 20)) {
    case 0:
      map(page, count, some_rights(state));
      break;
    case 1:
      if (munmap(address(page), (size_t)count * kPage) != 0) fail("munmap", page, errno);
      for (int i = page; i < page + count; ++i) self->pages[i] = (struct page){0};
      break;
    case 2:
    case 3:
    case 4:
      if (self->pages[page].mapped) protect(page, some_rights(state));
      break;
    case 5: {
      const int to = (int)pick(state, kPages);
      if (!self->pages[page].mapped || to == page) break;
      if (mremap(address(page), kPage, kPage, MREMAP_MAYMOVE | MREMAP_FIXED, address(to)) != address(to)) fail("mremap", page, errno);
      self->pages[to] = self->pages[page];
      self->pages[page] = (struct page){0};
      break;
    }
    case 6:
      if (!self->pages[page].mapped) break;
      if (madvise(address(page), kPage, MADV_DONTNEED) != 0) fail("madvise", page, errno);
      self->pages[page].value = 0;
      break;
    case 7:
      if (pick(state, 40) == 0) fork_and_check();
      break;
    case 8:
    case 9:
      system_calls_on(page);
      break;
    case 10:
      pthread_kill(threads[pick(state, kThreads)].id, SIGUSR1);
      break;
    case 11:
    case 12:
    case 13:
      look_at_shared();
      break;
    default:
      touch(state, page, pick(state, 2) != 0 ? 'w' : 'r', 0);
      observe(self->pages[page].value);
      break;
  }
}

static void* work(void* argument) {
  self = argument;
  // Half of the threads handle signals on a stack of their own.
  if (self->number % 2 == 0) {
    stack_t stack = {.ss_sp = self->stack, .ss_size = sizeof(self->stack)};
    if (sigaltstack(&stack, NULL) != 0) fail("sigaltstack", errno, 0);
  }
  if (pipe(self->pipe) != 0) fail("pipe", errno, 0);
  self->hash = 0xcbf29ce484222325;
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGUSR1);
  pthread_barrier_wait(&start);
  if (pthread_sigmask(SIG_UNBLOCK, &signals, NULL) != 0) fail("pthread_sigmask", 0, 0);
  for (long i = 0; i < steps; ++i) step();
  check_all();
  // A thread that is gone cannot be sent signals.
  atomic_fetch_sub(&running, 1);
  pthread_barrier_wait(&end);
  return NULL;
}

int main(int argc, char** argv) {
  steps = argc > 1 ? atol(argv[1]) : 3000;
  const uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 20261121;
  printf("%ld steps, seed %lu\n", steps, (unsigned long)seed);
  struct sigaction fault = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
  struct sigaction signal = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};
  EXPECT(sigaction(SIGSEGV, &fault, NULL) == 0 && sigaction(SIGBUS, &fault, NULL) == 0 && sigaction(SIGUSR1, &signal, NULL) == 0);
  // Across a multiple of 2 MiB, in the middle of a reservation.
  const size_t half = 2 << 20;
  char* reserved = mmap(NULL, 4 * half, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  EXPECT(reserved != MAP_FAILED);
  char* boundary = (char*)(((uintptr_t)reserved + 2 * half - 1) & ~(half - 1));
  area = boundary - kOwn * kThreads / 2 * kPage;
  shared = boundary + half - kSharedPages / 2 * kPage;
  EXPECT(munmap(area, (size_t)kOwn * kThreads * kPage) == 0);
  for (int i = 0; i < kSharedPages; ++i) {
    EXPECT(mmap(shared + i * kPage, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED);
    *(uint64_t*)(shared + i * kPage) = shared_content(i);
  }
  // Threads begin with it blocked: they take none before they know who they are.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGUSR1);
  EXPECT(pthread_sigmask(SIG_BLOCK, &signals, NULL) == 0);
  EXPECT(pthread_barrier_init(&start, NULL, kThreads + 2) == 0 && pthread_barrier_init(&end, NULL, kThreads) == 0);
  atomic_store(&running, kThreads);
  pthread_t changer;
  EXPECT(pthread_create(&changer, NULL, change_shared, NULL) == 0);
  for (int i = 0; i < kThreads; ++i) {
    threads[i].number = i;
    threads[i].state = seed + (uint64_t)i * 0x9e3779b97f4a7c15;
    threads[i].signal_state = ~threads[i].state;
    EXPECT(pthread_create(&threads[i].id, NULL, work, &threads[i]) == 0);
  }
  pthread_barrier_wait(&start);
  for (int i = 0; i < kThreads; ++i) EXPECT(pthread_join(threads[i].id, NULL) == 0);
  EXPECT(pthread_join(changer, NULL) == 0);
  for (int i = 0; i < kThreads; ++i) printf("thread %d: %016lx\n", i, (unsigned long)threads[i].hash);
  return 0;
}
