#include "runtime/process/clone.h"

#include <linux/sched.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <memory>
#include <optional>
#include <semaphore>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "hostcalls/errors/message.h"
#include "hostcalls/services/limit_notes.h"
#include "runtime/process/fork_signal.h"
#include "runtime/process/process.h"
#include "runtime/process/signal_delivery.h"

namespace dunebox::process {

using hostcalls::Errno;
using hostcalls::SyscallResult;

namespace {

// Handlers keep big buffers on the heap; what remains fits easily.
constexpr std::size_t kHostStack = std::size_t{256} << 10;
constexpr std::uint64_t kAllSignals = ~std::uint64_t{0};

// Keeps host signals out while state that a handler needs is in change. The guest's mask comes
// back at the end.
class SignalsBlocked {
 public:
  explicit SignalsBlocked(GuestThread& thread) : thread_(thread) {
    signals::SetHostMask(kAllSignals);
  }
  ~SignalsBlocked() { SetSignalMask(thread_, thread_.signal.mask); }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  GuestThread& thread_;
};

// Thread-local storage is a vforked child's for a while; in the end it is the parent's again.
class ReattachAtEnd {
 public:
  explicit ReattachAtEnd(GuestThread& thread) : thread_(thread) {}
  ~ReattachAtEnd() { thread_.Attach(); }
  ReattachAtEnd(const ReattachAtEnd&) = delete;
  ReattachAtEnd& operator=(const ReattachAtEnd&) = delete;

 private:
  GuestThread& thread_;
};

// The vector state goes with the registers, which are made exact.
absl::StatusOr<std::vector<std::byte>> SaveState(GuestThread& thread) {
  if (absl::Status status = thread.engine->FetchBases(thread.registers); !status.ok()) {
    return status;
  }
  std::vector<std::byte> area(thread.engine->extended_state_size());
  if (absl::Status status = thread.engine->SaveExtendedState(area); !status.ok()) return status;
  return area;
}

absl::StatusOr<std::unique_ptr<runtime::EngineThread>> NewEngineThread(
    runtime::ExecutionEngine& engine, std::span<const std::byte> extended) {
  absl::StatusOr<std::unique_ptr<runtime::EngineThread>> fresh = engine.CreateThread();
  if (!fresh.ok()) return fresh.status();
  if (absl::Status status = (*fresh)->LoadExtendedState(extended); !status.ok()) return status;
  return fresh;
}

// What the child's registers differ in.
void SetChildRegisters(GuestThread& child, const runtime::Registers& parent,
                       const CloneRequest& request) {
  child.registers = parent;
  child.registers.rax = 0;
  if (request.stack != 0) child.registers.rsp = request.stack;
  if ((request.flags & CLONE_SETTLS) != 0) child.registers.fs_base = request.tls;
}

void TellTrace(GuestThread& child, hostcalls::Beginning what) {
  if (child.owner.trace() != nullptr) {
    child.owner.trace()->OnBegin(what, child.owner.executable_path());
  }
}

// A bad address is not reported, as on Linux.
void WriteId(const hostcalls::GuestMemory& memory, std::uint64_t address, pid_t id) {
  (void)memory.CopyOut(GuestPtr<pid_t>{address}, id);
}

void WriteChildIds(GuestThread& child, const CloneRequest& request) {
  if ((request.flags & CLONE_CHILD_SETTID) != 0) {
    WriteId(child.memory, request.child_tid, gettid());
  }
  child.clear_child_tid = (request.flags & CLONE_CHILD_CLEARTID) != 0 ? request.child_tid : 0;
}

// The descriptor of a child for its parent. The kernel makes it with the child, so it can be no other process's, and gives it
// a number as to every descriptor that the program makes. Its place is looked at before there is a child.
class ChildDescriptor {
 public:
  ChildDescriptor(const hostcalls::GuestMemory& memory, const CloneRequest& request)
      : memory_(memory), place_{request.pidfd}, is_wanted_((request.flags & CLONE_PIDFD) != 0) {}

