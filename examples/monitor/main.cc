// A system-call monitor for an unmodified static program, in a hundred lines: the program runs in ring 3 of a page table of
// its own, and every system call comes here. What is listed is passed on, emulated or answered; all else is denied, and
// told.
//
//   monitor PROGRAM [ARGUMENT...]
//
// Where the machine has no ring 0, ring 3 is the translator's: addresses are below 4 GiB then, and memory is shared.
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <ctime>
#include <map>
#include <string>
#include <vector>

#include "dune/dune.h"
#include "dune/user.h"
#include "dunebox/ring3.h"

namespace {

struct Monitored {
  dune::UserImage image;
  std::uintptr_t heap_end;
  std::uintptr_t next_mapping = 0x9000'0000;
  std::size_t given = 0;  // bytes
  std::map<std::uint64_t, int> denied;
};

// The program decides how much it asks for, and the monitor's memory is what it gets.
constexpr std::size_t kMostMemory = 256 << 20;

std::size_t WholePages(std::uint64_t bytes) { return (bytes + 4095) & ~std::uint64_t{4095}; }

// Fresh memory at `where`, for ring 3.
bool Give(Monitored& program, std::uintptr_t where, std::size_t bytes) {
  if (bytes > kMostMemory - program.given) return false;
  void* const memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (memory == MAP_FAILED) return false;
  if (!program.image.table.Map({where, bytes}, memory, {}).ok()) {
    munmap(memory, bytes);
    return false;
  }
  program.given += bytes;
  return true;
}

std::int64_t Break(Monitored& program, std::uint64_t wanted) {
  const std::uintptr_t mapped = WholePages(program.heap_end), end = WholePages(wanted);
  if (wanted >= program.image.heap && wanted - program.image.heap < kMostMemory &&
      (end <= mapped || Give(program, mapped, end - mapped))) {
    program.heap_end = std::max(mapped, end);
    return static_cast<std::int64_t>(wanted);
  }
  return static_cast<std::int64_t>(program.heap_end);
}

std::int64_t MapAnonymous(Monitored& program, const dune::UserContext& call) {
  if ((call.r10 & MAP_ANONYMOUS) == 0 || (call.r10 & MAP_FIXED) != 0) return -EPERM;
  if (call.rsi == 0 || call.rsi > kMostMemory) return -ENOMEM;
  const std::uintptr_t where = program.next_mapping;
  if (!Give(program, where, WholePages(call.rsi))) return -ENOMEM;
  program.next_mapping += WholePages(call.rsi) + 4096;
  return static_cast<std::int64_t>(where);
}

// Of standard output and error only, through a copy: what is checked is what is written.
std::int64_t Write(Monitored& program, const dune::UserContext& call) {
  if (call.rdi != 1 && call.rdi != 2) return -EBADF;
  std::vector<char> text(std::min<std::uint64_t>(call.rdx, 1 << 20));
  if (!dune::CopyFromUser(program.image.table, text.data(), call.rsi, text.size()).ok()) return -EFAULT;
  return write(static_cast<int>(call.rdi), text.data(), text.size());
}

std::int64_t Protect(Monitored& program, const dune::UserContext& call) {
  const dune::Range range{call.rdi, WholePages(call.rsi)};
  const auto rights = static_cast<dune::Rights>((call.rdx & 7) != 0 ? (call.rdx & 7) | 1 : 0);
  return program.image.table.Protect(range, rights).ok() ? 0 : -ENOMEM;
}

std::int64_t Clock(Monitored& program, const dune::UserContext& call) {
  std::timespec now{};
  if (clock_gettime(static_cast<clockid_t>(call.rdi), &now) != 0) return -EINVAL;
  return dune::CopyToUser(program.image.table, call.rsi, &now, sizeof(now)).ok() ? 0 : -EFAULT;
}

std::int64_t Answer(Monitored& program, dune::UserContext& call) {
  switch (call.rax) {
    case SYS_write: return Write(program, call);
    case SYS_brk: return Break(program, call.rdi);
    case SYS_mmap: return MapAnonymous(program, call);
    case SYS_mprotect: return Protect(program, call);
    case SYS_clock_gettime: return Clock(program, call);
    case SYS_getpid: return getpid();
    case SYS_set_tid_address: return gettid();
    case SYS_arch_prctl:
      if (call.rdi != 0x1002 /* ARCH_SET_FS */ || call.rsi >> 47 != 0) return -EINVAL;
      call.fs_base = call.rsi;
      return 0;
    // libc does without them.
    case SYS_set_robust_list: case SYS_rseq: case SYS_prlimit64: case SYS_readlink:
    case SYS_getrandom: case SYS_newfstatat: case SYS_fstat: case SYS_ioctl: return -ENOSYS;
    default:
      ++program.denied[call.rax];
      return -EPERM;
  }
}

int Fail(const absl::Status& status) {
  std::fprintf(stderr, "dunebox: monitor: %s\n", std::string(status.message()).c_str());
  return 125;
}

int Run(Monitored& program) {
  dune::UserContext& context = program.image.context;
  for (;;) {
    const absl::StatusOr<dune::Stop> stop = dune::RunUser(context, program.image.table);
    if (!stop.ok()) return Fail(stop.status());
    if (stop->reason == dune::StopReason::kFault) {
      std::fprintf(stderr, "monitor: exception %u at 0x%lx, address 0x%lx\n", stop->vector,
                   context.rip, stop->address);
      return 139;
    }
    if (stop->reason != dune::StopReason::kSystemCall) continue;
    if (context.rax == SYS_exit_group || context.rax == SYS_exit) return static_cast<int>(context.rdi & 255);
    context.rax = static_cast<std::uint64_t>(Answer(program, context));
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: monitor PROGRAM [ARGUMENT...]\n");
    return 125;
  }
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  if (const absl::Status provided = dunebox::ProvideRing3(); !provided.ok()) return Fail(provided);
  if (const absl::Status entered = dune::Enter(); !entered.ok()) return Fail(entered);
  absl::StatusOr<dune::UserImage> image = dune::LoadProgram(arguments[0], arguments, {});
  if (!image.ok()) return Fail(image.status());
  Monitored program{.image = *std::move(image), .heap_end = 0, .denied = {}};
  program.heap_end = program.image.heap;
  const int status = Run(program);
  for (const auto& [number, times] : program.denied) {
    std::fprintf(stderr, "monitor: denied system call %lu, %d times\n", number, times);
  }
  return status;
}
