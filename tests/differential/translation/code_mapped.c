// Code behind changing mappings: protections, shared memory seen at two addresses, other code at the same address, moved pages.
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/shm.h>
#include <sys/wait.h>
#include <unistd.h>

#include "code.h"

static sigjmp_buf escape;
static void* fault_address;

static void on_fault(int signal, siginfo_t* info, void* context) {
  (void)signal, (void)context;
  fault_address = info->si_addr;
  siglongjmp(escape, 1);
}

// Whether a call there faults at the very address.
static int cannot_run(const unsigned char* at) {
  if (sigsetjmp(escape, 1) == 0) {
    call_code(at, 0);
    return 0;
  }
  return fault_address == (const void*)at;
}

static void write_xor_execute(void) {
  unsigned char* page = map_code(8192, kRw);
  long sum = 0;
  EXPECT(cannot_run(page));
  for (int i = 0; i < 500; ++i) {
    EXPECT(mprotect(page, 8192, kRw) == 0);
    put_linear(page + i % 4000, i, i * 3);
    EXPECT(mprotect(page, 8192, kRx) == 0);
    sum = sum * 3 + call_code(page + i % 4000, i);
  }
  printf("write xor execute: %lx\n", sum);
  EXPECT(mprotect(page, 8192, kRw) == 0);
  put_constant(page, 5);
  EXPECT(cannot_run(page));
  EXPECT(mprotect(page, 8192, PROT_EXEC) == 0 && call_code(page, 0) == 5);
  EXPECT(mprotect(page, 8192, PROT_NONE) == 0 && cannot_run(page));
  EXPECT(mprotect(page, 8192, kRx) == 0 && call_code(page, 0) == 5);
  EXPECT(mprotect(page, 8192, PROT_READ) == 0 && cannot_run(page));
  EXPECT(munmap(page, 8192) == 0 && cannot_run(page));
  printf("protections count at once\n");
}

static void two_views(int kind) {
  static const char* const names[] = {"memfd", "a file", "System V shared memory"};
  int fd = -1, id = -1;
  unsigned char *writable, *executable;
  if (kind == 2) {
    id = shmget(IPC_PRIVATE, 8192, 0700);
    EXPECT(id >= 0);
    writable = shmat(id, NULL, 0);
    executable = shmat(id, NULL, SHM_EXEC | SHM_RDONLY);
    EXPECT(shmctl(id, IPC_RMID, NULL) == 0);
  } else {
    fd = kind == 0 ? memfd_create("code", 0) : open("code", O_RDWR | O_CREAT | O_TRUNC, 0700);
    EXPECT(fd >= 0 && ftruncate(fd, 8192) == 0);
    writable = mmap(NULL, 8192, kRw, MAP_SHARED, fd, 0);
    executable = mmap(NULL, 8192, kRx, MAP_SHARED, fd, 0);
  }
  EXPECT(writable != MAP_FAILED && executable != MAP_FAILED && writable != executable);
  long sum = 0;
  for (int i = 0; i < 1000; ++i) {
    put_linear(writable + i % 8000, i, i * 7);
    sum = sum * 3 + call_code(executable + i % 8000, i);
  }
  // One that stays where it is.
  for (int i = 0; i < 1000; ++i) {
    put_linear(writable, i, i * 7);
    sum = sum * 3 + call_code(executable, i);
    writable[9] = (unsigned char)(i * 3);
    sum = sum * 3 + call_code(executable, i);
  }
  if (fd >= 0) {
    unsigned char code[16];
    const size_t length = put_constant(code, 4711);
    EXPECT(pwrite(fd, code, length, 0) == (ssize_t)length && call_code(executable, 0) == 4711);
    // A third view, private: it sees the change until it has a copy of its own.
    unsigned char* private = mmap(NULL, 8192, kRwx, MAP_PRIVATE, fd, 0);
    EXPECT(private != MAP_FAILED && call_code(private, 0) == 4711);
    private[2] = 1;
    put_constant(writable, 4712);
    sum = sum * 3 + call_code(private, 0) * 5 + call_code(executable, 0);
    // The file gets another view in the place of the first.
    EXPECT(mmap(executable, 4096, kRx, MAP_SHARED | MAP_FIXED, fd, 4096) == executable);
    put_constant(writable + 4096, 4713);
    sum = sum * 3 + call_code(executable, 0);
    EXPECT(munmap(private, 8192) == 0 && close(fd) == 0);
    if (kind == 1) EXPECT(unlink("code") == 0);
    EXPECT(munmap(writable, 8192) == 0 && munmap(executable, 8192) == 0);
  } else {
    EXPECT(shmdt(writable) == 0 && shmdt(executable) == 0);
  }
  printf("two views of %s: %lx\n", names[kind], sum);
}

