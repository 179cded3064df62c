// Other doors to the runtime's memory: files of /proc, calls about other processes, kernel services
// that act on their own, and races between a check and a use.
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "attack.h"

static int own_pid(void) { return (int)CALL1(SYS_getpid, 0); }

// ---- /proc
// -----------------------------------------------------------------------------------------

static void attack_memory_file(const char* path, int file) {
  for (int i = 0; i < place_count; ++i) {
    unsigned char bytes[16];
    const off_t where[] = {(off_t)places[i].read, (off_t)places[i].start, (off_t)places[i].write};
    for (int j = 0; j < 3; ++j) {
      if (where[j] == 0) continue;
      if (pread(file, bytes, sizeof(bytes), where[j]) > 0)
        breach("%s reads %s", path, places[i].name);
      if (lseek(file, where[j], SEEK_SET) == where[j] && read(file, bytes, 8) > 0) {
        breach("%s reads %s after a seek", path, places[i].name);
      }
    }
    memset(bytes, 0xa5, sizeof(bytes));
    if (places[i].write != 0 && pwrite(file, bytes, sizeof(bytes), (off_t)places[i].write) > 0) {
      breach("%s writes %s", path, places[i].name);
    }
    void* mapped = mmap(NULL, 4096, PROT_READ, MAP_SHARED, file, (off_t)(places[i].read & ~4095UL));
    if (mapped != MAP_FAILED) breach("%s can be mapped", path);
  }
}

static void attack_memory_path(const char* path) {
  static const int kFlags[] = {O_RDONLY, O_RDWR, O_WRONLY, O_PATH, O_RDONLY | O_NOFOLLOW};
  for (int i = 0; i < 5; ++i) {
    const int file = open(path, kFlags[i]);
    if (file < 0) continue;
    attack_memory_file(path, file);
    // What an O_PATH descriptor names, opened again.
    char again[64];
    snprintf(again, sizeof(again), "/proc/self/fd/%d", file);
    const int second = open(again, O_RDWR);
    if (second >= 0) attack_memory_file(again, second), close(second);
    close(file);
  }
}

static void attack_memory_names(int pid) {
  char path[256];
  const int tid = (int)CALL1(SYS_gettid, 0);
  static const char* const kPatterns[] = {"/proc/%d/mem",
                                          "/proc/%d/task/%d/mem",
                                          "/proc/self/task/%2$d/mem",
                                          "/proc/%2$d/mem",
                                          "/proc//%d/./mem",
                                          "/proc/%d/root/proc/%d/mem",
                                          "/proc/%d/cwd/../../../../proc/%d/mem",
                                          "/proc/self/../%d/mem",
                                          "/proc/%d/task/%d/../../mem",
                                          "/proc/thread-self/root/proc/%d/mem",
                                          "/dev/fd/../mem",
                                          "/dev/fd/../../%d/mem"};
  for (size_t i = 0; i < sizeof(kPatterns) / sizeof(char*); ++i) {
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(path, sizeof(path), kPatterns[i], pid, tid);
    attack_memory_path(path);
  }
}

static void run_proc_mem(void) {
  attack_memory_path("/proc/self/mem");
  attack_memory_path("/proc/thread-self/mem");
  attack_memory_names(own_pid());
  // By a directory's descriptor, by a link, by what another name of the directory is.
  static const char* const kDirectories[] = {"/proc/self", "/proc/thread-self", "/proc/self/task",
                                             "/proc", "/"};
  static const char* const kNames[] = {"mem", "./mem", "../thread-self/mem", "self/mem",
                                       "proc/self/mem"};
  for (int i = 0; i < 5; ++i) {
    const int directory = open(kDirectories[i], O_RDONLY | O_DIRECTORY);
    for (int j = 0; j < 5; ++j) {
      const int file = openat(directory, kNames[j], O_RDWR);
      if (file >= 0) attack_memory_file(kNames[j], file), close(file);
      struct {
        u64 flags, mode, resolve;
      } how = {O_RDWR, 0, 0};
      const long second = CALL4(SYS_openat2, directory, kNames[j], &how, sizeof(how));
      if (second >= 0) attack_memory_file(kNames[j], (int)second), close((int)second);
    }
    if (fchdir(directory) == 0) attack_memory_path("mem"), attack_memory_path("self/mem");
    close(directory);
  }
  (void)!chdir("/tmp");
  char link[64];
  snprintf(link, sizeof(link), "/tmp/dunebox-attack-%d", own_pid());
  if (symlink("/proc/self/mem", link) == 0) attack_memory_path(link), unlink(link);
  if (symlink("/proc/self", link) == 0) {
    char below[80];
    snprintf(below, sizeof(below), "%s/mem", link);
    attack_memory_path(below), unlink(link);
  }
}