  // Can it be written? Changes nothing.
  bool HasPlace() const {
    if (!is_wanted_) return true;
    const auto held = memory_.CopyIn(place_);
    return held.ok() && memory_.CopyOut(place_, *held).ok();
  }
  std::uint64_t flag() const { return is_wanted_ ? CLONE_PIDFD : 0; }
  // For the kernel; null where none is wanted.
  int* number() { return is_wanted_ ? &number_ : nullptr; }
  // A place that a sibling has taken away meanwhile is not reported: the child is there.
  void Write() const {
    if (is_wanted_) (void)memory_.CopyOut(place_, number_);
  }

 private:
  const hostcalls::GuestMemory& memory_;
  const GuestPtr<int> place_;
  const bool is_wanted_;
  int number_ = -1;
};

// The slot of a task that is being made, under --pids; given back when none comes of it.
class TaskClaim {
 public:
  explicit TaskClaim(Process& process) : slots_(process.tasks()) {
    if (slots_ != nullptr) claim_ = slots_->Take();
    hostcalls::LimitNotes* const notes = process.limits().notes;
    if (!ok() && notes != nullptr) notes->Note(hostcalls::RefusedLimit::kTasks);
  }
  // In the parent. What the new task has confirmed stays.
  ~TaskClaim() {
    if (claim_) slots_->GiveBack(*claim_);
  }
  TaskClaim(const TaskClaim&) = delete;
  TaskClaim& operator=(const TaskClaim&) = delete;

  bool ok() const { return slots_ == nullptr || claim_.has_value(); }
  // The parent's part is over: the slot is the new task's, whether that lives to confirm or not.
  void HandOver(pid_t id) {
    if (claim_) slots_->HandOver(*claim_, id);
    claim_.reset();
  }
  // In the new task, with the parent's object or a copy of it.
  void Confirm() {
    if (!claim_ || slots_->Confirm(*claim_)) return;
    kill(getpid(), SIGKILL);  // our slot is another's: the parent was killed
  }

 private:
  runtime::TaskSlots* const slots_;
  std::optional<runtime::TaskSlots::Claim> claim_;
};

// ---- threads ------------------------------------------------------------------------------------

struct ThreadStart {
  GuestThread& parent;
  const CloneRequest& request;
  std::unique_ptr<runtime::EngineThread> engine;
  TaskClaim& claim;
  pid_t id = 0;
  std::binary_semaphore ready{0};
};

// [glibc] SIGSETXID. With its first thread glibc takes the signal for itself, in all of our process.
constexpr int kSetXidSignal = 33;

// Entered with all signals blocked. `start` is the parent's, who waits, and gone after `ready`.
void* ThreadMain(void* raw) {
  signals::BeginHostThread();
  auto& start = *static_cast<ThreadStart*>(raw);
  start.claim.Confirm();
  start.parent.owner.signal_handlers().Reinstall(kSetXidSignal);
  GuestThread child(start.parent.owner, std::move(start.engine));
  SetChildRegisters(child, start.parent.registers, start.request);
  child.signal.mask = start.parent.signal.mask;
  child.personality = start.parent.personality;
  if ((start.request.flags & CLONE_PARENT_SETTID) != 0) {
    WriteId(child.memory, start.request.parent_tid, gettid());
  }
  WriteChildIds(child, start.request);
  start.id = gettid();
  start.ready.release();

  TellTrace(child, hostcalls::Beginning::kThread);
  SetSignalMask(child, child.signal.mask);
  RunGuest(child);
  signals::SetHostMask(kAllSignals);
  FinishThread(child);
  return nullptr;
}

bool CreateHostThread(ThreadStart& start) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, kHostStack);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_t handle;
  const int error = pthread_create(&handle, &attributes, ThreadMain, &start);
  pthread_attr_destroy(&attributes);
  return error == 0;
}

// ---- fork ---------------------------------------------------------------------------------------

