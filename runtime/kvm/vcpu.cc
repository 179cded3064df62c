#include "runtime/kvm/vcpu.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_format.h"
#include "hostcalls/errors/message.h"
#include "libdune/ring0/image.h"
#include "runtime/kvm/layout.h"
#include "runtime/kvm/port_instruction.h"

namespace dunebox::kvm {

namespace x86 = dune::x86;
using runtime::EngineFailure;
using runtime::Exit;
using runtime::Fault;
using runtime::GuestCrash;
using runtime::Interrupted;
using runtime::Registers;
using runtime::SystemCall;

namespace {

constexpr std::uint64_t kSyncedRegisters = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;
// An EFAULT that finds nothing to repair is a race with a mapping change; this many in a row are
// something else.
constexpr unsigned kMostFruitlessRepairs = 10'000;
// As many page faults in a row at a page that the tables have: a program in ring 0 uses other tables.
constexpr unsigned kMostFruitlessFaults = 1'000;
constexpr std::uint64_t kLowestNonCanonical = std::uint64_t{1} << 47;
constexpr std::uint64_t kLowestSupervisor = ~std::uint64_t{0} << 47;

constexpr std::uint64_t kTrapFrameOffset = layout::kBlockTrapStackTop - sizeof(abi::TrapFrame);
constexpr std::uint64_t kIstFrameOffset = layout::kBlockIstStackTop - sizeof(abi::TrapFrame);

// What ring 3 could not be entered at, or with ring 0, nobody.
bool IsBadRip(std::uint64_t rip, ProgramRing ring) {
  return rip >= kLowestNonCanonical && (ring == ProgramRing::kRing3 || rip < kLowestSupervisor);
}

bool IsIn(std::uint64_t rip, GuestVirt start, GuestVirt end) {
  return rip >= start.value && rip < end.value;
}

Fault GeneralProtection() {
  return {.vector = x86::Vector::kGeneralProtection, .error_code = 0, .address = 0,
          .memory_error = false};
}

Exit NoRoomFor(std::uint64_t address) {
  return EngineFailure{
      absl::StrFormat("no room for the page at 0x%x in the virtual machine", address)};
}

std::uint32_t& CountFor(abi::FutexWaits& waits, std::uint64_t word) {
  return waits.counts[(word >> DUNE_FUTEX_SHIFT) % DUNE_FUTEX_BUCKETS];
}

// As Ring0State::answer_of has it.
std::uint8_t RoutineOf(runtime::Answer answer) {
  switch (answer) {
    case runtime::Answer::kResult:
      break;
    case runtime::Answer::kSignalMask:
      return DUNE_QUICK_SIGNAL_MASK;
    case runtime::Answer::kYield:
      return DUNE_QUICK_YIELD;
    case runtime::Answer::kSegmentBase:
      return DUNE_QUICK_SEGMENT_BASE;
    case runtime::Answer::kChildTid:
      return DUNE_QUICK_CHILD_TID;
    case runtime::Answer::kRobustList:
      return DUNE_QUICK_ROBUST_LIST;
    case runtime::Answer::kFutex:
      return DUNE_QUICK_FUTEX;
    case runtime::Answer::kMemory:
      return DUNE_QUICK_MEMORY;
    case runtime::Answer::kSignalReturn:
      return DUNE_QUICK_SIGNAL_RETURN;
    case runtime::Answer::kClock:
      return DUNE_QUICK_CLOCK;
    case runtime::Answer::kTimeOfDay:
      return DUNE_QUICK_TIME_OF_DAY;
    case runtime::Answer::kTime:
      return DUNE_QUICK_TIME;
    case runtime::Answer::kSignalAction:
      return DUNE_QUICK_SIGNAL_ACTION;
    case runtime::Answer::kAlternateStack:
      return DUNE_QUICK_ALTERNATE_STACK;
    case runtime::Answer::kPostWrite:
      return DUNE_QUICK_POST_WRITE;
  }
  return 0;  // no routine: the host's
}

// The guest's vDSO computes with the host's clock data, so RDTSC has to give what it gives there; by
// default a vCPU's counter starts near 0. A kernel without the attribute (before 5.16) leaves the
// vDSO's clocks up to a tick behind.
int UseHostTimeStamps(KvmApi& api, int vcpu_fd) {
  std::uint64_t offset = 0;
  kvm_device_attr attribute{.group = KVM_VCPU_TSC_CTRL,
                            .attr = KVM_VCPU_TSC_OFFSET,
                            .addr = reinterpret_cast<std::uintptr_t>(&offset)};
  const int result = api.Ioctl(vcpu_fd, KVM_SET_DEVICE_ATTR, &attribute);
  return result == -ENXIO || result == -ENOTTY ? 0 : result;
}

}  // namespace

namespace {

// Ring 0 has to be able to execute and use the program's pages, which ring 3 may use.
CpuFeatures FeaturesIn(ProgramRing ring, CpuFeatures features) {
  if (ring == ProgramRing::kRing0) features.smep = features.smap = features.umip = false;
  return features;
}

}  // namespace

Vcpu::Vcpu(Vm& vm, Mmu& mmu, const Probe& probe, unsigned index, ProgramRing ring)
    : vm_(vm),
      mmu_(mmu),
      probe_(probe),
      index_(index),
      ring_(ring),
      leaves_system_registers_(LeavesSystemRegisters(probe, ring)),
      stubs_(ring == ProgramRing::kRing0
                 ? Stubs::OfProgramImage(layout::ArenaVirt(layout::kImageOffset))
                 : Stubs::At(layout::ArenaVirt(layout::kImageOffset))),
      offered_cpuid_(OfferedCpuid(vm.supported_cpuid(), probe.ring0)),
      features_(FeaturesIn(ring, FeaturesOf(offered_cpuid_))),
      frame_offset_(kTrapFrameOffset) {}

absl::StatusOr<std::unique_ptr<Vcpu>> Vcpu::Create(Vm& vm, Mmu& mmu, const Probe& probe,
                                                   unsigned index, ProgramRing ring) {
  std::unique_ptr<Vcpu> vcpu(new Vcpu(vm, mmu, probe, index, ring));
  if (absl::Status status = vcpu->Initialize(); !status.ok()) return status;
  return vcpu;
}

absl::Status Vcpu::Initialize() {
  KvmApi& api = vm_.api();
  const int fd = api.Ioctl(vm_.fd(), KVM_CREATE_VCPU, std::uintptr_t{index_});
  if (fd < 0) return KvmError("KVM_CREATE_VCPU", fd);
  vcpu_ = KvmFd(&api, fd);
  int error = 0;
  void* area = api.MapRunArea(fd, vm_.run_area_size(), &error);
  if (area == nullptr) return KvmError("cannot map a vCPU's run area", -error);
  run_area_ = RunArea(&api, area, vm_.run_area_size());
  run().kvm_valid_regs =
      leaves_system_registers_ ? std::uint64_t{KVM_SYNC_X86_REGS} : kSyncedRegisters;

  const std::uint64_t block_offset = layout::kVcpuBlocksOffset + index_ * kPageSize;
  block_ = vm_.arena(block_offset);
  block_address_ = layout::ArenaVirt(block_offset);
  absl::Status mapped = mmu_.WithTables([&](PageTables& tables) {
    return tables.MapSupervisor(block_address_, GuestPhys{block_offset}, /*writable=*/true,
                                /*execute=*/false);
  });
  if (!mapped.ok()) return mapped;
  CpuidTable cpuid = GuestCpuid(offered_cpuid_, features_);
  if (int result = api.Ioctl(fd, KVM_SET_CPUID2, &cpuid); result < 0) {
    return KvmError("KVM_SET_CPUID2", result);
  }
  if (absl::Status status = SetSystemState(); !status.ok()) return status;
  if (int result = UseHostTimeStamps(api, fd); result < 0) {
    return KvmError("KVM_SET_DEVICE_ATTR", result);
  }
  // The x87 and SSE state a Linux process starts with; a reset CPU's differs. [abi §3.4.1]
  kvm_fpu fpu{.fcw = 0x37f, .mxcsr = 0x1f80};
  if (int result = api.Ioctl(fd, KVM_SET_FPU, &fpu); result < 0) {
    return KvmError("KVM_SET_FPU", result);
  }
  return absl::OkStatus();
}

absl::Status Vcpu::SetSystemState() {
  KvmApi& api = vm_.api();
  const int fd = vcpu_.get();
  WriteVcpuBlock(block_, block_address_);
  state().futex_waits = layout::ArenaVirt(layout::kFutexWaitsOffset).value;
  state().stack = (block_address_ + layout::kBlockTrapStackTop).value;
  kvm_sregs sregs;
  if (int result = api.Ioctl(fd, KVM_GET_SREGS, &sregs); result < 0) {
    return KvmError("KVM_GET_SREGS", result);
  }
  SetSystemRegisters(sregs, features_, probe_.ring0, mmu_.root(), block_address_);
  if (int result = api.Ioctl(fd, KVM_SET_SREGS, &sregs); result < 0) {
    return KvmError("KVM_SET_SREGS", result);
  }
  run().s.regs.sregs = sregs;
  has_system_registers_ = true;
  const GuestVirt entry = uses_known_answers() ? stubs_.quick_entry : stubs_.syscall_entry;
  MsrTable msrs = SystemMsrs(entry, block_address_ + layout::kBlockState);
  const int set = api.Ioctl(fd, KVM_SET_MSRS, &msrs);
  if (set < 0) return KvmError("KVM_SET_MSRS", set);
  if (set != static_cast<int>(msrs.count)) {
    return errors::Named(errors::Id::kKvmLacks, absl::UnimplementedError("this KVM does not let SYSCALL's registers be set"));
  }
  if (features_.xcr0 != 0) {
    kvm_xcrs xcrs{.nr_xcrs = 1};
    xcrs.xcrs[0] = {.xcr = 0, .value = features_.xcr0};
    if (int result = api.Ioctl(fd, KVM_SET_XCRS, &xcrs); result < 0) {
      return KvmError("KVM_SET_XCRS", result);
    }
  }
  place_ = Place::kRing0;
  at_syscall_ = false;
  frame_offset_ = kTrapFrameOffset;
  const bool own_ring0 = ring_ == ProgramRing::kRing0;
  code_selector_ = own_ring0 ? DUNE_SELECTOR_KERNEL_CODE : DUNE_SELECTOR_USER_CODE;
  stack_selector_ = own_ring0 ? DUNE_SELECTOR_KERNEL_DATA : DUNE_SELECTOR_USER_DATA;
  return own_ring0 ? ClearWhatRing0MaySet() : absl::OkStatus();
}

abi::Ring0State& Vcpu::state() const {
  return *reinterpret_cast<abi::Ring0State*>(block_ + layout::kBlockState);
}

bool Vcpu::CanAnswer(runtime::Answer answer) const {
  switch (answer) {
    case runtime::Answer::kSegmentBase:
      return features_.fsgsbase;
    case runtime::Answer::kClock:
    case runtime::Answer::kTimeOfDay:
    case runtime::Answer::kTime:
      return mmu_.clock_entry().value != 0;
    default:
      return true;
  }
}

void Vcpu::KnowAnswers(std::span<const runtime::KnownAnswer> answers) {
  std::size_t used = 1;  // answer 0 means none
  std::ranges::fill(state().answer_of, std::uint8_t{0});
  state().clock = mmu_.clock_entry().value;
  for (const runtime::KnownAnswer& known : answers) {
    if (known.number > DUNE_QUICK_NUMBERS) continue;
    const auto result = static_cast<std::uint64_t>(known.result);
    if (known.answer != runtime::Answer::kResult) {
      if (!CanAnswer(known.answer)) continue;
      if (known.answer == runtime::Answer::kChildTid) state().thread_id = result;
      state().answer_of[known.number] = RoutineOf(known.answer);
      continue;
    }
    std::size_t place = 1;
    while (place < used && state().answers[place] != result) ++place;
    if (place == abi::Ring0State::kAnswers) continue;  // full: the host answers
    if (place == used) state().answers[used++] = result;
    state().answer_of[known.number] = static_cast<std::uint8_t>(place);
  }
}

void Vcpu::Lend(const runtime::OwnState& own) {
  lent_ = own;
  abi::Ring0State& shared = state();
  shared.mask = shared.mask_least = own.signal_mask;
  shared.mask_most = own.signal_mask | own.addable_signals;
  shared.child_tid = own.clear_child_tid;
  shared.robust_list = own.robust_list;
  shared.actions = own.lends_actions ? layout::ArenaVirt(layout::kActionsOffset).value : 0;
  shared.changed_actions = 0;
  shared.alternate_stack = own.alternate_stack;
  LendHandler(own.fault_handler);
}

void Vcpu::LendHandler(const runtime::FaultHandler& handler) {
  abi::TrapDelivery& traps = state().traps;
  // Ring 0 leaves to the handler by IRETQ, and keeps one XSAVE area.
  const bool usable = !handler.IsNone() && (handler.address >> DUNE_USER_ADDRESS_BITS) == 0 &&
                      features_.xcr0 != 0 &&
                      features_.xsave_size + sizeof(abi::kMagic2) <= DUNE_SCRATCH_INITIAL;
  traps.handler = usable ? handler.address : 0;
  if (!usable) return;
  traps.opening = handler.opening;
  traps.restorer = handler.restorer;
  traps.blocks = handler.blocks;
  traps.stack = handler.alternate_stack;
  traps.switches = handler.switches_stack ? 1 : 0;
  traps.state_size = features_.xsave_size;
  traps.features = features_.xcr0;
}

namespace {

// What sigaltstack makes there; else nobody has.
bool IsPlain(const abi::AlternateStack& stack) {
  return stack.padding == 0 && (stack == abi::AlternateStack{} ||
                                (stack.flags == 0 && stack.size >= DUNE_MINIMUM_SIGNAL_STACK));
}

}  // namespace

abi::SignalActions* Vcpu::signal_actions() {
  if (!uses_known_answers()) return nullptr;
  return reinterpret_cast<abi::SignalActions*>(vm_.arena(layout::kActionsOffset));
}

runtime::OwnState Vcpu::TakeBack() {
  const abi::Ring0State& shared = state();
  const abi::AlternateStack stack = shared.alternate_stack;
  const std::uint64_t added = shared.mask & lent_.addable_signals;
  return {.signal_mask = lent_.signal_mask | added,
          .addable_signals = lent_.addable_signals,
          .clear_child_tid = shared.child_tid,
          .robust_list = shared.robust_list,
          .lends_actions = lent_.lends_actions,
          .replaced_actions = lent_.lends_actions ? shared.changed_actions : 0,
          .alternate_stack = IsPlain(stack) ? stack : lent_.alternate_stack};
}

abi::PostedWrites* Vcpu::posted_writes() {
  if (!uses_known_answers()) return nullptr;
  return reinterpret_cast<abi::PostedWrites*>(vm_.arena(layout::kPostedOffset));
}

abi::FutexWaits& Vcpu::futex_waits() const {
  static_assert(layout::kFutexWaitsOffset + sizeof(abi::FutexWaits) <=
                layout::kIdtOffset + kPageSize);
  return *reinterpret_cast<abi::FutexWaits*>(vm_.arena(layout::kFutexWaitsOffset));
}

void Vcpu::BeginFutex(runtime::FutexUse use, std::uint64_t word) {
  if (use == runtime::FutexUse::kIrregular) {
    __atomic_store_n(&futex_waits().irregular, 1, __ATOMIC_SEQ_CST);
    return;
  }
  __atomic_fetch_add(&CountFor(futex_waits(), word), 1, __ATOMIC_SEQ_CST);
}

void Vcpu::EndFutex(runtime::FutexUse use, std::uint64_t word) {
  if (use == runtime::FutexUse::kIrregular) return;
  __atomic_fetch_sub(&CountFor(futex_waits(), word), 1, __ATOMIC_SEQ_CST);
}

abi::TrapFrame& Vcpu::frame() const {
  return *reinterpret_cast<abi::TrapFrame*>(block_ + frame_offset_);
}

void Vcpu::Kick() {
  // A plain byte in shared memory: KVM reads it after this thread's signal handler returned.
  __atomic_store_n(&run().immediate_exit, 1, __ATOMIC_RELAXED);
}

void Vcpu::Unkick() { __atomic_store_n(&run().immediate_exit, 0, __ATOMIC_RELAXED); }

// ---- into the guest -----------------------------------------------------------------------------

void Vcpu::EnterRing0(const Registers& registers, kvm_regs& regs) {
  const bool plain_return = ring_ == ProgramRing::kRing3 && at_syscall_ &&
                            registers.rcx == registers.rip &&
                            registers.r11 == registers.rflags &&
                            (registers.rflags & (x86::rflags::kTrap | x86::rflags::kResume)) == 0;
  if (plain_return) {
    regs.rip = stubs_.syscall_return.value;
    regs.rsp = registers.rsp;
    return;
  }
  frame() = {.vector = 0,
             .error_code = 0,
             .rip = registers.rip,
             .cs = code_selector_,
             .rflags = x86::rflags::ForUser(registers.rflags),
             .rsp = registers.rsp,
             .ss = stack_selector_};
  regs.rip = stubs_.trap_return.value;
  regs.rsp = (block_address_ + frame_offset_).value;
}

// Preconditions: the vCPU is out of the guest; registers.rip is canonical.
void Vcpu::Enter(const Registers& registers) {
  state().interrupted = 0;
  state().yields = kCheapYields;
  kvm_regs& regs = run().s.regs.regs;
  regs.rax = registers.rax, regs.rbx = registers.rbx, regs.rcx = registers.rcx;
  regs.rdx = registers.rdx, regs.rsi = registers.rsi, regs.rdi = registers.rdi;
  regs.rbp = registers.rbp, regs.r8 = registers.r8, regs.r9 = registers.r9;
  regs.r10 = registers.r10, regs.r11 = registers.r11, regs.r12 = registers.r12;
  regs.r13 = registers.r13, regs.r14 = registers.r14, regs.r15 = registers.r15;
  if (place_ == Place::kRing3) {
    regs.rip = registers.rip;
    regs.rsp = registers.rsp;
    regs.rflags = x86::rflags::ForUser(registers.rflags);
  } else {
    regs.rflags = x86::rflags::kReserved1;
    EnterRing0(registers, regs);
  }
  run().kvm_dirty_regs = KVM_SYNC_X86_REGS;
  if (!has_system_registers_) return;
  kvm_sregs& sregs = run().s.regs.sregs;
  if (sregs.fs.base != registers.fs_base || sregs.gs.base != registers.gs_base) {
    sregs.fs.base = registers.fs_base;
    sregs.gs.base = registers.gs_base;
    run().kvm_dirty_regs |= KVM_SYNC_X86_SREGS;
  }
}

// ---- out of the guest ---------------------------------------------------------------------------

void Vcpu::ReadGeneral(Registers& registers) const {
  const kvm_regs& regs = run().s.regs.regs;
  registers.rax = regs.rax, registers.rbx = regs.rbx, registers.rcx = regs.rcx;
  registers.rdx = regs.rdx, registers.rsi = regs.rsi, registers.rdi = regs.rdi;
  registers.rbp = regs.rbp, registers.r8 = regs.r8, registers.r9 = regs.r9;
  registers.r10 = regs.r10, registers.r11 = regs.r11, registers.r12 = regs.r12;
  registers.r13 = regs.r13, registers.r14 = regs.r14, registers.r15 = regs.r15;
  if (has_system_registers_) ReadBases(registers);
}

void Vcpu::ReadBases(Registers& registers) const {
  registers.fs_base = run().s.regs.sregs.fs.base;
  registers.gs_base = run().s.regs.sregs.gs.base;
}

absl::Status Vcpu::FetchSystemRegisters() {
  if (has_system_registers_) return absl::OkStatus();
  const int result = vm_.api().Ioctl(vcpu_.get(), KVM_GET_SREGS, &run().s.regs.sregs);
  if (result < 0) return KvmError("KVM_GET_SREGS", result);
  has_system_registers_ = true;
  return absl::OkStatus();
}

absl::Status Vcpu::FetchBases(Registers& registers) {
  if (absl::Status status = FetchSystemRegisters(); !status.ok()) return status;
  ReadBases(registers);
  return absl::OkStatus();
}

// Of the page fault whose trap frame is the current one.
std::uint64_t Vcpu::FaultAddress() const {
  if (!leaves_system_registers_) return run().s.regs.sregs.cr2;
  std::uint64_t address = 0;
  std::memcpy(&address, block_ + frame_offset_ - DUNE_FAULT_ADDRESS_BELOW, sizeof(address));
  return address;
}

// Stopped in ring 3: everything is in the CPU's registers.
void Vcpu::ReadUserState(Registers& registers) const {
  ReadGeneral(registers);
  registers.rip = run().s.regs.regs.rip;
  registers.rsp = run().s.regs.regs.rsp;
  registers.rflags = run().s.regs.regs.rflags;
}

// The trap needs nothing of the supervisor; but a signal that came on the way into ring 0 does.
Vcpu::Step Vcpu::GoOn() const {
  if (state().interrupted != 0) return Exit{Interrupted{}};
  return Resume{};
}

void Vcpu::MapAhead(const Ahead& ahead) {
  if (ahead.range.empty()) return;
  void* const host = mmu_.memory().HostAddress(ahead.range.start.value, ahead.range.size());
  if (host != nullptr) mapped_ahead_.Add(MapResident(vm_.api(), vcpu_.get(), host, ahead));
}

Vcpu::Step Vcpu::OnPageFault(Registers& registers, std::uint64_t error_code) {
  const std::uint64_t address = FaultAddress();
  if (address == stubs_.syscall_entry.value && registers.rip == address) {
    // SYSCALL that stayed in ring 3 (emulated KVM), or a jump to LSTAR, which is as good as one.
    registers.rip = registers.rcx;
    registers.rflags = registers.r11 = x86::rflags::ForUser(registers.r11);
    return Exit{SystemCall{}};
  }
  // Programs look for this bit in signal frames.
  if (ring_ == ProgramRing::kRing0) error_code |= x86::page_fault::kUser;
  const BackingCheck check = std::exchange(next_check_, BackingCheck::kAssume);
  const auto fault = [&](bool behind, std::uint64_t code) {
    return Exit{Fault{.vector = x86::Vector::kPageFault,
                      .error_code = code,
                      .address = address,
                      .memory_error = behind}};
  };
  // An access with ring 0's rights on behalf of ring 3 (a far return that QEMU 7.2 gets wrong): a page
  // that the guest may use does not make it work, so it would fault for ever.
  if ((error_code & x86::page_fault::kUser) == 0) return fault(false, error_code);
  Ahead ahead;
  const Resolution resolution = mmu_.Resolve(address, error_code, check, &ahead);
  if (resolution != Resolution::kWasMapped) fruitless_faults_ = 0;
  switch (resolution) {
    case Resolution::kMapped:
      MapAhead(ahead);
      return GoOn();
    case Resolution::kWasMapped:
      if (ring_ == ProgramRing::kRing3 || ++fruitless_faults_ < kMostFruitlessFaults) {
        return GoOn();
      }
      fruitless_faults_ = 0;
      return fault(false, error_code | x86::page_fault::kPresent);
    case Resolution::kNoMapping:
      return fault(false, error_code & ~x86::page_fault::kPresent);
    case Resolution::kForbidden:
      return fault(false, error_code | x86::page_fault::kPresent);
    case Resolution::kNothingBehind:
      return fault(true, error_code);
    case Resolution::kFailed:
      break;
  }
  return NoRoomFor(address);
}

// Ring 0 has met a page of the program's that is not in the tables, or that the program may not use so.
// The call goes on at that instruction; else it is the host's, which finds out why.
Vcpu::Step Vcpu::OnRoutineFault(const abi::TrapFrame& trap) {
  const std::uint64_t address = FaultAddress();
  const BackingCheck check = std::exchange(next_check_, BackingCheck::kAssume);
  const Resolution resolution = mmu_.Resolve(address, trap.error_code, check);
  if (resolution == Resolution::kFailed) return NoRoomFor(address);
  kvm_regs& regs = run().s.regs.regs;
  regs.rip = resolution == Resolution::kMapped ? trap.rip : stubs_.quick_retreat.value;
  regs.rsp = (block_address_ + layout::kBlockTrapStackTop).value;
  regs.rflags = x86::rflags::kReserved1 | (trap.rflags & DUNE_RFLAGS_ACCESS);
  run().kvm_dirty_regs = KVM_SYNC_X86_REGS;
  return Resume{};
}

Vcpu::Step Vcpu::OnTrap(Registers& registers) {
  const std::uint64_t rsp = run().s.regs.regs.rsp;
  if (rsp == (block_address_ + kTrapFrameOffset).value) {
    frame_offset_ = kTrapFrameOffset;
  } else if (rsp == (block_address_ + kIstFrameOffset).value) {
    frame_offset_ = kIstFrameOffset;
  } else {
    return Failed(absl::StrFormat("trap frame at unexpected stack 0x%x", rsp));
  }
  const abi::TrapFrame trap = frame();  // copied once: a program in ring 0 can change it
  const auto vector = static_cast<x86::Vector>(trap.vector);
  if (ring_ == ProgramRing::kRing0) {
    code_selector_ = trap.cs;
    stack_selector_ = trap.ss;
  } else if ((trap.cs & 3) != 3) {
    if (vector == x86::Vector::kPageFault &&
        IsIn(trap.rip, stubs_.quick_routines, stubs_.quick_routines_end)) {
      return OnRoutineFault(trap);
    }
    return Exit{EngineFailure{absl::StrFormat("exception %d (error 0x%x) in ring 0 at rip 0x%x",
                                              trap.vector, trap.error_code, trap.rip)}};
  }
  place_ = Place::kRing0;
  at_syscall_ = false;
  ReadGeneral(registers);
  registers.rip = trap.rip;
  registers.rsp = trap.rsp;
  registers.rflags = trap.rflags;
  if (trap.vector == DUNE_VECTOR_NONE) return Exit{Interrupted{}};
  if (vector == x86::Vector::kPageFault) return OnPageFault(registers, trap.error_code);
  return Exit{Fault{.vector = vector,
                    .error_code = trap.error_code,
                    .address = 0,
                    .memory_error = false}};
}

// In ring 0 by SYSCALL, with everything else as ring 3 has it.
void Vcpu::ReadAfterSyscall(Registers& registers) {
  place_ = Place::kRing0;
  at_syscall_ = true;
  ReadGeneral(registers);
  registers.rsp = run().s.regs.regs.rsp;
  registers.rip = registers.rcx;
  registers.rflags = registers.r11;
}

Vcpu::Step Vcpu::Failed(std::string reason) const {
  if (ring_ == ProgramRing::kRing0) return Exit{GuestCrash{std::move(reason)}};
  return Exit{EngineFailure{std::move(reason)}};
}

bool Vcpu::StandsInProgram() const {
  if (ring_ == ProgramRing::kRing0) return StandsInProgramOfRing0();
  return PrivilegeOf(run()) != 0 && run().s.regs.regs.rip != stubs_.syscall_entry.value;
}

Vcpu::Step Vcpu::OnInterrupted(Registers& registers) {
  const std::uint64_t rip = run().s.regs.regs.rip;
  if (StandsInProgram()) {
    place_ = Place::kRing3;
    ReadUserState(registers);
    return Exit{Interrupted{}};
  }
  const bool returning = IsIn(rip, stubs_.trap_return, stubs_.trap_return_end) ||
                         IsIn(rip, stubs_.syscall_return, stubs_.syscall_return_end);
  if (returning) {
    // `registers` is what ring 3 would have continued with: still exact.
    place_ = Place::kRing0;
    return Exit{Interrupted{}};
  }
  if (rip == stubs_.quick_sysret.value) {
    ReadAfterSyscall(registers);
    return Exit{Interrupted{}};
  }
  // On the way in, or with an answer: it leaves ring 0 by a hypercall, and whoever kicked is served then.
  state().interrupted = 1;
  const auto test_again = [&](GuestVirt test, GuestVirt end) {
    if (rip <= test.value || rip >= end.value) return;
    run().s.regs.regs.rip = test.value;
    run().kvm_dirty_regs = KVM_SYNC_X86_REGS;
  };
  test_again(stubs_.quick_test, stubs_.quick_sysret);
  test_again(stubs_.fault_test, stubs_.fault_return + 1);
  test_again(stubs_.step_test, stubs_.step_return + 1);
  Unkick();
  return Resume{};
}

Vcpu::Step Vcpu::OnMemoryError(Registers& registers) {
  if (StandsInProgram()) {
    place_ = Place::kRing3;
    ReadUserState(registers);
  }
  if (mmu_.DropUnbacked() != 0) {
    fruitless_repairs_ = 0;
    next_check_ = BackingCheck::kProbe;
    return Resume{};
  }
  if (++fruitless_repairs_ < kMostFruitlessRepairs) return Resume{};
  return Failed(absl::StrFormat("KVM cannot reach the guest's memory at rip 0x%x", registers.rip));
}

Vcpu::Step Vcpu::OnUserPort(const UserPortExit& exit, Registers& registers) {
  place_ = Place::kRing3;
  ReadUserState(registers);
  registers.rip = PortInstructionStart(mmu_.memory(), registers.rip, exit.out, exit.port);
  return Exit{GeneralProtection()};
}

Vcpu::Step Vcpu::OnUserInvalid(const UserInvalidExit& exit, Registers& registers) {
  place_ = Place::kRing3;
  ReadUserState(registers);
  if (!exit.privileged) {
    return Exit{Fault{.vector = x86::Vector::kInvalidOpcode,
                      .error_code = 0,
                      .address = 0,
                      .memory_error = false}};
  }
  registers.rip -= 1;  // KVM reports HLT behind the one-byte instruction
  return Exit{GeneralProtection()};
}

// OUT in the supervisor half, on hardware: ring 3 can stand there, but execute nothing.
bool Vcpu::IsHypercallOfImage(int result) const {
  return result >= 0 && run().exit_reason == KVM_EXIT_IO &&
         run().s.regs.regs.rip >= kLowestSupervisor;
}

VmExit Vcpu::Decode() const {
  if (ring_ == ProgramRing::kRing0) return DecodeRing0Exit(run(), stubs_);
  return has_system_registers_ ? DecodeKvmExit(run(), stubs_)
                               : DecodeKvmExit(run(), stubs_, /*privilege=*/0);
}

Vcpu::Step Vcpu::RunOnce(Registers& registers) {
  mmu_.flushes().Enter(visit_, state().reductions);
  const int result = vm_.api().Run(vcpu_.get());
  mmu_.flushes().Leave();
  run().kvm_dirty_regs = 0;
  has_system_registers_ = !leaves_system_registers_;
  if (!IsHypercallOfImage(result)) {
    if (absl::Status status = FetchSystemRegisters(); !status.ok()) {
      return Failed(std::string(status.message()));
    }
    // Some of these go on with `registers` as they are, and Enter believes the bases then.
    if (leaves_system_registers_) ReadBases(registers);
  }
  if (result == -EINTR || result == -EAGAIN) return OnInterrupted(registers);
  if (result == -EFAULT) return OnMemoryError(registers);
  if (result < 0) {
    return Failed(absl::StrFormat("KVM_RUN: %s", strerror(-result)));
  }
  fruitless_repairs_ = 0;
  return std::visit(
      runtime::Overloaded{
          [&](const TrapExit&) { return OnTrap(registers); },
          [&](const SyscallExit&) -> Step {
            ReadAfterSyscall(registers);
            return Exit{SystemCall{}};
          },
          [&](const AnsweredExit&) -> Step {
            ReadAfterSyscall(registers);
            return Exit{Interrupted{}};
          },
          [&](const FlushExit&) -> Step {
            mmu_.flushes().Flush();
            return Resume{};
          },
          [&](const UserPortExit& exit) { return OnUserPort(exit, registers); },
          [&](const UserInvalidExit& exit) { return OnUserInvalid(exit, registers); },
          [&](const InterruptedExit&) { return OnInterrupted(registers); },
          [&](const FailedExit& exit) { return Failed(exit.reason); },
      },
      Decode());
}

void Vcpu::Count(const Step& step) {
  const auto add = [&](VcpuEvent event) { events_[static_cast<std::size_t>(event)].Add(); };
  add(VcpuEvent::kEnter);
  const auto* exit = std::get_if<Exit>(&step);
  if (exit == nullptr) {
    add(VcpuEvent::kResumed);
    return;
  }
  std::visit(runtime::Overloaded{[&](const SystemCall&) { add(VcpuEvent::kSystemCall); },
                                 [&](const Fault&) { add(VcpuEvent::kFault); },
                                 [&](const Interrupted&) { add(VcpuEvent::kInterrupted); },
                                 [](const EngineFailure&) {}, [](const GuestCrash&) {}},
             *exit);
}

Exit Vcpu::Run(Registers& registers) {
  // Neither IRETQ nor SYSRETQ may see such an address: the CPU would fault in ring 0.
  if (IsBadRip(registers.rip, ring_)) return GeneralProtection();
  return is_counting_ ? RunCounted(registers) : RunToExit(registers);
}

Exit Vcpu::RunToExit(Registers& registers) {
  Enter(registers);
  for (;;) {
    Step step = RunOnce(registers);
    Count(step);
    if (auto* exit = std::get_if<Exit>(&step)) return std::move(*exit);
  }
}

// ---- counted instructions -----------------------------------------------------------------------

std::int64_t Vcpu::StepsLeft() const {
  return std::clamp(state().steps, std::int64_t{0}, steps_granted_);
}

std::int64_t Vcpu::instructions_left() const {
  if (!is_counting_) return runtime::kNoInstructionLimit;
  return is_used_up_ ? -1 : StepsLeft();
}

void Vcpu::set_instructions_left(std::int64_t number) {
  // A forked child, which gives its parent's vCPUs back, has no copy of their blocks.
  if (!is_counting_ && number >= runtime::kNoInstructionLimit) return;
  is_counting_ = number < runtime::kNoInstructionLimit;
  is_used_up_ = is_counting_ && number < 0;
  steps_granted_ = is_counting_ ? std::max(number, std::int64_t{0}) : 0;
  state().steps = steps_granted_;
}

// Ring 0 comes out with #DB where it would have to let ring 3 execute one more. SYSCALL clears TF: it is counted here.
Exit Vcpu::RunCounted(Registers& registers) {
  is_used_up_ = StepsLeft() == 0;
  if (is_used_up_) return Interrupted{};
  registers.rflags |= x86::rflags::kTrap;
  Exit exit = RunToExit(registers);
  registers.rflags &= ~x86::rflags::kTrap;
  if (std::holds_alternative<SystemCall>(exit)) {
    registers.r11 = registers.rflags;
    state().steps = std::max(StepsLeft() - 1, std::int64_t{0});
    return exit;
  }
  const auto* const fault = std::get_if<Fault>(&exit);
  is_used_up_ = fault != nullptr && fault->vector == x86::Vector::kDebug && StepsLeft() == 0;
  if (is_used_up_) return Interrupted{};
  return exit;
}

// ---- extended state -----------------------------------------------------------------------------

absl::Status Vcpu::SaveExtendedState(std::span<std::byte> area) {
  kvm_xsave xsave;
  const int result = vm_.api().Ioctl(vcpu_.get(), KVM_GET_XSAVE, &xsave);
  if (result < 0) return KvmError("KVM_GET_XSAVE", result);
  std::memcpy(area.data(), &xsave, std::min(area.size(), sizeof(xsave)));
  return absl::OkStatus();
}

absl::Status Vcpu::LoadExtendedState(std::span<const std::byte> area) {
  kvm_xsave xsave{};
  std::memcpy(&xsave, area.data(), std::min(area.size(), sizeof(xsave)));
  const int result = vm_.api().Ioctl(vcpu_.get(), KVM_SET_XSAVE, &xsave);
  return result < 0 ? KvmError("KVM_SET_XSAVE", result) : absl::OkStatus();
}

}  // namespace dunebox::kvm
