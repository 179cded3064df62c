#include "runtime/kvm/probe.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <memory>
#include <utility>

#include "absl/strings/str_format.h"
#include "hostcalls/errors/message.h"
#include "hostcalls/memory/mappable.h"
#include "libdune/ring0/image.h"
#include "libdune/x86/control.h"
#include "runtime/kvm/cpu_setup.h"
#include "runtime/kvm/exit_decoder.h"
#include "runtime/kvm/kvm_engine.h"
#include "runtime/kvm/layout.h"
#include "runtime/kvm/vm.h"

namespace dunebox::kvm {

namespace x86 = dune::x86;

namespace {

constexpr std::uint64_t kRing0Rounds = 200;
constexpr std::uint64_t kRing3Rounds = 20'000;
// Interpretation costs hundreds of cycles an instruction; nothing native comes near.
constexpr double kEmulatedSlowdown = 20;
// A busy host can stretch a measurement of either ring, never shorten it: the least of some is believed, and of more where
// ring 0 seems slow.
constexpr int kFewestMeasurements = 3, kMostMeasurements = 8;
constexpr unsigned char kUndefinedInstruction[] = {0x0f, 0x0b};  // UD2

// Two pages of the user half, one behind the other, unmapped when the probe is over.
class UserPages {
 public:
  static absl::StatusOr<std::unique_ptr<UserPages>> Create() {
    // Anywhere with bit 46 clear and above AddressSanitizer's shadow; a few tries in case something
    // is there.
    constexpr std::uint64_t kFirst = kMappableEnd / 2;
    for (std::uint64_t at = kFirst; at < kFirst + 0x1000'0000; at += 0x100'0000) {
      void* pages = mmap(reinterpret_cast<void*>(at), 2 * kPageSize, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
      if (pages != MAP_FAILED) return std::make_unique<UserPages>(static_cast<std::byte*>(pages));
      if (errno != EEXIST) break;
    }
    return KvmError("cannot map memory for the probe", -errno);
  }
  explicit UserPages(std::byte* pages) : pages_(pages) {}
  ~UserPages() { munmap(pages_, 2 * kPageSize); }
  UserPages(const UserPages&) = delete;
  UserPages& operator=(const UserPages&) = delete;

  std::byte* page(int index) const { return pages_ + index * static_cast<std::ptrdiff_t>(kPageSize); }
  GuestVirt address() const { return {reinterpret_cast<std::uint64_t>(pages_)}; }

 private:
  std::byte* pages_;
};

// How one stretch of the probe guest ended.
enum class Stop : std::uint8_t {
  kProbePort,    // ring 0 reported
  kSyscallPort,  // SYSCALL entered ring 0
  kTrap,         // an exception; the frame says which
  kUserPort,     // ring 3 executed OUT
  kOther,
};

// The throw-away machine.
class ProbeGuest {
 public:
  static absl::StatusOr<std::unique_ptr<ProbeGuest>> Create(KvmApi& api);
  absl::StatusOr<Probe> Run();

 private:
  ProbeGuest(std::unique_ptr<Vm> vm, std::unique_ptr<UserPages> pages)
      : vm_(std::move(vm)), pages_(std::move(pages)), tables_(*vm_) {}
  absl::Status Initialize();
  absl::Status CreateVcpu();

  absl::Status MapUserCode(int page);
  absl::StatusOr<Stop> RunFrom(GuestVirt rip);
  absl::StatusOr<Stop> EnterRing3(std::uint64_t rip);
  kvm_regs& regs() { return run().s.regs.regs; }
  kvm_run& run() { return *static_cast<kvm_run*>(run_area_.get()); }
  abi::TrapFrame& frame() {
    return *reinterpret_cast<abi::TrapFrame*>(vm_->arena(layout::kVcpuBlocksOffset +
                                                         layout::kBlockTrapStackTop) -
                                              sizeof(abi::TrapFrame));
  }

  absl::StatusOr<double> MeasureRing0();
  absl::StatusOr<double> MeasureRing3(Probe& probe);
  absl::Status MeasureRings(Probe& probe);
  absl::Status TrySysret(Probe& probe);
  absl::Status TryPaging(Probe& probe);