// In the child, which is alone in its copy of everything.
void BecomeForkedChild(GuestThread& thread, const CloneRequest& request,
                       std::span<const std::byte> extended) {
  Machine& machine = thread.owner.machine();
  // What the engine needs anew are files.
  const hostcalls::VirtualLimits::Lifted lifted(thread.owner.limits());
  const absl::StatusOr<bool> continued = machine.engine().ContinueAfterFork(*thread.engine);
  absl::Status status = continued.status();
  if (continued.ok() && !*continued) {
    status = machine.Rebuild();
    if (status.ok()) {
      auto engine = NewEngineThread(machine.engine(), extended);
      status = engine.status();
      if (engine.ok()) thread.ReplaceEngine(*std::move(engine));
    }
  }
  if (!status.ok()) {
    errors::Say(errors::Id::kForkedChild, errors::Behind("a forked child cannot run", status));
    _exit(125);
  }
  thread.owner.space().DropLeftBehind();
  // What the parent's handler had just noted is the parent's, with the kick that came of it: nothing
  // here would ever take that back.
  thread.signal.pending.Clear();
  thread.signal_pending = 0;
  thread.engine->Unkick();
  thread.robust_list = 0;
  thread.owner.threads().ResetInChild(thread);
  if (thread.owner.debugger() != nullptr) thread.owner.debugger()->ForgetInChild();
  thread.debug = {};
  SetChildRegisters(thread, thread.registers, request);
  WriteChildIds(thread, request);
  if ((request.flags & CLONE_CLEAR_SIGHAND) != 0) thread.owner.signal_handlers().ResetHandled();
  TellTrace(thread, hostcalls::Beginning::kForkedChild);
}

// ---- vfork --------------------------------------------------------------------------------------

// A runtime stack for the child: the parent's is in use. Freed by the parent, which waits.
class HostStack {
 public:
  HostStack()
      : memory_(mmap(nullptr, kHostStack, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0)) {}
  ~HostStack() {
    if (valid()) munmap(memory_, kHostStack);
  }
  HostStack(const HostStack&) = delete;
  HostStack& operator=(const HostStack&) = delete;
  bool valid() const { return memory_ != MAP_FAILED; }
  void* top() const { return static_cast<std::byte*>(memory_) + kHostStack; }

 private:
  void* memory_;
};

// The child runs in memory without breakpoints, and a debugger does not wait for the parent.
class WithoutDebugger {
 public:
  explicit WithoutDebugger(GuestThread& parent) : parent_(parent) {
    parent.owner.threads().SetAway(parent, true);
    if (parent.owner.debugger() != nullptr) parent.owner.debugger()->BeforeVfork(parent);
  }
  ~WithoutDebugger() {
    if (parent_.owner.debugger() != nullptr) parent_.owner.debugger()->AfterVfork(parent_);
    parent_.owner.threads().SetAway(parent_, false);
  }
  WithoutDebugger(const WithoutDebugger&) = delete;
  WithoutDebugger& operator=(const WithoutDebugger&) = delete;

 private:
  GuestThread& parent_;
};

struct VforkStart {
  GuestThread& child;
  const CloneRequest& request;
  TaskClaim& claim;
  const ChildDescriptor& descriptor;
  // The parent's, held until the child has its copy of the table.
  hostcalls::LowDescriptors& low;
  std::atomic<bool> holds = true;

  // By the child when it starts, or by the parent when it never did.
  void Release() {
    if (holds.exchange(false)) low.ReleaseAfterFork();
  }
};

// Runs in the child process, on its own stack but with the suspended parent's thread-local
// storage. Entered with all signals blocked.
int VforkMain(void* raw) {
  auto& start = *static_cast<VforkStart*>(raw);
  start.claim.Confirm();
  start.Release();
  GuestThread& child = start.child;
  child.Attach();
  start.descriptor.Write();
  WriteChildIds(child, start.request);
  if ((start.request.flags & CLONE_CLEAR_SIGHAND) != 0) {
    child.owner.signal_handlers().ResetHandled();
  }
  TellTrace(child, hostcalls::Beginning::kVforkedChild);
  SetSignalMask(child, child.signal.mask);
  RunGuest(child);
  FinishThread(child);
  syscall(SYS_exit_group, child.exit_status);
  return 0;
}

}  // namespace

SyscallResult StartThread(GuestThread& parent, const CloneRequest& request) {
  TaskClaim claim(parent.owner);
  if (!claim.ok()) return Errno{EAGAIN};
  absl::StatusOr<std::vector<std::byte>> extended = SaveState(parent);
  if (!extended.ok()) return Errno{EAGAIN};
  absl::StatusOr<std::unique_ptr<runtime::EngineThread>> engine =
      NewEngineThread(parent.owner.machine().engine(), *extended);
  if (!engine.ok()) return Errno{EAGAIN};

  const SignalsBlocked blocked(parent);
  ThreadStart start{.parent = parent, .request = request, .engine = *std::move(engine), .claim = claim};
  if (!CreateHostThread(start)) return Errno{EAGAIN};
  start.ready.acquire();
  claim.HandOver(start.id);
  return SyscallResult(start.id);
}

