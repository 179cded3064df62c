#include "libdune/ring0_backend/ring0_machine.h"

#include <cpuid.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <mutex>

#include "absl/strings/str_cat.h"
#include "libdune/loader/load_program.h"
#include "libdune/ring0_backend/current_table.h"
#include "libdune/ring0_backend/mirror.h"
#include "libdune/ring0_backend/own_table.h"
#include "libdune/ring0_backend/raw_call.h"
#include "libdune/ring0_backend/run_loop.h"
#include "libdune/ring0_backend/symbols.h"
#include "libdune/ring0_backend/trap_handlers.h"
#include "libdune/ring0_backend/user_mode.h"
#include "libdune/x86/guest_cpuid.h"

namespace dune {
namespace {

using ring0::vm;

absl::Status HostError(const char* what, long error) {
  const std::string text = absl::StrCat(what, ": ", strerror(static_cast<int>(-error)));
  switch (-error) {
    case EACCES:
    case EPERM:
      return absl::PermissionDeniedError(text);
    case ENOMEM:
    case EMFILE:
    case ENFILE:
    case EAGAIN:
    case ENOSPC:
      return absl::ResourceExhaustedError(text);
    default:
      return absl::UnavailableError(text);
  }
}

bool HasVirtualization() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(1, &a, &b, &c, &d) != 0 && (c & 1u << 5) != 0) return true;  // VMX
  return __get_cpuid(0x8000'0001, &a, &b, &c, &d) != 0 && (c & 1u << 2) != 0;  // SVM
}

// What must be there, and how we call it when it is not.
struct RequiredCapability {
  unsigned long number;
  int at_least;
  const char* name;
};
constexpr RequiredCapability kRequired[] = {
    {KVM_CAP_USER_MEMORY, 1, "user memory regions"},
    {KVM_CAP_IMMEDIATE_EXIT, 1, "immediate exit"},
    {KVM_CAP_SYNC_REGS, KVM_SYNC_X86_REGS, "synchronised registers"},
    {KVM_CAP_XSAVE, 1, "XSAVE state"},
    {KVM_CAP_XCRS, 1, "extended control registers"},
    {KVM_CAP_VCPU_EVENTS, 1, "events of virtual CPUs"},
};

absl::Status OpenDevice() {
  if (!HasVirtualization()) {
    return absl::UnavailableError(
        "the processor offers no VT-x or AMD-V, so ring 0 is not to be had");
  }
  vm.device = open("/dev/kvm", O_RDWR | O_CLOEXEC);
  if (vm.device < 0) return HostError("/dev/kvm", -errno);
  if (ioctl(vm.device, KVM_GET_API_VERSION, 0) != 12) {
    return absl::UnavailableError("/dev/kvm has another API version than 12");
  }
  for (const RequiredCapability& required : kRequired) {
    if (ioctl(vm.device, KVM_CHECK_EXTENSION, required.number) < required.at_least) {
      return absl::UnavailableError(absl::StrCat("/dev/kvm lacks ", required.name));
    }
  }
  const int bytes = ioctl(vm.device, KVM_GET_VCPU_MMAP_SIZE, 0);
  if (bytes < 0) return HostError("KVM_GET_VCPU_MMAP_SIZE", -errno);
  vm.run_bytes = static_cast<std::size_t>(bytes);
  if (ioctl(vm.device, KVM_GET_SUPPORTED_CPUID, &vm.cpuid) < 0) {
    return HostError("KVM_GET_SUPPORTED_CPUID", -errno);
  }
  return absl::OkStatus();
}

std::uint64_t HostExtendedFeatures() {
  std::uint32_t low = 0, high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return std::uint64_t{high} << 32 | low;
}

// The processor as the guest's CPUID shows it: what KVM offers without what is not kept, so that
// libc's choice of routines, made natively, stays right.
void ChooseFeatures() {
  unsigned physical_bits = 36;
  vm.cpuid.count = std::min<std::uint32_t>(vm.cpuid.count, kMaxCpuidEntries);
  for (kvm_cpuid_entry2& entry : std::span(vm.cpuid.entries).first(vm.cpuid.count)) {
    if (entry.function == 0xd && entry.index == 0) {
      vm.xcr0 = (std::uint64_t{entry.edx} << 32 | entry.eax) & x86::kExtendedFeatureMask &
                HostExtendedFeatures();
      entry.eax = static_cast<std::uint32_t>(vm.xcr0);
      entry.edx = static_cast<std::uint32_t>(vm.xcr0 >> 32);
    }
    if (entry.function == 1) vm.pcid = (entry.ecx & 1u << 17) != 0;
    if (entry.function == 7 && entry.index == 0) vm.fsgsbase = (entry.ebx & 1) != 0;
    if (entry.function == 0x8000'0008) physical_bits = entry.eax & 0xff;
    x86::CpuidResult kept{entry.eax, entry.ebx, entry.ecx, entry.edx};
    x86::HideFeatures(entry.function, entry.index, kept);
    entry.eax = kept.eax, entry.ebx = kept.ebx, entry.ecx = kept.ecx, entry.edx = kept.edx;
  }
  vm.state_bytes = 512 + 64;
  for (const kvm_cpuid_entry2& entry : std::span(vm.cpuid.entries).first(vm.cpuid.count)) {
    if (entry.function == 0xd && entry.index > 1 && (vm.xcr0 >> entry.index & 1) != 0) {
      vm.state_bytes = std::max<std::size_t>(vm.state_bytes, std::size_t{entry.ebx} + entry.eax);
    }
  }
  const int slots = ioctl(vm.device, KVM_CHECK_EXTENSION, KVM_CAP_NR_MEMSLOTS);
  const std::uint64_t room =
      (std::uint64_t{1} << (std::clamp(physical_bits, 36u, 52u) - ring0::kGranuleShift)) -
      ring0::kFirstGranule;
  vm.most_granules = static_cast<unsigned>(std::min(
      {std::uint64_t{ring0::kMostGranules}, room, static_cast<std::uint64_t>(std::max(slots, 0))}));
}

absl::Status ReserveMemory(std::size_t frame_pool) {
  vm.pool_bytes = frame_pool & ~(ring0::kPage - 1);
  void* const pool = mmap(nullptr, vm.pool_bytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (pool == MAP_FAILED) return HostError("cannot reserve the frame pool", -errno);
  vm.pool = reinterpret_cast<std::uint64_t>(pool);
  void* const references =
      mmap(nullptr, vm.pool_bytes / ring0::kPage * sizeof(std::uint32_t), PROT_READ | PROT_WRITE,
           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (references == MAP_FAILED) return HostError("cannot reserve the frames' counts", -errno);
  vm.references = static_cast<std::atomic<std::uint32_t>*>(references);
  void* const shared =
      mmap(nullptr, 2 * ring0::kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) return HostError("cannot map the vCPUs' shared page", -errno);
  vm.shared_page = static_cast<std::byte*>(shared);
  vm.flush_page = vm.shared_page + ring0::kPage;
  return absl::OkStatus();
}

// The kernel makes the first thread's stack grow when it is touched, which KVM's access is not: it
// is made as large as it may become.
void GrowStack() {
  if (getpid() != gettid()) return;
  constexpr rlim_t kMostStack = rlim_t{64} << 20;
  rlimit limit{};
  ring0::Area stack;
  const auto here = reinterpret_cast<std::uint64_t>(__builtin_frame_address(0));
  if (getrlimit(RLIMIT_STACK, &limit) != 0 || !vm.maps.Find(here, &stack)) return;
  const std::uint64_t wanted = stack.end - std::min(limit.rlim_cur, kMostStack) + 2 * ring0::kPage;
  if (wanted < stack.begin) *reinterpret_cast<volatile char*>(wanted);
}

absl::Status PrepareVcpu(ring0::Thread* thread) {
  std::uint64_t fs = 0, gs = 0;
  ring0::RawCall(SYS_arch_prctl, 0x1003 /* ARCH_GET_FS */, &fs);
  ring0::RawCall(SYS_arch_prctl, 0x1004 /* ARCH_GET_GS */, &gs);
  if (const long set = ring0::SetUpVcpu(thread, nullptr, fs, gs); set < 0) {
    return HostError("cannot set up a vCPU", set);
  }
  // What the place's former thread had in vector registers goes. x87 and SSE are said to be there: KVM takes MXCSR over only
  // with them.
  namespace abi = dunebox::abi;
  std::uint16_t control = 0;
  std::uint32_t mxcsr = 0;
  asm volatile("fnstcw %0; stmxcsr %1" : "=m"(control), "=m"(mxcsr));
  kvm_xsave& area = thread->extended;
  area = {};
  auto* const bytes = reinterpret_cast<std::byte*>(&area);
  std::memcpy(bytes, &control, sizeof(control));
  std::memcpy(bytes + abi::kMxcsrOffset, &mxcsr, sizeof(mxcsr));
  std::memcpy(bytes + abi::kHeaderOffset, &abi::kLegacyFeatures, sizeof(abi::kLegacyFeatures));
  if (ioctl(thread->vcpu, KVM_SET_XSAVE, &area) < 0) return HostError("KVM_SET_XSAVE", -errno);
  return absl::OkStatus();
}

// Of RenewAfterFork.
constinit ring0::LoopLock renewing;

// Of a thread that is out; the loops of those that are in make their children's machines by themselves. Whoever held the
// locks is not here.
void AfterForkInChild() {
  if (ring0::IsInRing0()) return;
  std::construct_at(&vm.lock);
  std::construct_at(&renewing);
  vm.is_copy = true;
}

// Before a thread of this process enters.
absl::Status RenewAfterFork() {
  const ring0::LoopLock::Holder holder(renewing);
  if (!vm.is_copy) return absl::OkStatus();
  if (const long made = ring0::RenewMachine(nullptr); made < 0) {
    return HostError("no machine for a forked child", made);
  }
  vm.entered.store(0);
  vm.is_copy = false;
  return absl::OkStatus();
}

class Ring0Machine final : public Machine {
 public:
  Backend backend() const override { return Backend::kRing0; }
  const Capabilities& capabilities() const override { return capabilities_; }
  bool IsThreadIn() const override { return ring0::IsInRing0(); }
  PageTable::Implementation& current_table() override { return current_; }

  absl::Status EnterThread() override {
    if (IsThreadIn()) return absl::OkStatus();
    if (absl::Status renewed = RenewAfterFork(); !renewed.ok()) return renewed;
    GrowStack();
    dunebox::abi::AlternateStack signal_stack;
    ring0::RawCall(SYS_sigaltstack, nullptr, &signal_stack);
    if ((signal_stack.flags & SS_ONSTACK) != 0) {
      return absl::FailedPreconditionError("Enter on an alternate signal stack");
    }
    const std::uint64_t mask = ring0::BlockSignals(ring0::kAllButFaults);
    absl::Status entered = EnterMasked(mask, signal_stack);
    if (!entered.ok()) ring0::SetSignalMask(mask);
    return entered;
  }

  absl::Status LeaveThread() override {
    if (ring0::UsedTable() != vm.root) {
      return absl::FailedPreconditionError("another page table than Current() is active");
    }
    std::uint64_t mask = 0;
    while (dune_hypercall(static_cast<std::uint64_t>(ring0::Hypercall::kLeave),
                          reinterpret_cast<std::uint64_t>(&mask), 0) != 0) {
    }
    ring0::SetSignalMask(mask);
    return absl::OkStatus();
  }

  absl::StatusOr<std::unique_ptr<PageTable::Implementation>> CreateTable(
      PageTable::Contents contents) override {
    return ring0::OwnTable::Create(contents);
  }

  absl::StatusOr<Stop> RunUser(UserContext& context, PageTable::Implementation& table,
                               const RunOptions& options) override {
    if (!capabilities_.user_mode) {
      return absl::UnimplementedError("ring 3 needs a processor with FSGSBASE and XSAVE");
    }
    if (absl::Status runnable = table.CheckRunnable(); !runnable.ok()) return runnable;
    return ring0::RunInRing3(context, table.root(), options);
  }
  absl::Status LoadProgram(const std::string& path, std::span<const std::string> arguments,
                           std::span<const std::string> environment,
                           PageTable::Implementation& table, UserContext& context,
                           std::uintptr_t& heap) override {
    constexpr UserPlaces kPlaces{.bias = 0x5555'5540'0000,
                                 .end = std::uintptr_t{1} << 46,
                                 .stack_top = 0x3fff'ffff'0000};
    return LoadStaticProgram(path, arguments, environment, kPlaces, table, context, heap);
  }
  absl::Status CopyFromUser(PageTable::Implementation& table, void* to, std::uintptr_t from,
                            std::size_t size) override {
    return ring0::CopyFromRing3(table, to, from, size);
  }
  absl::Status CopyToUser(PageTable::Implementation& table, std::uintptr_t to, const void* from,
                          std::size_t size) override {
    if (absl::Status runnable = table.CheckRunnable(); !runnable.ok()) return runnable;
    if (table.root() == vm.root) return absl::OutOfRangeError("Current() is ring 0's alone");
    // All others that ring 3 may run in are of this kind.
    return ring0::CopyToRing3(static_cast<ring0::OwnTable&>(table), to, from, size);
  }

  absl::Status SetTrapHandler(unsigned vector, TrapHandler handler, HandlerKind kind) override {
    if ((capabilities_.trap_vectors >> vector & 1) == 0) {
      return absl::UnimplementedError("the processor has no such exception");
    }
    ring0::SetHandler(vector, handler, kind);
    return absl::OkStatus();
  }
  absl::Status SetPageFaultHandler(PageFaultHandler handler, HandlerKind kind) override {
    ring0::SetHandler(handler, kind);
    return absl::OkStatus();
  }

 private:
  absl::Status EnterMasked(std::uint64_t mask, const dunebox::abi::AlternateStack& signal_stack) {
    long error = 0;
    ring0::Thread* const thread = ring0::TakePlace(false, &error);
    if (thread == nullptr) return HostError("cannot make a vCPU", error);
    if (absl::Status ready = PrepareVcpu(thread); !ready.ok()) {
      ring0::ReleasePlace(thread, false);
      return ready;
    }
    thread->actions = &vm.actions;
    thread->alternate_stack = signal_stack;
    thread->first_mask = mask;
    {
      const ring0::LoopLock::Holder holder(vm.lock);
      vm.entered.fetch_add(1);
      ring0::TakeActions();
    }
    ring0::BlockSignals();
    ring0::UseSignalStack(thread);
    thread->id.store(static_cast<std::uint32_t>(gettid()));
    dune_enter(thread, thread->block() + ring0::kLoopStackTop, &thread->first_registers);
    // In ring 0.
    return absl::OkStatus();
  }

  ring0::CurrentTable current_;
  Capabilities capabilities_{.privileged_instructions = true,
                             .protect = true,
                             .dirty = true,
                             .accessed = true,
                             .separate_tables = true,
                             .process_clones = true,
                             .large_pages = true,
                             .page_fault_handler = true,
                             .trap_vectors = ring0::kSettableVectors,
                             .user_mode = vm.fsgsbase && vm.xcr0 != 0,
                             .pcid = vm.pcid};
};

}  // namespace

namespace {

void Close(int& descriptor) {
  if (descriptor >= 0) close(descriptor);
  descriptor = -1;
}

absl::Status Prepare(std::size_t frame_pool, int proc) {
  if (proc < 0) return HostError("/proc", -errno);
  vm.maps = ring0::MemoryMaps(proc);
  if (const long opened = vm.maps.Open(); opened < 0) return HostError("/proc/self/maps", opened);
  if (absl::Status opened = OpenDevice(); !opened.ok()) return opened;
  ChooseFeatures();
  if (absl::Status reserved = ReserveMemory(frame_pool); !reserved.ok()) return reserved;
  if (const long made = ring0::OpenMachine(); made < 0) return HostError("KVM_CREATE_VM", made);
  if (!ring0::MakeMirror()) {
    return absl::ResourceExhaustedError("no room for the page tables in frame_pool");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Machine>> MakeRing0Machine(const EnterOptions& options) {
  int proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
  const absl::Status prepared = Prepare(options.frame_pool, proc);
  if (prepared.ok()) {
    if (pthread_atfork(nullptr, nullptr, AfterForkInChild) != 0) {
      return absl::ResourceExhaustedError("no memory for the handler of a fork");
    }
    return std::make_unique<Ring0Machine>();
  }
  // Another call of Enter may find more; then it begins with nothing.
  vm.maps.Close();
  Close(proc);
  Close(vm.device);
  Close(vm.fd);
  if (vm.pool != 0) munmap(reinterpret_cast<void*>(vm.pool), vm.pool_bytes);
  if (vm.references != nullptr) {
    munmap(vm.references, vm.pool_bytes / ring0::kPage * sizeof(std::uint32_t));
  }
  if (vm.shared_page != nullptr) munmap(vm.shared_page, 2 * ring0::kPage);
  vm.pool = 0;
  vm.references = nullptr;
  vm.shared_page = nullptr;
  vm.pool_used.store(0);
  vm.frames_used.store(0);
  vm.free_frames.store(0);
  return prepared;
}

}  // namespace dune