  std::unique_ptr<Vm> vm_;
  std::unique_ptr<UserPages> pages_;
  PageTables tables_;
  KvmFd vcpu_;
  RunArea run_area_;
  std::uint64_t after_syscall_ = 0;
};

absl::StatusOr<std::unique_ptr<ProbeGuest>> ProbeGuest::Create(KvmApi& api) {
  absl::StatusOr<std::unique_ptr<Vm>> vm = Vm::Create(api);
  if (!vm.ok()) return vm.status();
  absl::StatusOr<std::unique_ptr<UserPages>> pages = UserPages::Create();
  if (!pages.ok()) return pages.status();
  std::unique_ptr<ProbeGuest> guest(new ProbeGuest(*std::move(vm), *std::move(pages)));
  if (absl::Status status = guest->Initialize(); !status.ok()) return status;
  return guest;
}

absl::Status ProbeGuest::MapUserCode(int page) {
  const GuestVirt at = pages_->address();
  absl::StatusOr<GuestPhys> phys =
      vm_->PhysicalFor(at + static_cast<std::uint64_t>(page) * kPageSize);
  if (!phys.ok()) return phys.status();
  return tables_.MapSpan({at, at + kPageSize}, *phys, x86::PageTableEntry{}.set_user(true));
}

absl::Status ProbeGuest::Initialize() {
  vm_->set_granule_shift(layout::kShadowGranuleShift);
  if (absl::Status status = tables_.Initialize(); !status.ok()) return status;
  if (absl::Status status = InstallSupervisor(*vm_, tables_, ProgramRing::kRing3); !status.ok()) return status;
  const abi::ImageHeader& header = dune::Ring0Header();
  const auto code = dune::Ring0Image().subspan(header.probe_user,
                                               header.probe_user_end - header.probe_user);
  std::ranges::copy(code, pages_->page(0));
  std::memcpy(pages_->page(1), kUndefinedInstruction, sizeof(kUndefinedInstruction));
  if (absl::Status status = MapUserCode(0); !status.ok()) return status;
  return CreateVcpu();
}

absl::Status ProbeGuest::CreateVcpu() {
  KvmApi& api = vm_->api();
  const int fd = api.Ioctl(vm_->fd(), KVM_CREATE_VCPU, std::uintptr_t{0});
  if (fd < 0) return KvmError("KVM_CREATE_VCPU", fd);
  vcpu_ = KvmFd(&api, fd);
  int error = 0;
  void* area = api.MapRunArea(fd, vm_->run_area_size(), &error);
  if (area == nullptr) return KvmError("cannot map a vCPU's run area", -error);
  run_area_ = RunArea(&api, area, vm_->run_area_size());
  run().kvm_valid_regs = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;

  const GuestVirt block = layout::ArenaVirt(layout::kVcpuBlocksOffset);
  absl::Status mapped = tables_.MapSupervisor(block, GuestPhys{layout::kVcpuBlocksOffset},
                                              /*writable=*/true, /*execute=*/false);
  if (!mapped.ok()) return mapped;
  WriteVcpuBlock(vm_->arena(layout::kVcpuBlocksOffset), block);
  CpuFeatures features = FeaturesOf(vm_->supported_cpuid());
  features.xcr0 = 0;  // the probe needs no vector state
  CpuidTable cpuid = GuestCpuid(vm_->supported_cpuid(), features);
  if (int result = api.Ioctl(fd, KVM_SET_CPUID2, &cpuid); result < 0) {
    return KvmError("KVM_SET_CPUID2", result);
  }
  kvm_sregs sregs;
  if (int result = api.Ioctl(fd, KVM_GET_SREGS, &sregs); result < 0) {
    return KvmError("KVM_GET_SREGS", result);
  }
  SetSystemRegisters(sregs, features, Ring0::kEmulated, tables_.root(), block);
  if (int result = api.Ioctl(fd, KVM_SET_SREGS, &sregs); result < 0) {
    return KvmError("KVM_SET_SREGS", result);
  }
  run().s.regs.sregs = sregs;
  MsrTable msrs = SystemMsrs(layout::ArenaVirt(dune::Ring0Header().syscall_entry), GuestVirt{0});
  const int set = api.Ioctl(fd, KVM_SET_MSRS, &msrs);
  if (set < 0) return KvmError("KVM_SET_MSRS", set);
  if (set != static_cast<int>(msrs.count)) {
    return errors::Named(errors::Id::kKvmLacks, absl::UnimplementedError("this KVM does not let SYSCALL's registers be set"));
  }
  return absl::OkStatus();
}

absl::StatusOr<Stop> ProbeGuest::RunFrom(GuestVirt rip) {
  regs().rip = rip.value;
  regs().rflags = x86::rflags::kReserved1;
  run().kvm_dirty_regs = KVM_SYNC_X86_REGS;
  int result = -EINTR;
  // A signal of the process (SIGCHLD, a timer) may interrupt the probe; go on where it stopped.
  for (int tries = 0; tries < 1000 && (result == -EINTR || result == -EAGAIN); ++tries) {
    result = vm_->api().Run(vcpu_.get());
    run().kvm_dirty_regs = 0;
  }
  if (result < 0) return KvmError("KVM_RUN", result);
  if (run().exit_reason != KVM_EXIT_IO) return Stop::kOther;
  if (PrivilegeOf(run()) != 0) return Stop::kUserPort;
  switch (run().io.port) {
    case DUNE_PORT_PROBE:
      return Stop::kProbePort;
    case DUNE_PORT_SYSCALL:
      return Stop::kSyscallPort;
    case DUNE_PORT_TRAP:
      return Stop::kTrap;
    default:
      return Stop::kOther;
  }
}

absl::StatusOr<Stop> ProbeGuest::EnterRing3(std::uint64_t rip) {
  frame() = {.vector = 0,
             .error_code = 0,
             .rip = rip,
             .cs = DUNE_SELECTOR_USER_CODE,
             .rflags = x86::rflags::ForUser(0),
             .rsp = 0,
             .ss = DUNE_SELECTOR_USER_DATA};
  regs().rsp = layout::ArenaVirt(layout::kVcpuBlocksOffset + layout::kBlockTrapStackTop).value -
               sizeof(abi::TrapFrame);
  return RunFrom(layout::ArenaVirt(dune::Ring0Header().trap_return));
}

// Cycles a round.
absl::StatusOr<double> ProbeGuest::MeasureRing0() {
  regs().rsi = kRing0Rounds;
  regs().rsp = layout::ArenaVirt(layout::kVcpuBlocksOffset + layout::kBlockTrapStackTop).value;
  absl::StatusOr<Stop> stop = RunFrom(layout::ArenaVirt(dune::Ring0Header().probe_ring0));
  if (!stop.ok()) return stop.status();
  if (*stop != Stop::kProbePort) {
    return errors::Named(errors::Id::kKvmLacks, absl::UnimplementedError(absl::StrFormat(
        "this KVM cannot run a 64-bit guest (exit %u at rip 0x%x)", run().exit_reason, regs().rip)));
  }
  return static_cast<double>(regs().rax & 0xffff'ffff) / kRing0Rounds;
}

// Cycles a round; on its way it learns where SYSCALL leads.
absl::StatusOr<double> ProbeGuest::MeasureRing3(Probe& probe) {
  regs().rsi = kRing3Rounds;
  absl::StatusOr<Stop> stop = EnterRing3(pages_->address().value);
  if (!stop.ok()) return stop.status();
  const GuestVirt lstar = layout::ArenaVirt(dune::Ring0Header().syscall_entry);
  if (*stop == Stop::kSyscallPort) {
    probe.syscall_entry = SyscallEntry::kRing0;
  } else if (*stop == Stop::kTrap && frame().vector == static_cast<unsigned>(x86::Vector::kPageFault) &&
             frame().rip == lstar.value) {
    probe.syscall_entry = SyscallEntry::kPageFault;
  } else {
    return errors::Named(errors::Id::kKvmLacks, absl::UnimplementedError(absl::StrFormat(
        "system calls of a guest cannot be recognised on this KVM (exit %u, rip 0x%x)",
        run().exit_reason, regs().rip)));
  }
  after_syscall_ = regs().rcx;
  return static_cast<double>(regs().r8 & 0xffff'ffff) / kRing3Rounds;
}

absl::Status ProbeGuest::MeasureRings(Probe& probe) {
  double least0 = std::numeric_limits<double>::max(), least3 = least0;
  for (int measured = 1; measured <= kMostMeasurements; ++measured) {
    const absl::StatusOr<double> ring0 = MeasureRing0();
    if (!ring0.ok()) return ring0.status();
    const absl::StatusOr<double> ring3 = MeasureRing3(probe);
    if (!ring3.ok()) return ring3.status();
    least0 = std::min(least0, *ring0);
    least3 = std::min(least3, *ring3);
    probe.ring0_slowdown = least3 > 0 ? least0 / least3 : 0;
    // Where SYSCALL does not enter ring 0 that is no processor's, however fast it seems.
    const bool is_entered = probe.syscall_entry == SyscallEntry::kRing0;
    probe.ring0 = is_entered && probe.ring0_slowdown <= kEmulatedSlowdown ? Ring0::kNative : Ring0::kEmulated;
    if (!is_entered || (probe.ring0 == Ring0::kNative && measured >= kFewestMeasurements)) break;
  }
  return absl::OkStatus();
}

// SYSRETQ to the instruction after the SYSCALL, which is an OUT.
absl::Status ProbeGuest::TrySysret(Probe& probe) {
  regs().rcx = after_syscall_;
  regs().r11 = x86::rflags::ForUser(0);
  absl::StatusOr<Stop> stop = RunFrom(layout::ArenaVirt(dune::Ring0Header().probe_sysret));
  if (!stop.ok()) return stop.status();
  probe.ring3_out_exits = *stop == Stop::kUserPort;
  const bool protection_fault =
      *stop == Stop::kTrap &&
      frame().vector == static_cast<unsigned>(x86::Vector::kGeneralProtection) &&
      frame().rip == after_syscall_;
  probe.sysret_works = probe.ring3_out_exits || protection_fault;
  return absl::OkStatus();
}

// Points the code page's present entry at the other page, which starts with UD2, and flushes as a
// guest would. Old code still running means that the host shadows the tables.
absl::Status ProbeGuest::TryPaging(Probe& probe) {
  if (absl::Status status = MapUserCode(1); !status.ok()) return status;
  kvm_sregs sregs = run().s.regs.sregs;
  SetSystemRegisters(sregs, FeaturesOf(vm_->supported_cpuid()), Ring0::kEmulated, tables_.root(),
                     layout::ArenaVirt(layout::kVcpuBlocksOffset));
  sregs.cr4 |= x86::cr4::kPageGlobal;
  if (int result = vm_->api().Ioctl(vcpu_.get(), KVM_SET_SREGS, &sregs); result < 0) {
    return KvmError("KVM_SET_SREGS", result);
  }
  regs().rsi = 1;
  absl::StatusOr<Stop> stop = EnterRing3(pages_->address().value);
  if (!stop.ok()) return stop.status();
  const bool new_code = *stop == Stop::kTrap &&
                        frame().vector == static_cast<unsigned>(x86::Vector::kInvalidOpcode);
  probe.paging = new_code ? Paging::kTwoDimensional : Paging::kShadow;
  return absl::OkStatus();
}

absl::StatusOr<Probe> ProbeGuest::Run() {
  Probe probe;
  absl::Status status = MeasureRings(probe);
  if (status.ok()) status = TrySysret(probe);
  if (status.ok()) status = TryPaging(probe);
  if (!status.ok()) return status;
  return probe;
}

}  // namespace

std::string Probe::verdict() const { return is_hardware() ? "hardware" : "emulated"; }

std::string Probe::reason() const {
  if (is_hardware()) {
    return "ring 0 runs at full speed, SYSCALL enters it and SYSRET leaves it";
  }
  if (ring0 == Ring0::kEmulated) {
    return absl::StrFormat("guest ring 0 runs %.0f times slower than ring 3%s", ring0_slowdown,
                           syscall_entry == SyscallEntry::kPageFault
                               ? ", and SYSCALL does not enter it"
                               : "");
  }
  return "SYSRET does not work";
}

absl::StatusOr<Probe> RunProbe(KvmApi& api) {
  absl::StatusOr<std::unique_ptr<ProbeGuest>> guest = ProbeGuest::Create(api);
  if (!guest.ok()) return guest.status();
  return (*guest)->Run();
}

}  // namespace dunebox::kvm
