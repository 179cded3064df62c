#include "tests/security/attacks/escape.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>

namespace dunebox::attacks {
namespace {

constexpr unsigned kNoExecSeal = 0x8;  // MFD_NOEXEC_SEAL
constexpr int kGotThrough = 1;

std::string directory;  // of the test
pid_t bystander = 0;
int failures = 0;

// What an attempt is worth in its process: it returns what the call did. Each is made in a child,
// because the filter's answer is to end the process that asks.
template <typename Call>
void InVain(const char* what, Call call) {
  const auto child = static_cast<pid_t>(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0));
  if (child == 0) _exit(call() < 0 ? 0 : kGotThrough);
  int status = 0;
  const bool ended = child > 0 && waitpid(child, &status, 0) == child;
  const bool killed = ended && WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS;
  const bool refused = ended && WIFEXITED(status) && WEXITSTATUS(status) == 0;
  if (killed || refused) return;
  ++failures;
  dprintf(STDOUT_FILENO, "OPEN: escaped code: %s (status %x)\n", what, status);
}

long Open(const std::string& path, int flags) { return open(path.c_str(), flags | O_CLOEXEC, 0600); }

// What the policy gives is there: else nothing below would prove anything.
void TakeWhatIsGiven() {
  const long fd = Open(directory + "/given/file", O_RDWR);
  if (fd < 0 || Open(directory + "/read/file", O_RDONLY) < 0) {
    ++failures;
    dprintf(STDOUT_FILENO, "OPEN: escaped code cannot even reach what is permitted: %d\n", errno);
  }
}

void Files() {
  TakeWhatIsGiven();
  const std::string secret = directory + "/secret/canary", given = directory + "/given/file";
  InVain("read a secret", [&] { return Open(secret, O_RDONLY); });
  InVain("read a secret by /proc", [&] { return Open("/proc/self/root" + secret, O_RDONLY); });
  InVain("read a secret from below", [&] { return Open(directory + "/given/../secret/canary", O_RDONLY); });
  InVain("read a secret through a link", [&] {
    const std::string link = directory + "/given/escape_link";
    unlink(link.c_str());
    return symlink(secret.c_str(), link.c_str()) < 0 ? -1 : Open(link, O_RDONLY);
  });
  InVain("list secrets", [] { return Open(directory + "/secret", O_RDONLY | O_DIRECTORY); });
  InVain("write what may be read", [] { return Open(directory + "/read/file", O_WRONLY); });
  InVain("truncate what may be read", [] { return truncate((directory + "/read/file").c_str(), 0); });
  InVain("create where it may read", [] { return Open(directory + "/read/new", O_WRONLY | O_CREAT); });
  InVain("remove what may be read", [] { return unlink((directory + "/read/file").c_str()); });
  InVain("rename a secret", [&] { return rename(secret.c_str(), given.c_str()); });
  InVain("link a secret", [&] { return link(secret.c_str(), (given + "_link").c_str()); });
  InVain("read /etc/shadow", [] { return Open("/etc/shadow", O_RDONLY); });
  InVain("write to the system", [] { return Open("/usr/bin/dunebox_escape", O_WRONLY | O_CREAT); });
  InVain("open by handle", [] { return syscall(SYS_open_by_handle_at, AT_FDCWD, nullptr, 0); });
  InVain("a setting of the kernel's", [] { return Open("/proc/sys/kernel/core_pattern", O_WRONLY); });
  InVain("a block device", [] { return syscall(SYS_mknod, (directory + "/given/disk").c_str(), S_IFBLK | 0600, 0x800); });
}

long Execute(int fd) {
  const char* const argv[] = {"true", nullptr};
  return syscall(SYS_execveat, fd, "", argv, argv + 1, AT_EMPTY_PATH);
}

// A program of the system's in a memfd.
int CopyToMemory() {
  const int file = memfd_create("escape", kNoExecSeal);
  const int program = open("/usr/bin/true", O_RDONLY | O_CLOEXEC);
  char bytes[4096];
  for (ssize_t n = 0; (n = read(program, bytes, sizeof(bytes))) > 0;) {
    if (write(file, bytes, static_cast<std::size_t>(n)) != n) return -1;
  }
  return file;
}

void Execution() {
  InVain("execute a shell", [] { return execl("/bin/sh", "sh", "-c", "true", nullptr); });
  InVain("execute the system's", [] { return Execute(open("/usr/bin/true", O_PATH | O_CLOEXEC)); });
  InVain("execute what it was given", [] { return Execute(open((directory + "/given/program").c_str(), O_PATH)); });
  InVain("execute memory", [] { return Execute(CopyToMemory()); });
  InVain("make memory that can be executed", [] { return memfd_create("escape", MFD_CLOEXEC); });
  InVain("take the seal off", [] { return fchmod(CopyToMemory(), 0777); });
}

void Code() {
  InVain("map code", [] {
    void* const page = mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return page == MAP_FAILED ? -1 : 0;
  });
  InVain("map a library", [] {
    const int file = open("/usr/bin/true", O_RDONLY | O_CLOEXEC);
    return mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, file, 0) == MAP_FAILED ? -1 : 0;
  });
  InVain("make data code", [] {
    void* const page = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return mprotect(page, 4096, PROT_READ | PROT_EXEC);
  });
}

sockaddr_in Loopback(std::uint16_t port) {
  return {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}, .sin_zero = {}};
}