// Files that would tell where the runtime is, or hand out what is behind its mappings.
static const struct place* place_of(u64 address) {
  for (int i = 0; i < place_count; ++i) {
    if (address >= places[i].start && address < places[i].end) return &places[i];
  }
  return NULL;
}

// Numbers of either base that are addresses in a place.
static void find_addresses(const char* path, const char* text) {
  for (const char* c = text; *c != 0;) {
    if (!isxdigit((unsigned char)*c)) {
      ++c;
      continue;
    }
    char *end, *decimal_end;
    const struct place* place = place_of(strtoul(c, &end, 16));
    if (place == NULL) place = place_of(strtoul(c, &decimal_end, 10));
    if (place != NULL) breach("%s tells where %s is", path, place->name);
    c = end > c ? end : c + 1;
  }
}

static void attack_view(const char* path) {
  static char text[1 << 18];
  const int file = open(path, O_RDONLY | O_NONBLOCK);
  if (file < 0) return;
  size_t length = 0;
  ssize_t got;
  while (length < sizeof(text) - 1 &&
         (got = read(file, text + length, sizeof(text) - 1 - length)) > 0) {
    length += (size_t)got;
  }
  close(file);
  text[length] = 0;
  find_addresses(path, text);
  // Binary ones: as words.
  for (size_t at = 0; at + 8 <= length; at += 8) {
    u64 word;
    memcpy(&word, text + at, 8);
    const struct place* place = place_of(word);
    if (place != NULL) breach("%s holds an address in %s", path, place->name);
  }
}

static void attack_views_in(const char* directory, int depth) {
  DIR* entries = opendir(directory);
  if (entries == NULL) return;
  for (struct dirent* entry = readdir(entries); entry != NULL; entry = readdir(entries)) {
    if (entry->d_name[0] == '.') continue;
    char path[512];
    snprintf(path, sizeof(path), "%.200s/%.200s", directory, entry->d_name);
    struct stat info;
    if (lstat(path, &info) != 0) continue;
    if (S_ISREG(info.st_mode)) attack_view(path);
    const int is_other = strcmp(entry->d_name, "net") == 0 || strcmp(entry->d_name, "cwd") == 0;
    if (S_ISDIR(info.st_mode) && depth > 0 && !is_other) attack_views_in(path, depth - 1);
  }
  closedir(entries);
}
static void run_proc_views(void) {
  char path[64];
  attack_views_in("/proc/self", 3);
  attack_views_in("/proc/thread-self", 1);
  snprintf(path, sizeof(path), "/proc/%d", (int)CALL1(SYS_getppid, 0));
  attack_views_in(path, 1);
  static const char* const kRefused[] = {"mem",     "smaps",      "smaps_rollup", "numa_maps",
                                         "pagemap", "clear_refs", "syscall",      "stack"};
  for (int i = 0; i < 8; ++i) {
    snprintf(path, sizeof(path), "/proc/self/%s", kRefused[i]);
    const int file = open(path, i == 5 ? O_WRONLY : O_RDONLY);
    if (file >= 0) breach("%s can be opened", path), close(file);
  }
  for (int i = 0; i < place_count; ++i) {
    snprintf(path, sizeof(path), "/proc/self/map_files/%lx-%lx", places[i].start, places[i].end);
    if (open(path, O_RDONLY) >= 0) breach("%s can be opened", path);
  }
  const int maps = open("/proc/kcore", O_RDONLY);
  if (maps >= 0) breach("/proc/kcore can be opened");
}

// ---- calls about processes
// -------------------------------------------------------------------------

