// Makes random system calls with random, racing and hostile arguments from several threads, in one short-lived child after the other.
// The guest is free to wreck itself; what the driver (run) looks for is a runtime that fails, and changes outside.
//
//   random_calls SECONDS SEED     # prints the seed of each child that the runtime ended with 125
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string_view>
#include <thread>
#include <vector>

#include "hostcalls/table/argument.h"

namespace {

using namespace dunebox::hostcalls;

struct Row {
  unsigned number;
  Argument arguments[6];
};

constexpr Row kRows[] = {
#define SYSCALL(number, name, route, family, note, ...) {number, {__VA_ARGS__}},
#include "hostcalls/table/syscalls.inc"
#undef SYSCALL
};
constexpr unsigned kRowCount = sizeof(kRows) / sizeof(*kRows);

// They end the child before it has done anything, and nothing else.
bool IsDull(unsigned number) {
  return number == SYS_exit || number == SYS_exit_group || number == SYS_pause;
}

class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15 + 1) {}
  // [xorshift64*] Marsaglia, Vigna.
  std::uint64_t Bits() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return state_ * 0x2545f4914f6cdd1d;
  }
  std::uint64_t Below(std::uint64_t limit) { return (Bits() >> 16) % limit; }
  bool OneIn(std::uint64_t count) { return Below(count) == 0; }
  template <typename T, std::size_t n>
  const T& Of(const T (&values)[n]) { return values[Below(n)]; }

 private:
  std::uint64_t state_;
};

constexpr std::size_t kArena = 256 << 10;
unsigned char* arena;
int descriptors[16];

const char* const kPaths[] = {
    "file", "dir", "dir/file", "link", "new", ".", "..", "", "/", "/tmp", "/etc/passwd", "/proc/self/mem", "/proc/self/maps",
    "/proc/self/exe", "/proc/self/fd/0", "/proc/self/fd/4096", "/proc/self/root/etc/shadow", "/proc/self/task", "/proc/1/mem",
    "/proc/sys/kernel/hostname", "/dev/null", "/dev/tty", "/dev/shm/x", "/bin/true", "./file/../dir/./file", "dir/../../../etc/shadow"};

std::uint64_t SmallNumber(Random& random) {
  constexpr std::int64_t kNumbers[] = {0, 1, 2, 3, 4, 7, 8, 9, 10, 16, 24, 64, 128, 255, 256, 4095, 4096, 4097, 65536, -1, -2, -22, -100};
  return random.OneIn(4) ? random.Below(512) : static_cast<std::uint64_t>(random.Of(kNumbers));
}

std::uint64_t HostileAddress(Random& random) {
  constexpr std::uint64_t kAddresses[] = {0, 1, 8, 0xfff, 0x1000, 0x10000, 0x3ffffffff000, 0x3fffffffffff, 0x400000000000,
                                          0x7ffff7ff0000, 0x7fffffffe000, 0x7ffffffff000, 0x800000000000, 0xffff800000000000,
                                          0xffffff8000000000, 0xfffffffffffff000, 0xffffffffff600000, ~std::uint64_t{0}};
  if (random.OneIn(3)) return 0x400000000000 | (random.Bits() & 0x3ffffffff000);
  return random.Of(kAddresses) + (random.OneIn(2) ? 0 : random.Below(64));
}

std::uint64_t Address(Random& random) {
  if (random.OneIn(4)) return HostileAddress(random);
  // Near the end a buffer runs out of what is mapped.
  const std::size_t offset = random.OneIn(5) ? kArena - random.Below(64) : random.Below(kArena - 8192);
  return reinterpret_cast<std::uint64_t>(arena) + (random.OneIn(4) ? offset : offset & ~std::size_t{7});
}

// Where the racing threads write too.
std::uint64_t PathAddress(Random& random) {
  if (random.OneIn(6)) return Address(random);
  char* at = reinterpret_cast<char*>(arena) + random.Below(64) * 256;
  const std::string_view path = random.Of(kPaths);
  std::memcpy(at, path.data(), path.size() + 1);
  return reinterpret_cast<std::uint64_t>(at);
}

// An array of addresses and lengths, as in iovec, msghdr and argv.
std::uint64_t NestedAddress(Random& random) {
  auto* words = reinterpret_cast<std::uint64_t*>(arena + 65536 + random.Below(64) * 512);
  const std::uint64_t count = random.Below(16);
  for (std::uint64_t i = 0; i < count; ++i) words[i] = i % 2 == 0 ? Address(random) : SmallNumber(random);
  return reinterpret_cast<std::uint64_t>(words);
}

std::uint64_t Process(Random& random) {
  // Never everybody: the driver is one of them.
  const std::uint64_t processes[] = {0, 1, static_cast<std::uint64_t>(getpid()), static_cast<std::uint64_t>(syscall(SYS_gettid)),
                                      0x7fffffff, 0x10000};
  return random.Of(processes);
}

