#include "libdune/ring0_backend/vm.h"

#include <linux/mman.h>
#include <sys/mman.h>

#include <cerrno>

#include "libdune/ring0_backend/mirror.h"
#include "libdune/ring0_backend/raw_call.h"
#include "libdune/x86/control.h"
#include "libdune/x86/descriptor.h"

namespace dune::ring0 {

constinit Vm vm;

void Fatal(const char* what, long value) {
  char text[256];
  std::size_t size = 0;
  const auto add = [&](const char* words) {
    for (; *words != 0 && size + 32 < sizeof(text); ++words) text[size++] = *words;
  };
  add("dunebox: ring 0: ");
  add(what);
  if (value != 0) {
    add(value < 0 ? ": error " : ": 0x");
    const bool is_error = value < 0;
    const auto number = static_cast<std::uint64_t>(is_error ? -value : value);
    char digits[20];
    std::size_t count = 0;
    const unsigned base = is_error ? 10 : 16;
    for (std::uint64_t rest = number; rest != 0; rest /= base) {
      digits[count++] = "0123456789abcdef"[rest % base];
    }
    while (count > 0) text[size++] = digits[--count];
  }
  text[size++] = '\n';
  RawCall(SYS_write, 2, text, size);
  for (;;) RawCall(SYS_exit_group, 125);
}

// ---- guest-physical memory
// -----------------------------------------------------------------------

namespace {

unsigned HashOf(std::uint64_t key) {
  return static_cast<unsigned>((key * 0x9e37'79b9'7f4a'7c15) >> 54);
}
static_assert(Vm::kHashSlots == 1u << 10);

long SetSlot(unsigned number) {
  const std::uint64_t address = vm.granule_address[number];
  // The last one ends where the process's addresses do.
  const std::uint64_t size =
      address + kGranuleBytes > kAddressesEnd ? kAddressesEnd - address : kGranuleBytes;
  kvm_userspace_memory_region region{};
  region.slot = number;
  region.guest_phys_addr = (kFirstGranule + number) << kGranuleShift;
  region.memory_size = size;
  region.userspace_addr = address;
  return RawCall(SYS_ioctl, vm.fd, KVM_SET_USER_MEMORY_REGION, &region);
}

}  // namespace

std::uint64_t PhysicalOf(std::uint64_t address) {
  const std::uint64_t key = (address >> kGranuleShift) + 1;
  for (unsigned place = HashOf(key);; place = (place + 1) % Vm::kHashSlots) {
    const std::uint64_t found = vm.hash[place].key.load(std::memory_order_acquire);
    if (found == key) return vm.hash[place].physical + (address & (kGranuleBytes - 1));
    if (found == 0) return 0;
  }
}

std::uint64_t AddressOf(std::uint64_t physical) {
  return vm.granule_address[(physical >> kGranuleShift) - kFirstGranule] +
         (physical & (kGranuleBytes - 1));
}

bool AddGranule(std::uint64_t address) {
  if (PhysicalOf(address) != 0) return true;
  const unsigned number = vm.granules.load(std::memory_order_relaxed);
  if (number >= vm.most_granules) return false;
  const std::uint64_t granule = address >> kGranuleShift;
  vm.granule_address[number] = granule << kGranuleShift;
  if (SetSlot(number) < 0) return false;
  vm.granules.store(number + 1, std::memory_order_release);
  unsigned place = HashOf(granule + 1);
  while (vm.hash[place].key.load(std::memory_order_relaxed) != 0) {
    place = (place + 1) % Vm::kHashSlots;
  }
  vm.hash[place].physical = (kFirstGranule + number) << kGranuleShift;
  vm.hash[place].key.store(granule + 1, std::memory_order_release);
  return true;
}

std::uint64_t TakeFrame(FrameFor whom) {
  const std::uint64_t frames = vm.pool_bytes / kPage;
  if (vm.frames_used.fetch_add(1) >= (whom == FrameFor::kCurrent ? frames : frames / 4 * 3)) {
    vm.frames_used.fetch_sub(1);
    return 0;
  }
  // The free ones first; the count above the index keeps a frame that came and went from being
  // taken for itself.
  std::uint64_t head = vm.free_frames.load(std::memory_order_acquire);
  while ((head & 0xffff'ffff) != 0) {
    const std::uint64_t frame = vm.pool + ((head & 0xffff'ffff) - 1) * kPage;
    const std::uint64_t next = *reinterpret_cast<volatile std::uint64_t*>(frame) & 0xffff'ffff;
    if (vm.free_frames.compare_exchange_weak(head, ((head >> 32) + 1) << 32 | next)) {
      *reinterpret_cast<volatile std::uint64_t*>(frame) = 0;
      return frame;
    }
  }
  const std::uint64_t used = vm.pool_used.fetch_add(kPage);
  if (used + kPage <= vm.pool_bytes) return vm.pool + used;
  vm.pool_used.fetch_sub(kPage);
  vm.frames_used.fetch_sub(1);
  return 0;
}

void GiveFrame(std::uint64_t address) {
  ZeroPage(reinterpret_cast<void*>(address));
  const std::uint64_t index = (address - vm.pool) / kPage + 1;
  std::uint64_t head = vm.free_frames.load(std::memory_order_relaxed);
  do {
    *reinterpret_cast<volatile std::uint64_t*>(address) = head & 0xffff'ffff;
  } while (!vm.free_frames.compare_exchange_weak(head, ((head >> 32) + 1) << 32 | index));
  vm.frames_used.fetch_sub(1);
}

namespace {
std::atomic<std::uint32_t>& ReferenceOf(std::uint64_t physical) {
  return vm.references[(AddressOf(physical) - vm.pool) / kPage];
}
}  // namespace

void KeepFrame(std::uint64_t physical) { ReferenceOf(physical).fetch_add(1); }
bool TryKeepFrame(std::uint64_t physical) {
  std::atomic<std::uint32_t>& references = ReferenceOf(physical);
  std::uint32_t seen = references.load();
  while (seen != 0) {
    if (references.compare_exchange_weak(seen, seen + 1)) return true;
  }
  return false;
}
bool DropReference(std::uint64_t physical) { return ReferenceOf(physical).fetch_sub(1) == 1; }
void DropFrame(std::uint64_t physical) {
  if (DropReference(physical)) GiveFrame(AddressOf(physical));
}
std::uint32_t ReferencesOf(std::uint64_t physical) { return ReferenceOf(physical).load(); }

long OpenMachine() {
  const long made = RawCall(SYS_ioctl, vm.device, KVM_CREATE_VM, 0);
  if (made < 0) return made;
  vm.fd = static_cast<int>(made);
  // Closed by execve, like the device. [linux] FD_CLOEXEC
  RawCall(SYS_fcntl, made, 2 /* F_SETFD */, 1);
  if (const long set = RawCall(SYS_ioctl, made, KVM_SET_TSS_ADDR, kTssAddress); set < 0) return set;
  for (unsigned number = 0; number < vm.granules.load(); ++number) {
    if (const long set = SetSlot(number); set < 0) return set;
  }
  return 0;
}

long RenewMachine(const Thread* self) {
  const unsigned places = vm.places.load();
  for (unsigned index = 0; index < places; ++index) {
    Thread* const other = vm.threads[index];
    if (other->vcpu >= 0) {
      RawCall(SYS_munmap, other->run, vm.run_bytes);
      RawCall(SYS_close, other->vcpu);
    }
    other->vcpu = kNoVcpu;
    if (other != self) other->id.store(kFreePlace);
    other->timer_of = 0;  // timers are the parent's
  }
  RawCall(SYS_close, vm.fd);
  vm.fd = -1;
  if (const long opened = vm.maps.Open(); opened < 0) return opened;
  return OpenMachine();
}

// ---- vCPUs
// ---------------------------------------------------------------------------------------

namespace {

// The counter of time stamps is the host's: the vDSO's clocks compute with it. Kernels before 5.16
// cannot.
void UseHostTimeStamps(int vcpu) {
  std::uint64_t offset = 0;
  kvm_device_attr attribute{};
  attribute.group = KVM_VCPU_TSC_CTRL;
  attribute.attr = KVM_VCPU_TSC_OFFSET;
  attribute.addr = reinterpret_cast<std::uint64_t>(&offset);
  RawCall(SYS_ioctl, vcpu, KVM_SET_DEVICE_ATTR, &attribute);
}

void WriteBlock(Thread* thread) {
  std::byte* const block = thread->block();
  const std::uint64_t alias = AliasOfBlock(thread->index);
  auto* const gdt = reinterpret_cast<std::uint64_t*>(block + DUNE_BLOCK_GDT);
  gdt[DUNE_RING0_CODE >> 3] = x86::SegmentDescriptor::Code64(0).word();
  gdt[DUNE_RING0_DATA >> 3] = x86::SegmentDescriptor::Data(0).word();
  gdt[DUNE_RING3_DATA >> 3] = x86::SegmentDescriptor::Data(3).word();
  gdt[DUNE_RING3_CODE >> 3] = x86::SegmentDescriptor::Code64(3).word();
  const auto tss =
      x86::TaskStateDescriptor::Available(alias + DUNE_BLOCK_TSS_AT, sizeof(x86::TaskState) - 1);
  gdt[DUNE_TSS_SELECTOR >> 3] = tss.low;
  gdt[(DUNE_TSS_SELECTOR >> 3) + 1] = tss.high;
  static_assert(DUNE_BLOCK_TSS_AT + offsetof(x86::TaskState, ist) + sizeof(std::uint64_t) == DUNE_BLOCK_TSS_IST2);
  x86::TaskState task;
  task.rsp[0] = alias + DUNE_BLOCK_IST2_TOP;
  task.ist[0] = alias + DUNE_BLOCK_IST1_TOP;
  task.ist[1] = alias + DUNE_BLOCK_IST2_TOP;
  CopyBytes(block + DUNE_BLOCK_TSS_AT, &task, sizeof(task));
  thread->state = reinterpret_cast<VcpuState*>(block + DUNE_BLOCK_STATE_AT);
  ZeroBytes(thread->state, sizeof(VcpuState));
  const auto handlers = reinterpret_cast<std::uint64_t>(block + kHandlerStackAt);
  thread->state->handler_low = handlers;
  thread->state->handler_top = handlers + kHandlerStackBytes;
  thread->state->dispatch = DispatchAddress();
  thread->state->self = alias;
}

}  // namespace

void SetSegments(kvm_sregs& registers, unsigned index) {
  kvm_segment code{};
  code.limit = 0xffff'ffff;
  code.selector = DUNE_RING0_CODE;
  code.type = 0xb;
  code.present = code.s = code.l = code.g = 1;
  kvm_segment data = code;
  data.selector = DUNE_RING0_DATA;
  data.type = 0x3;
  data.l = 0;
  data.db = 1;
  // The others hold null selectors in a 64-bit process; of FS and GS the bases count.
  kvm_segment null_data = data;
  null_data.selector = 0;
  null_data.dpl = 3;
  registers.cs = code;
  registers.ss = data;
  registers.ds = registers.es = registers.fs = registers.gs = null_data;
  const std::uint64_t alias = AliasOfBlock(index);
  registers.tr = {};
  registers.tr.base = alias + DUNE_BLOCK_TSS_AT;
  registers.tr.limit = sizeof(x86::TaskState) - 1;
  registers.tr.selector = DUNE_TSS_SELECTOR;
  registers.tr.type = 0xb;
  registers.tr.present = 1;
  registers.ldt = {};
  registers.ldt.type = 2;
  registers.ldt.unusable = 1;
  registers.gdt = {};
  registers.gdt.base = alias + DUNE_BLOCK_GDT;
  registers.gdt.limit = 0x7f;
  registers.idt = {};
  registers.idt.base = DUNE_ALIAS_BASE + DUNE_ALIAS_SHARED_OFFSET;
  registers.idt.limit = 32 * sizeof(x86::GateDescriptor) - 1;
}

long OpenVcpu(Thread* thread) {
  const long vcpu = RawCall(SYS_ioctl, vm.fd, KVM_CREATE_VCPU, thread->index);
  if (vcpu < 0) return vcpu;
  RawCall(SYS_fcntl, vcpu, 2 /* F_SETFD */, 1);
  const auto give_up = [&](long error) {
    RawCall(SYS_close, vcpu);
    thread->vcpu = kSpentVcpu;
    return error;
  };
  const long area = RawCall(SYS_mmap, 0, vm.run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
  if (area < 0 && area > -4096) return give_up(area);
  if (const long set = RawCall(SYS_ioctl, vcpu, KVM_SET_CPUID2, &vm.cpuid); set < 0) {
    RawCall(SYS_munmap, area, vm.run_bytes);
    return give_up(set);
  }
  thread->vcpu = static_cast<int>(vcpu);
  thread->run = reinterpret_cast<kvm_run*>(area);
  thread->run->kvm_valid_regs = KVM_SYNC_X86_REGS;
  UseHostTimeStamps(thread->vcpu);
  return 0;
}

long SetUpVcpu(Thread* thread, const kvm_sregs* like, std::uint64_t fs_base,
               std::uint64_t gs_base) {
  namespace cr0 = x86::cr0;
  namespace cr4 = x86::cr4;
  WriteBlock(thread);
  kvm_sregs& registers = thread->system_registers;
  if (const long got = RawCall(SYS_ioctl, thread->vcpu, KVM_GET_SREGS, &registers); got < 0) {
    return got;
  }
  SetSegments(registers, thread->index);
  registers.fs.base = fs_base;
  registers.gs.base = gs_base;
  registers.cr3 = like != nullptr ? TableTags::RootOf(like->cr3) : vm.root;
  thread->state->process_cr3 = registers.cr3;
  if (!ShowHandlerStack(registers.cr3, *thread->state)) return -ENOMEM;
  reinterpret_cast<TableTags*>(thread->block() + DUNE_BLOCK_TAGS_AT)->Reset(registers.cr3, vm.pcid);
  registers.cr0 = cr0::kPaging | cr0::kWriteProtect | cr0::kNumericError | cr0::kExtensionType |
                  cr0::kMonitorCoprocessor | cr0::kProtection;
  registers.cr4 = cr4::kPhysicalAddressExtension | cr4::kFxsave | cr4::kSimdExceptions;
  if (vm.xcr0 != 0) registers.cr4 |= cr4::kXsave;
  if (vm.fsgsbase) registers.cr4 |= cr4::kFsgsbase;
  if (vm.pcid) registers.cr4 |= cr4::kProcessContext;
  registers.efer = x86::efer::kNoExecuteEnable | x86::efer::kLongModeActive |
                   x86::efer::kLongModeEnable | x86::efer::kSyscallEnable;
  if (const long set = RawCall(SYS_ioctl, thread->vcpu, KVM_SET_SREGS, &registers); set < 0) {
    return set;
  }
  MsrTable msrs;
  // SYSRETQ would load SS = base + 8 and CS = base + 16. [amd/vol2 §6.1.1]
  constexpr std::uint64_t kUserBase = DUNE_RING3_DATA - 8;
  static_assert(kUserBase + 16 == DUNE_RING3_CODE);
  msrs.Add(x86::msr::kStar, kUserBase << 48 | std::uint64_t{DUNE_RING0_CODE} << 32);
  msrs.Add(x86::msr::kLstar, DUNE_ALIAS_BASE + SyscallEntryOffset());
  msrs.Add(x86::msr::kSyscallMask, x86::rflags::kSyscallClear);
  msrs.Add(x86::msr::kKernelGsBase, AliasOfBlock(thread->index));
  const long set = RawCall(SYS_ioctl, thread->vcpu, KVM_SET_MSRS, &msrs);
  if (set != static_cast<long>(msrs.count)) return set < 0 ? set : -EINVAL;
  if (vm.xcr0 != 0) {
    kvm_xcrs control{};
    control.nr_xcrs = 1;
    control.xcrs[0].value = vm.xcr0;
    if (const long got = RawCall(SYS_ioctl, thread->vcpu, KVM_SET_XCRS, &control); got < 0) {
      return got;
    }
  }
  return 0;
}

// ---- places
// --------------------------------------------------------------------------------------

Thread* FindThread(std::uint32_t id) {
  const unsigned places = vm.places.load(std::memory_order_acquire);
  for (unsigned index = 0; index < places; ++index) {
    Thread* const thread = vm.threads[index];
    if (thread->id.load(std::memory_order_relaxed) == id) return thread;
  }
  return nullptr;
}

namespace {

Thread* TakeFreePlace() {
  const unsigned places = vm.places.load(std::memory_order_acquire);
  for (unsigned index = 0; index < places; ++index) {
    std::uint32_t free = kFreePlace;
    if (vm.threads[index]->id.compare_exchange_strong(free, kTakenPlace)) return vm.threads[index];
  }
  return nullptr;
}

// With the lock.
Thread* MakePlace(long* error) {
  const unsigned index = vm.places.load(std::memory_order_relaxed);
  if (index == kMostThreads) {
    *error = -EAGAIN;
    return nullptr;
  }
  const long block =
      RawCall(SYS_mmap, 0, kBlockBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (block < 0 && block > -4096) {
    *error = block;
    return nullptr;
  }
  auto* const thread = reinterpret_cast<Thread*>(static_cast<std::uint64_t>(block) + kThreadAt);
  thread->index = index;
  thread->vcpu = kNoVcpu;
  thread->id.store(kTakenPlace);
  if (!ShowBlock(thread)) {
    RawCall(SYS_munmap, block, kBlockBytes);
    *error = -ENOMEM;
    return nullptr;
  }
  vm.threads[index] = thread;
  vm.places.store(index + 1, std::memory_order_release);
  return thread;
}

}  // namespace

Thread* TakePlace(bool in_vfork_child, long* error) {
  Thread* thread = in_vfork_child ? nullptr : TakeFreePlace();
  if (thread == nullptr) {
    const LoopLock::Holder holder(vm.lock);
    thread = MakePlace(error);
    if (thread == nullptr) return nullptr;
  }
  thread->in_vfork_child = in_vfork_child;
  thread->signalled = 0;
  thread->fruitless_repairs = 0;
  if (thread->vcpu < 0) {
    if (*error = OpenVcpu(thread); *error < 0) {
      thread->id.store(thread->vcpu == kNoVcpu ? kFreePlace : kDeadPlace);
      return nullptr;
    }
  }
  return thread;
}

void ReleasePlace(Thread* thread, bool in_vfork_child) {
  if (!in_vfork_child) {
    thread->id.store(kFreePlace);
    return;
  }
  RawCall(SYS_munmap, thread->run, vm.run_bytes);
  RawCall(SYS_close, thread->vcpu);
  thread->vcpu = kSpentVcpu;
  thread->id.store(kDeadPlace);
}

}  // namespace dune::ring0