static void transfer(int pid, const char* who) {
  for (int i = 0; i < place_count; ++i) {
    u64 value = 0xa5a5a5a5a5a5a5a5;
    struct iovec own = {&value, 8}, there = {(void*)places[i].read, 8};
    if (CALL6(SYS_process_vm_readv, pid, &own, 1, &there, 1, 0) >= 0)
      breach("%s: process_vm_readv of %s", who, places[i].name);
    there.iov_base = (void*)(places[i].write != 0 ? places[i].write : places[i].start);
    if (CALL6(SYS_process_vm_writev, pid, &own, 1, &there, 1, 0) >= 0)
      breach("%s: process_vm_writev of %s", who, places[i].name);
    own.iov_base = (void*)places[i].read;
    there.iov_base = &value;
    if (CALL6(SYS_process_vm_writev, pid, &own, 1, &there, 1, 0) >= 0)
      breach("%s: process_vm_writev from %s", who, places[i].name);
  }
}

static void trace(int pid, const char* who) {
  static const long kRequests[] = {PTRACE_TRACEME,  PTRACE_ATTACH,   PTRACE_SEIZE,
                                   PTRACE_PEEKDATA, PTRACE_POKEDATA, PTRACE_GETREGS,
                                   PTRACE_SETREGS,  PTRACE_INTERRUPT};
  for (size_t i = 0; i < sizeof(kRequests) / sizeof(long); ++i) {
    const long result = CALL4(SYS_ptrace, kRequests[i], pid, places[0].read, attack_scratch);
    if (result >= 0) breach("%s: ptrace %ld works", who, kRequests[i]);
  }
}

static void run_process_vm(void) {
  transfer(own_pid(), "itself");
  transfer((int)CALL1(SYS_gettid, 0), "its thread");
  transfer((int)CALL1(SYS_getppid, 0), "its parent");
}

static int parent_pid;
static void attack_parent(u64 ignored) {
  transfer(parent_pid, "a child");
  trace(parent_pid, "a child");
  attack_memory_names(parent_pid);
  const long descriptor = CALL2(SYS_pidfd_open, parent_pid, 0);
  for (int fd = 0; fd < 64; ++fd) {
    if (CALL3(SYS_pidfd_getfd, descriptor, fd, 0) >= 0) breach("pidfd_getfd works");
  }
}
// The monitor above is a runtime too, and a child has the same addresses.
static void attack_from_child(int pid, const char* who) {
  parent_pid = pid;
  const pid_t child = fork();
  if (child == 0) {
    attack_parent(0);
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  if (status != 0) breach("%s: status %x", who, status);
}
static void run_ptrace(void) {
  trace(own_pid(), "itself");
  trace((int)CALL1(SYS_getppid, 0), "its parent");
}
static void run_parent_from_child(void) {
  attack_from_child(own_pid(), "the program");
  attack_from_child((int)CALL1(SYS_getppid, 0), "the monitor");
}

// ---- the kernel's other services
// -------------------------------------------------------------------

static void run_kernel_services(void) {
  static unsigned char parameters[4096];
  struct {
    const char* name;
    long result;
  } rows[] = {
      {"io_uring_setup", CALL2(425, 8, parameters)},
      {"io_uring_enter", CALL6(426, 3, 1, 1, 0, 0, 0)},
      {"io_uring_register", CALL4(427, 3, 0, parameters, 1)},
      {"userfaultfd", CALL1(SYS_userfaultfd, 0)},
      {"userfaultfd, user mode", CALL1(SYS_userfaultfd, 1)},
      {"bpf", CALL3(SYS_bpf, 0, parameters, 128)},
      {"perf_event_open", CALL5(SYS_perf_event_open, parameters, 0, -1, -1, 0)},
      {"kcmp", CALL5(SYS_kcmp, own_pid(), own_pid(), 1, 0, 0)},
      {"personality", CALL1(SYS_personality, 0x0400000)},
      {"modify_ldt", CALL3(SYS_modify_ldt, 1, parameters, 16)},
      {"iopl", CALL1(SYS_iopl, 3)},
      {"ioperm", CALL3(SYS_ioperm, 0, 1024, 1)},
      {"kexec_load", CALL4(SYS_kexec_load, 0, 0, 0, 0)},
      {"set_thread_area", CALL1(SYS_set_thread_area, parameters)},
      {"io_setup", CALL2(SYS_io_setup, 8, parameters)},
      {"uselib", CALL1(SYS_uselib, "/bin/true")},
      {"unshare", CALL1(SYS_unshare, 0x400)},
      {"setns", CALL2(SYS_setns, 0, 0)},
      {"keyctl", CALL5(SYS_keyctl, 11, 1, places[0].write, 64, 0)},
      {"memfd_secret", CALL1(447, 0)},
      {"landlock", CALL3(444, parameters, 8, 0)},
      {"open_by_handle_at", CALL3(SYS_open_by_handle_at, -100, parameters, 0)},
      {"init_module", CALL3(SYS_init_module, parameters, 64, "")},
      {"fanotify_init", CALL2(SYS_fanotify_init, 0, 0)},
  };
  for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); ++i) {
    if (rows[i].result >= 0) breach("%s gives %ld", rows[i].name, rows[i].result);
  }
  static const char* const kDevices[] = {"/dev/userfaultfd", "/dev/kvm", "/dev/kmem"};
  for (int i = 0; i < 3; ++i) {
    const int device = open(kDevices[i], O_RDWR);
    if (device < 0) continue;
    if (CALL3(SYS_ioctl, device, 0xaa00, 0) >= 0)
      breach("%s makes userfault descriptors", kDevices[i]);
    if (CALL3(SYS_ioctl, device, 0xae01, 0) >= 0) breach("%s makes machines", kDevices[i]);
    close(device);
  }
}