std::uint64_t Value(const Argument& argument, Random& random) {
  if (random.OneIn(24)) return argument.kind == ArgumentKind::kPid ? 0 : random.Bits();
  switch (argument.kind) {
    case ArgumentKind::kPid:
      return Process(random);
    case ArgumentKind::kFd:
      return random.OneIn(8) ? SmallNumber(random) : static_cast<std::uint64_t>(random.Of(descriptors));
    case ArgumentKind::kDirFd:
      return random.OneIn(2) ? static_cast<std::uint64_t>(AT_FDCWD) : static_cast<std::uint64_t>(random.Of(descriptors));
    case ArgumentKind::kPath:
    case ArgumentKind::kString:
      return PathAddress(random);
    case ArgumentKind::kStringArray:
    case ArgumentKind::kIovecIn:
    case ArgumentKind::kIovecOut:
    case ArgumentKind::kMessageIn:
    case ArgumentKind::kMessageOut:
      return random.OneIn(4) ? Address(random) : NestedAddress(random);
    case ArgumentKind::kFlags:
    case ArgumentKind::kHex:
      return random.OneIn(2) ? SmallNumber(random) : std::uint64_t{1} << random.Below(34) | std::uint64_t{1} << random.Below(20);
    case ArgumentKind::kSignal:
      return random.Below(70);
    default:
      return argument.kind >= ArgumentKind::kAddress ? Address(random) : SmallNumber(random);
  }
}

void CallAtRandom(std::uint64_t seed) {
  Random random(seed);
  for (;;) {
    const Row& row = kRows[random.Below(kRowCount)];
    if (IsDull(row.number)) continue;
    std::uint64_t values[6];
    for (int i = 0; i < 6; ++i) values[i] = Value(row.arguments[i], random);
    syscall(static_cast<long>(random.OneIn(200) ? random.Below(600) : row.number), values[0], values[1], values[2], values[3], values[4], values[5]);
  }
}

// Changes addresses, lengths and paths while calls read them.
void Race(std::uint64_t seed) {
  Random random(seed);
  for (;;) {
    auto* words = reinterpret_cast<volatile std::uint64_t*>(arena);
    for (int i = 0; i < 1000; ++i) {
      words[random.Below(kArena / 8)] = random.OneIn(2) ? HostileAddress(random) : Address(random);
      arena[random.Below(64) * 256 + random.Below(16)] = static_cast<unsigned char>(random.OneIn(4) ? '/' : random.Below(128));
    }
    sched_yield();
  }
}

[[noreturn]] void BecomeChild(std::uint64_t seed) {
  setsid();
  arena = static_cast<unsigned char*>(mmap(nullptr, kArena, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  int* next = descriptors;
  *next++ = open("file", O_RDWR | O_CREAT, 0600);
  mkdir("dir", 0700);
  *next++ = open("dir", O_RDONLY | O_DIRECTORY);
  *next++ = open("/proc/self", O_PATH);
  *next++ = memfd_create("random", 0);
  *next++ = eventfd(0, EFD_NONBLOCK);
  *next++ = epoll_create1(0);
  *next++ = timerfd_create(CLOCK_MONOTONIC, 0);
  (void)!pipe2(next, O_NONBLOCK);
  next += 2;
  socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, next);
  next += 2;
  socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, next);
  next += 2;
  *next++ = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  *next++ = socket(AF_INET6, SOCK_DGRAM, 0);
  *next++ = 4096;  // the runtime's
  std::vector<std::thread> threads;
  for (std::uint64_t i = 0; i < 3; ++i) threads.emplace_back(CallAtRandom, seed * 4 + i);
  Race(seed * 4 + 3);
  abort();
}

// Everything below us, a subreaper: calls make processes too.
void KillTree() {
  for (int rounds = 0; rounds < 1000; ++rounds) {
    char path[64], text[4096] = "";
    snprintf(path, sizeof(path), "/proc/self/task/%d/children", getpid());
    const int list = open(path, O_RDONLY | O_CLOEXEC);
    (void)!read(list, text, sizeof(text) - 1);
    close(list);
    char* rest = text;
    for (char* word = strtok_r(text, " ", &rest); word != nullptr; word = strtok_r(nullptr, " ", &rest)) kill(atoi(word), SIGKILL);
    if (waitpid(-1, nullptr, 0) < 0) return;
  }
}

}  // namespace

int main(int count, char** words) {
  if (count != 3) return 2;
  const time_t end = time(nullptr) + atoi(words[1]);
  std::uint64_t seed = strtoull(words[2], nullptr, 10);
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  int children = 0, failures = 0;
  for (; time(nullptr) < end; ++seed, ++children) {
    const pid_t child = fork();
    if (child < 0) {
      perror("fork");
      return 1;
    }
    if (child == 0) BecomeChild(seed);
    int status = 0;
    pid_t reaped = 0;
    for (int tenths = 0; tenths < 150 && reaped != child; ++tenths) {
      reaped = waitpid(child, &status, WNOHANG);
      if (reaped != child) usleep(10'000);
    }
    if (reaped == child && WIFEXITED(status) && WEXITSTATUS(status) == 125) {
      printf("seed %llu: the runtime failed\n", static_cast<unsigned long long>(seed));
      ++failures;
    }
    KillTree();
  }
  printf("random_calls: %d children, %d failed\n", children, failures);
  return failures == 0 ? 0 : 1;
}