static void other_code_at_the_same_address(void) {
  unsigned char* page = map_code(3 * 4096, kRwx);
  long sum = 0;
  for (int i = 0; i < 300; ++i) {
    put_constant(page, i * 3);
    sum = sum * 3 + call_code(page, 0);
    switch (i % 4) {
      case 0: {
        EXPECT(munmap(page, 4096) == 0);
        const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
        EXPECT(mmap(page, 4096, kRwx, flags, -1, 0) == page);
        break;
      }
      case 1:
        EXPECT(mmap(page, 4096, kRwx, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == page);
        break;
      case 2:
        // Zero-filled again.
        EXPECT(madvise(page, 4096, MADV_DONTNEED) == 0);
        break;
      case 3:
        // From elsewhere, with its contents.
        put_constant(page + 4096, i * 5);
        EXPECT(mremap(page + 4096, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, page) == page);
        sum = sum * 3 + call_code(page, 0);
        EXPECT(mmap(page + 4096, 4096, kRwx, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == page + 4096);
        continue;
    }
    EXPECT(page[0] == 0);
  }
  printf("other code at the same address: %lx\n", sum);
}

static void moved_code(void) {
  unsigned char* page = map_code(4096, kRwx);
  long sum = 0;
  for (int i = 0; i < 100; ++i) {
    put_linear(page, i, 3);
    sum = sum * 3 + call_code(page, i);
    unsigned char* hole = map_code(8192, PROT_NONE);
    unsigned char* moved = mremap(page, 4096, 8192, MREMAP_MAYMOVE | MREMAP_FIXED, hole);
    EXPECT(moved == hole);
    sum = sum * 3 + call_code(moved, i);
    EXPECT(cannot_run(page));
    // And a part of it back, smaller.
    EXPECT(mremap(moved, 8192, 4096, 0) == moved);
    page = moved;
  }
  printf("moved code: %lx\n", sum);
}

// A function in two pages, of which one is replaced.
static void half_replaced(void) {
  unsigned char* pages = map_code(8192, kRwx);
  long sum = 0;
  for (int i = 0; i < 100; ++i) {
    put_constant(pages + 4096 - 5, 0x1122334455667788);
    sum = sum * 3 + call_code(pages + 4096 - 5, 0);
    unsigned char copy[16];
    memcpy(copy, pages + 4096, sizeof(copy));
    EXPECT(mmap(pages + 4096, 4096, kRwx, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == pages + 4096);
    memcpy(pages + 4096, copy, sizeof(copy));
    pages[4096] = (unsigned char)i;
    sum = sum * 3 + call_code(pages + 4096 - 5, 0);
  }
  printf("half replaced: %lx\n", sum);
}

static void shrunken_file(void) {
  const int fd = memfd_create("code", 0);
  EXPECT(fd >= 0 && ftruncate(fd, 8192) == 0);
  unsigned char* code = mmap(NULL, 8192, kRwx, MAP_SHARED, fd, 0);
  EXPECT(code != MAP_FAILED);
  put_constant(code + 4096, 12);
  EXPECT(call_code(code + 4096, 0) == 12);
  EXPECT(ftruncate(fd, 4096) == 0 && cannot_run(code + 4096));
  EXPECT(ftruncate(fd, 8192) == 0);
  put_constant(code + 4096, 13);
  EXPECT(call_code(code + 4096, 0) == 13);
  printf("a shrunken file: ok\n");
}

// mprotect over a range of which one page in the middle holds code that ran.
static void large_ranges(void) {
  const size_t length = 16 << 20;
  unsigned char* range = map_code(length, kRwx);
  long sum = 0;
  for (int i = 0; i < 20; ++i) {
    for (size_t at = 4096; at < length; at += length / 16) {
      put_constant(range + at, i * 100 + (long)(at / 4096));
      sum = sum * 3 + call_code(range + at, 0);
    }
    EXPECT(mprotect(range, length, kRw) == 0 && mprotect(range, length, kRwx) == 0);
    if (i % 5 == 0) EXPECT(madvise(range, length, MADV_DONTNEED) == 0);
  }
  EXPECT(munmap(range, length) == 0 && cannot_run(range + 4096));
  printf("large ranges: %lx\n", sum);
}

static unsigned char* map_shared(size_t length) {
  void* at = mmap(NULL, length, kRwx, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  EXPECT(at != MAP_FAILED);
  return at;
}

// Shared memory that begins with one address in one process, and does not stay so.
static void shared_one_day(void) {
  unsigned char* code = map_shared(3 * 4096);
  long sum = 0;
  for (int i = 0; i < 300; ++i) {
    put_linear(code, i, 3);
    sum = sum * 3 + call_code(code, i);
  }
  // What is not to be written meanwhile is code as well.
  EXPECT(mprotect(code, 3 * 4096, kRx) == 0);
  sum = sum * 3 + call_code(code, 1);

  unsigned char* other = mremap(code, 0, 4096, MREMAP_MAYMOVE);
  EXPECT(other != MAP_FAILED && other != code && mprotect(other, 4096, kRw) == 0);
  for (int i = 0; i < 100; ++i) {
    put_linear(other, i, 5);
    sum = sum * 3 + call_code(code, i);
  }
  EXPECT(munmap(code, 3 * 4096) == 0 && munmap(other, 4096) == 0);

  // One of its pages goes elsewhere, and comes back by what is before it growing.
  code = map_shared(2 * 4096);
  put_constant(code + 4096, 1);
  sum = sum * 3 + call_code(code + 4096, 0);
  unsigned char* moved = mremap(code + 4096, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, map_code(4096, kRwx));
  EXPECT(moved != MAP_FAILED && call_code(moved, 0) == 1);
  EXPECT(mremap(code, 4096, 8192, 0) == code);
  for (int i = 0; i < 100; ++i) {
    put_constant(code + 4096, i);
    sum = sum * 3 + call_code(moved, 0);
  }
  EXPECT(munmap(code, 2 * 4096) == 0 && munmap(moved, 4096) == 0);

  // A child writes into code of its parent's, both ways.
  code = map_shared(4096);
  put_constant(code, 1);
  put_constant(code + 64, 1);
  EXPECT(call_code(code, 0) == 1 && call_code(code + 64, 0) == 1);
  fflush(stdout);
  int to_child[2], to_parent[2];
  EXPECT(pipe(to_child) == 0 && pipe(to_parent) == 0);
  const pid_t child = fork();
  EXPECT(child >= 0);
  char byte = 0;
  if (child == 0) {
    for (int i = 2; i < 50; ++i) {
      put_constant(code, i);
      if (write(to_parent[1], &byte, 1) != 1 || read(to_child[0], &byte, 1) != 1) _exit(1);
      if (call_code(code + 64, 0) != i) _exit(2);
    }
    _exit(0);
  }
  for (int i = 2; i < 50; ++i) {
    EXPECT(read(to_parent[0], &byte, 1) == 1);
    EXPECT(call_code(code, 0) == i);
    put_constant(code + 64, i);
    EXPECT(write(to_child[1], &byte, 1) == 1);
  }
  int status = 0;
  EXPECT(waitpid(child, &status, 0) == child && status == 0);
  EXPECT(munmap(code, 4096) == 0);
  printf("shared one day: %lx\n", sum);
}

// Whether a call there comes back: of zeros, add %al, (%rax) up to the page's end, it does not.
static int comes_back(const unsigned char* at) {
  if (sigsetjmp(escape, 1) != 0) return 0;
  call_code(at, 0);
  return 1;
}

// Code that nobody writes over goes with its pages.
static void emptied(int shared) {
  unsigned char* code = shared ? map_shared(8192) : map_code(8192, kRwx);
  EXPECT(mprotect(code + 4096, 4096, PROT_NONE) == 0);
  put_constant(code, 7);
  // What may not be written is not watched.
  EXPECT(mprotect(code, 4096, kRx) == 0 && call_code(code, 0) == 7);
  if (shared) EXPECT(mprotect(code, 4096, kRwx) == 0 && call_code(code, 0) == 7);
  EXPECT(madvise(code, 4096, shared ? MADV_REMOVE : MADV_DONTNEED) == 0);
  EXPECT(!comes_back(code));
  EXPECT(munmap(code, 8192) == 0);
  printf("emptied, %s: ok\n", shared ? "shared" : "private");
}

int main(void) {
  struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
  EXPECT(sigaction(SIGSEGV, &action, NULL) == 0 && sigaction(SIGBUS, &action, NULL) == 0);
  write_xor_execute();
  for (int kind = 0; kind < 3; ++kind) two_views(kind);
  other_code_at_the_same_address();
  moved_code();
  half_replaced();
  shrunken_file();
  large_ranges();
  shared_one_day();
  for (int shared = 0; shared < 2; ++shared) emptied(shared);
  return 0;
}