// Restartable sequences: the kernel reads and writes the area whenever it preempts.
static void run_rseq(void) {
  for (int i = 0; i < place_count; ++i) {
    const u64 areas[] = {places[i].write & ~31UL, places[i].read & ~31UL};
    for (int j = 0; j < 2; ++j) {
      for (int flags = 0; flags < 2; ++flags) {
        if (areas[j] != 0 && CALL4(SYS_rseq, areas[j], 32, flags, 0x53053053) >= 0)
          breach("rseq in %s", places[i].name);
      }
    }
  }
  // An area of ours whose abort handler is the runtime's.
  static struct {
    unsigned cpu, cpu_id;
    u64 sequence;
    unsigned flags, padding[3];
  } area __attribute__((aligned(32)));
  static struct {
    unsigned version, flags;
    u64 start, length, abort;
  } sequence __attribute__((aligned(32)));
  sequence.start = 0x1000, sequence.length = USER_HALF_END, sequence.abort = places[0].read;
  area.sequence = (u64)&sequence;
  if (CALL4(SYS_rseq, &area, 32, 0, 0x53053053) == 0) {
    for (int i = 0; i < 100000; ++i) CALL1(SYS_sched_yield, 0);
  }
}

// Pages that go through pipes by reference.
static void run_splices(void) {
  int ends[2], second[2];
  (void)!pipe2(ends, O_NONBLOCK);
  (void)!pipe2(second, O_NONBLOCK);
  for (int i = 0; i < place_count; ++i) {
    const u64 at[] = {places[i].read, places[i].read & ~4095UL, places[i].write};
    for (int j = 0; j < 3; ++j) {
      if (at[j] == 0) continue;
      struct iovec vector = {(void*)at[j], 4096 - (at[j] & 4095)};
      for (int flags = 0; flags < 16; ++flags) {
        if (CALL4(SYS_vmsplice, ends[1], &vector, 1, flags) >= 0)
          breach("vmsplice of %s", places[i].name);
      }
      (void)!write(ends[1], attack_scratch, 64);
      if (CALL4(SYS_vmsplice, ends[0], &vector, 1, 0) >= 0)
        breach("vmsplice to %s", places[i].name);
      if (CALL6(SYS_splice, ends[0], 0, second[1], at[j], 64, 0) > 0)
        breach("splice with an offset in %s", places[i].name);
      (void)CALL4(SYS_tee, ends[0], second[1], 64, 0);
      if (CALL4(SYS_sendfile, second[1], ends[0], at[j], 64) > 0)
        breach("sendfile with its offset in %s", places[i].name);
      if (CALL6(SYS_copy_file_range, ends[0], at[j], ends[1], at[j], 64, 0) > 0)
        breach("copy_file_range with %s", places[i].name);
    }
  }
}