SyscallResult ForkProcess(GuestThread& parent, const CloneRequest& request) {
  ChildDescriptor descriptor(parent.memory, request);
  if (!descriptor.HasPlace()) return Errno{EFAULT};
  TaskClaim claim(parent.owner);
  if (!claim.ok()) return Errno{EAGAIN};
  absl::StatusOr<std::vector<std::byte>> extended = SaveState(parent);
  if (!extended.ok()) return Errno{EAGAIN};
  Process& owner = parent.owner;
  const SignalsBlocked blocked(parent);
  // Lock order: dispositions, address space, engine, low descriptors, limits. Whoever makes a
  // descriptor may hold the engine's locks and needs the limits' for a moment.
  owner.signal_handlers().LockForFork();
  owner.machine().LockForFork();
  hostcalls::LowDescriptors& low = owner.limits().low_descriptors;
  low.HoldForFork();
  owner.limits().LockForFork();
  const pid_t id = ForkWithSignal(request.exit_signal, descriptor.number());
  const int error = errno;
  if (id == 0) claim.Confirm();
  if (id >= 0) claim.HandOver(id == 0 ? gettid() : id);
  owner.limits().UnlockAfterFork();
  if (id == 0) owner.limits().descriptor_changes.StartOver();
  if (id == 0) owner.limits().ForgetDescriptors();
  id == 0 ? low.ResetInChild() : low.ReleaseAfterFork();
  id == 0 ? owner.machine().UnlockInChild() : owner.machine().UnlockInParent();
  owner.signal_handlers().UnlockAfterFork();
  if (id < 0) return Errno{error};
  if (id == 0) {
    BecomeForkedChild(parent, request, *extended);
    return SyscallResult(std::int64_t{0});
  }
  descriptor.Write();
  if ((request.flags & CLONE_PARENT_SETTID) != 0) {
    WriteId(parent.memory, request.parent_tid, id);
  }
  return SyscallResult(id);
}

SyscallResult VforkProcess(GuestThread& parent, const CloneRequest& request) {
  ChildDescriptor descriptor(parent.memory, request);
  if (!descriptor.HasPlace()) return Errno{EFAULT};
  TaskClaim claim(parent.owner);
  if (!claim.ok()) return Errno{EAGAIN};
  absl::StatusOr<std::vector<std::byte>> extended = SaveState(parent);
  if (!extended.ok()) return Errno{EAGAIN};
  absl::StatusOr<std::unique_ptr<runtime::EngineThread>> engine =
      NewEngineThread(parent.owner.machine().engine(), *extended);
  const HostStack stack;
  if (!engine.ok() || !stack.valid()) return Errno{EAGAIN};

  const SignalsBlocked blocked(parent);
  const ReattachAtEnd reattach(parent);
  hostcalls::VirtualLimits limits(hostcalls::OfVforkedChild(), parent.owner.limits());
  Process process(parent.owner, limits);
  GuestThread child(process, *std::move(engine));
  SetChildRegisters(child, parent.registers, request);
  child.signal.mask = parent.signal.mask;
  child.personality = parent.personality;
  child.signal.alternate_stack = parent.signal.alternate_stack;

  hostcalls::LowDescriptors& low = parent.owner.limits().low_descriptors;
  low.HoldForFork();
  VforkStart start{.child = child, .request = request, .claim = claim, .descriptor = descriptor, .low = low};
  const WithoutDebugger undebugged(parent);
  const auto flags = static_cast<int>(CLONE_VM | CLONE_VFORK | descriptor.flag()) | request.exit_signal;
  const int id = clone(VforkMain, stack.top(), flags, &start, descriptor.number());
  const int error = errno;
  start.Release();
  if (id < 0) return Errno{error};
  claim.HandOver(id);
  if ((request.flags & CLONE_PARENT_SETTID) != 0) {
    WriteId(parent.memory, request.parent_tid, id);
  }
  return SyscallResult(id);
}

}  // namespace dunebox::process