void Network() {
  for (const int family : {AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_VSOCK, AF_ALG}) {
    InVain("a socket", [family] { return socket(family, family == AF_PACKET ? SOCK_RAW : SOCK_DGRAM, 0); });
  }
  InVain("a connection", [] {
    const int file = socket(AF_INET, SOCK_STREAM, 0);
    const sockaddr_in address = Loopback(80);
    return file < 0 ? -1 : connect(file, reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  });
  InVain("an abstract socket outside", [] {
    const int file = socket(AF_UNIX, SOCK_STREAM, 0);
    sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
    const std::string name = "dunebox-attacks-" + std::to_string(bystander);
    name.copy(address.sun_path + 1, name.size());
    const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
    return file < 0 ? -1 : connect(file, reinterpret_cast<sockaddr*>(&address), size);
  });
}

void Processes() {
  char byte = 0;
  const iovec here{&byte, 1}, there{reinterpret_cast<void*>(0x10000), 1};
  const std::string process = "/proc/" + std::to_string(bystander);
  InVain("signal a process outside", [] { return kill(bystander, SIGKILL); });
  InVain("the first process's memory", [] { return Open("/proc/1/mem", O_RDWR); });
  InVain("attach to a process", [] { return ptrace(PTRACE_ATTACH, bystander, nullptr, nullptr); });
  InVain("attach to the first process", [] { return ptrace(PTRACE_ATTACH, 1, nullptr, nullptr); });
  InVain("be traced", [] { return ptrace(PTRACE_TRACEME, 0, nullptr, nullptr); });
  InVain("write to a process", [&] { return process_vm_writev(1, &here, 1, &there, 1, 0); });
  InVain("read from a process", [&] { return process_vm_readv(bystander, &here, 1, &there, 1, 0); });
  InVain("a process's memory", [&] { return Open(process + "/mem", O_RDWR); });
  InVain("a process's environment", [&] { return Open(process + "/environ", O_RDONLY); });
  InVain("a process's files", [&] { return Open(process + "/root" + directory + "/secret/canary", O_RDONLY); });
  InVain("a descriptor of a process's", [] {
    return syscall(SYS_pidfd_getfd, syscall(SYS_pidfd_open, 1, 0), 0, 0);
  });
  InVain("its limits", [] {
    const rlimit limit{1, 1};
    return prlimit(bystander, RLIMIT_CPU, &limit, nullptr);
  });
  InVain("its priority", [] { return setpriority(PRIO_PROCESS, static_cast<id_t>(bystander), 5); });
}

// Doors to memory that no check of an address sees.
void MemoryDoors() {
  InVain("its own memory as a file", [] { return Open("/proc/self/mem", O_RDWR); });
  InVain("rings", [] {
    char parameters[120] = {};
    return syscall(SYS_io_uring_setup, 8, parameters);
  });
  InVain("faults of its own to answer", [] { return syscall(SYS_userfaultfd, 0); });
  InVain("counters", [] {
    char attributes[128] = {};
    return syscall(SYS_perf_event_open, attributes, 0, -1, -1, 0);
  });
  InVain("descriptors of segments", [] { return syscall(SYS_modify_ldt, 0, &failures, 4); });
  InVain("ports", [] { return syscall(SYS_iopl, 3); });
  InVain("the memory layout", [] { return prctl(PR_SET_MM, PR_SET_MM_BRK, 0x10000, 0, 0); });
  InVain("dumps", [] { return prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); });
}

void Privileges() {
  InVain("mount", [] { return mount("/", "/tmp", nullptr, MS_BIND, nullptr); });
  InVain("a mount by descriptor", [] { return syscall(SYS_open_tree, AT_FDCWD, "/", 1); });
  InVain("another root", [] { return chroot((directory + "/given").c_str()); });
  InVain("namespaces", [] { return unshare(CLONE_NEWUSER); });
  InVain("a child with namespaces", [] { return syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0); });
  InVain("others' namespaces", [] { return setns(open("/proc/1/ns/mnt", O_RDONLY), 0); });
  InVain("programs in the kernel", [] {
    bpf_attr attributes{};
    return syscall(SYS_bpf, BPF_MAP_CREATE, &attributes, sizeof(attributes));
  });
  InVain("modules", [] { return syscall(SYS_init_module, nullptr, 0, ""); });
  InVain("another kernel", [] { return syscall(SYS_kexec_load, 0, 0, nullptr, 0); });
  InVain("keys", [] { return syscall(SYS_keyctl, 0, -3, 1); });
  InVain("the clock", [] { return syscall(SYS_settimeofday, nullptr, nullptr); });
  InVain("the host's name", [] { return sethostname("escape", 6); });
  InVain("another filter", [] { return syscall(SYS_seccomp, 1, 0, nullptr); });
  InVain("typing into the terminal", [] { return ioctl(STDIN_FILENO, TIOCSTI, "x"); });
}

constexpr struct {
  const char* name;
  void (*run)();
} kParts[] = {
    {"files", Files},         {"execution", Execution},     {"code", Code},
    {"network", Network},     {"processes", Processes},     {"memory_doors", MemoryDoors},
    {"privileges", Privileges},
};

}  // namespace

int Escape(std::string_view name, const std::vector<std::string>& arguments) {
  if (arguments.size() < 4) return 2;
  directory = arguments[2];
  bystander = std::atoi(arguments[3].c_str());
  bool is_known = false;
  for (const auto& part : kParts) {
    if (name != part.name && name != "everything") continue;
    is_known = true;
    part.run();
  }
  if (!is_known) return 2;
  dprintf(STDOUT_FILENO, "verdict: %s\n", failures == 0 ? "blocked" : "OPEN");
  return failures == 0 ? 0 : 1;
}

}  // namespace dunebox::attacks