// ---- races
// -----------------------------------------------------------------------------------------

// One thread flips an address between good and bad while the other one has calls use it.
static volatile int flips_go_on = 1;
static volatile u64* volatile flipped;
static volatile u64 flip_good, flip_bad;
static pthread_t flipper;

static void* flip(void* ignored) {
  while (flips_go_on) {
    volatile u64* const word = flipped;
    if (word == NULL) {
      CALL1(SYS_sched_yield, 0);
      continue;
    }
    const u64 good = flip_good;
    *word = flip_bad;
    for (int i = 0; i < 16; ++i) __asm__ volatile("pause");
    *word = good;
    for (int i = 0; i < 16; ++i) __asm__ volatile("pause");
  }
  for (;;) pause();  // the driver still has to see its memory
  return NULL;
}
static void start_flipper(void) { pthread_create(&flipper, NULL, flip, NULL); }

enum { kRaceRounds = 100000 };
static unsigned char race_buffer[64];
static struct iovec race_vectors[2];
static struct msghdr race_message;

static void begin_race(volatile u64* word, u64 good, u64 bad) {
  flipped = NULL;
  CALL1(SYS_sched_yield, 0);
  flip_good = good, flip_bad = bad;
  *word = good;
  flipped = word;
}

// What comes out must be what went in.
static void expect_good(const unsigned char* bytes, ssize_t count, const char* what) {
  for (ssize_t i = 0; i < count; ++i) {
    if (bytes[i] != 0x47) return breach("%s: a byte %x came through", what, bytes[i]);
  }
}

static u64 race_target(int is_store, int round) {
  static const char* const kStores[] = {"tables", "signal_stack", "code_writable", "stack"};
  static const char* const kLoads[] = {"text", "exits", "heap", "code"};
  const struct place* place = find_place((is_store ? kStores : kLoads)[round % 4]);
  return place == NULL                   ? places[0].read
         : is_store && place->write != 0 ? place->write
                                         : place->read;
}

static void run_race_writev(void) {
  int ends[2];
  (void)!pipe2(ends, O_NONBLOCK);
  memset(race_buffer, 0x47, sizeof(race_buffer));
  race_vectors[0] = (struct iovec){race_buffer, 64};
  int refused = 0, done = 0;
  for (int round = 0; round < kRaceRounds; ++round) {
    if (round % 1000 == 0)
      begin_race((volatile u64*)&race_vectors[0].iov_base, (u64)race_buffer,
                 race_target(0, round / 1000));
    const long result = round % 2 == 0 ? CALL3(SYS_writev, ends[1], race_vectors, 1)
                                       : CALL4(SYS_vmsplice, ends[1], race_vectors, 1, 0);
    ++*(result < 0 ? &refused : &done);
    unsigned char bytes[256];
    ssize_t got;
    while ((got = read(ends[0], bytes, sizeof(bytes))) > 0) expect_good(bytes, got, "writev");
  }
  flips_go_on = 0;
  note("writev: %d times refused, %d times done", refused, done);
}

static void run_race_readv(void) {
  const int zero = open("/dev/zero", O_RDONLY), random = open("/dev/urandom", O_RDONLY);
  race_vectors[0] = (struct iovec){race_buffer, 64};
  for (int round = 0; round < kRaceRounds; ++round) {
    if (round % 1000 == 0)
      begin_race((volatile u64*)&race_vectors[0].iov_base, (u64)race_buffer,
                 race_target(1, round / 1000));
    CALL3(SYS_readv, round % 2 == 0 ? random : zero, race_vectors, 1);
  }
  flips_go_on = 0;
}

static void run_race_sendmsg(void) {
  int pair[2];
  socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair);
  memset(race_buffer, 0x47, sizeof(race_buffer));
  race_vectors[0] = (struct iovec){race_buffer, 64};
  race_vectors[1] = race_vectors[0];
  race_message = (struct msghdr){.msg_iov = race_vectors, .msg_iovlen = 1};
  for (int round = 0; round < kRaceRounds / 2; ++round) {
    if (round % 2000 == 0) {
      begin_race((volatile u64*)&race_message.msg_iov, (u64)race_vectors,
                 race_target(0, round / 2000));
    } else if (round % 2000 == 1000) {
      begin_race((volatile u64*)&race_vectors[0].iov_base, (u64)race_buffer,
                 race_target(0, round / 2000));
    }
    CALL3(SYS_sendmsg, pair[0], &race_message, MSG_DONTWAIT);
    unsigned char bytes[256];
    ssize_t got;
    while ((got = recv(pair[1], bytes, sizeof(bytes), MSG_DONTWAIT)) > 0)
      expect_good(bytes, got, "sendmsg");
  }
  flips_go_on = 0;
}

static void run_race_recvmsg(void) {
  int pair[2];
  socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair);
  race_vectors[0] = (struct iovec){race_buffer, 64};
  race_message = (struct msghdr){.msg_iov = race_vectors, .msg_iovlen = 1};
  static unsigned char control[64];
  unsigned char bytes[64];
  memset(bytes, 0xa5, sizeof(bytes));
  for (int round = 0; round < kRaceRounds / 2; ++round) {
    const u64 bad = race_target(1, round / 1000);
    if (round % 3000 == 0) begin_race((volatile u64*)&race_message.msg_iov, (u64)race_vectors, bad);
    if (round % 3000 == 1000)
      begin_race((volatile u64*)&race_vectors[0].iov_base, (u64)race_buffer, bad);
    if (round % 3000 == 2000) {
      race_message.msg_controllen = sizeof(control);
      begin_race((volatile u64*)&race_message.msg_control, (u64)control, bad);
    }
    (void)!write(pair[1], bytes, sizeof(bytes));
    CALL3(SYS_recvmsg, pair[0], &race_message, MSG_DONTWAIT);
    if (round % 64 == 0) {
      while (recv(pair[0], bytes, sizeof(bytes), MSG_DONTWAIT) > 0) {
      }
      memset(bytes, 0xa5, sizeof(bytes));
    }
  }
  flips_go_on = 0;
}

// Lengths: short when it is checked, long when it is used, with the runtime behind the good
// buffer's window. The buffer ends at the edge of the user half, so whatever is longer would run
// over it.
static void run_race_lengths(void) {
  const u64 last = USER_HALF_END - 4096;
  mmap((void*)last, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | 0x100000, -1, 0);
  int pair[2];
  socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair);
  static volatile u64 length __attribute__((aligned(8)));
  for (int round = 0; round < kRaceRounds / 4; ++round) {
    if (round % 1000 == 0) begin_race(&length, 8, 0x7fffffff);
    CALL5(SYS_getsockopt, pair[0], SOL_SOCKET, SO_RCVTIMEO, USER_HALF_END - 8, &length);
    CALL3(SYS_getsockname, pair[0], USER_HALF_END - 8, &length);
    struct iovec vector = {(void*)(USER_HALF_END - 8), 8};
    if (round % 1000 == 500) begin_race((volatile u64*)&race_vectors[1].iov_len, 8, 1UL << 40);
    race_vectors[1].iov_base = vector.iov_base;
    CALL3(SYS_writev, pair[0], race_vectors + 1, 1);
    unsigned char bytes[4096];
    while (recv(pair[1], bytes, sizeof(bytes), MSG_DONTWAIT) > (ssize_t)sizeof(bytes) - 1) {
    }
  }
  flips_go_on = 0;
}

const struct attack_case attack_cases[] = {
    {"proc_mem", run_proc_mem},
    {"proc_views", run_proc_views},
    {"process_vm", run_process_vm},
    {"ptrace", run_ptrace},
    {"parent_from_child", run_parent_from_child},
    {"kernel_services", run_kernel_services},
    {"rseq", run_rseq},
    {"splices", run_splices},
    {"race_writev", run_race_writev, start_flipper},
    {"race_readv", run_race_readv, start_flipper},
    {"race_sendmsg", run_race_sendmsg, start_flipper},
    {"race_recvmsg", run_race_recvmsg, start_flipper},
    {"race_lengths", run_race_lengths, start_flipper},
    {NULL, NULL},
};
