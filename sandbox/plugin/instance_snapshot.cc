// An instance between calls: taken down as values, put back, and made anew from them.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "sandbox/plugin/host_signals.h"
#include "sandbox/plugin/instance.h"
#include "sandbox/plugin/original_process.h"

namespace dunebox::plugin {
namespace {

absl::StatusOr<ThreadState> StateOf(PluginThread& thread) {
  const absl::StatusOr<GuestCpu::Control> control = thread.cpu->control();
  if (!control.ok()) return control.status();
  if (thread.calls_at_restart != thread.calls.load()) {
    absl::Status status = thread.engine->FetchBases(thread.registers);
    if (!status.ok()) return status;
  }
  return ThreadState{.id = thread.id,
          .stack_pointer = thread.registers.rsp,
          .fs_base = thread.registers.fs_base,
          .gs_base = thread.registers.gs_base,
          .mxcsr = control->mxcsr,
          .x87_control = control->x87_control,
          .signal_mask = thread.signal_mask,
          .pending_signals = thread.pending_signals.load(),
          .alternate_stack = thread.alternate_stack,
          .clear_child_tid = thread.clear_child_tid};
}

// Whatever it was in the middle of.
absl::Status SetState(PluginThread& thread, const ThreadState& state) {
  thread.watch.Set(kNoDeadline);
  thread.engine->Unkick();
  thread.kicked.store(0);
  absl::Status status =
      thread.cpu->Restart({.mxcsr = state.mxcsr, .x87_control = state.x87_control});
  // The engine believes the next bases then.
  if (status.ok()) status = thread.engine->FetchBases(thread.registers);
  if (!status.ok()) return status;
  thread.registers = {.rsp = state.stack_pointer, .fs_base = state.fs_base, .gs_base = state.gs_base};
  thread.signal_mask = state.signal_mask;
  thread.pending_signals.store(state.pending_signals);
  thread.alternate_stack = state.alternate_stack;
  thread.clear_child_tid = state.clear_child_tid;
  thread.has_exited = false;
  thread.made = nullptr;
  thread.depth = 0;
  thread.calls_at_restart = thread.calls.load();
  return absl::OkStatus();
}

// Code that every instance with this memory executes from the same bytes.
memory::RangeSet CommonCode(const memory::MemoryImage& image) {
  memory::RangeSet code;
  image.state().map.ForEach([&](const memory::Vma& vma) {
    const bool is_fixed = vma.protection.execute && !vma.protection.write;
    if (is_fixed && vma.sharing == memory::Sharing::kPrivate) code.Add(vma.range);
    return true;
  });
  return code;
}

}  // namespace

bool Instance::TakeAllParked() {
  std::size_t taken = 0;
  while (taken < lent_.size() && lent_[taken].Take()) ++taken;
  const auto has_others = [&] {
    const std::lock_guard lock(mutex_);
    return CountLent() != threads_.size();
  };
  if (taken == lent_.size() && !has_others()) return true;
  while (taken > 0) Park(lent_[--taken]);
  return false;
}

void Instance::ParkAll() {
  for (LentPlace& place : lent_) Park(place);
}

std::size_t Instance::CountLent() const {
  return static_cast<std::size_t>(
      std::ranges::count_if(lent_, [](const LentPlace& place) { return place.thread != nullptr; }));
}

absl::StatusOr<std::shared_ptr<const InstanceSnapshot>> Instance::SnapshotInto(
    std::optional<runtime::FileDescriptor> file) {
  if (has_ended_.load()) return absl::FailedPreconditionError("the sandbox has failed: reset it");
  if (absl::Status status = EnsureStarted(); !status.ok()) return status;
  {
    const std::lock_guard lock(mutex_);
    if (running_by_themselves_ != 0) {
      return absl::FailedPreconditionError(
          absl::StrCat(running_by_themselves_, " threads run that the plugin has started"));
    }
  }
  if (!TakeAllParked()) return absl::FailedPreconditionError("a call is under way");
  const auto take = [&]() -> absl::StatusOr<std::shared_ptr<const InstanceSnapshot>> {
    auto snapshot = std::make_shared<InstanceSnapshot>();
    snapshot->engine = SnapshotEngineOf(policy_);
    absl::StatusOr<std::shared_ptr<const memory::MemoryImage>> image =
        space_.TakeImage(file ? std::optional(file->release()) : std::nullopt);
    if (!image.ok()) return image.status();
    snapshot->memory = *std::move(image);
    if (file) {
      engine_->KeepOnly(CommonCode(*snapshot->memory));
    } else if (absl::Status status = ShareCode(*snapshot); !status.ok()) {
      return status;
    }
    for (const LentPlace& place : lent_) {
      if (place.thread == nullptr) continue;
      absl::StatusOr<ThreadState> state = StateOf(*place.thread);
      if (!state.ok()) return state.status();
      snapshot->threads.push_back(*std::move(state));
    }
    snapshot->kernel = kernel_.Save();
    snapshot->arena = arena_->Save();
    const Functions functions = GetFunctions();
    snapshot->table = functions.table;
    snapshot->names = functions.names;
    snapshot->next_id = next_id_.load();
    snapshot->random = random_;
    const std::lock_guard lock(mutex_);
    snapshot->callbacks = callbacks_;
    return snapshot;
  };
  absl::StatusOr<std::shared_ptr<const InstanceSnapshot>> snapshot = take();
  ParkAll();
  // Its memory is neither what it was nor the image's.
  if (absl::IsInternal(snapshot.status())) End({.kind = Failure::Kind::kMismatch});
  return snapshot;
}

absl::Status Instance::ReturnTo(const InstanceSnapshot& snapshot,
                                memory::AddressSpace::HostMemory host_memory) {
  {
    std::unique_lock lock(mutex_);
    if (running_by_themselves_ != 0) {
      lock.unlock();
      End({.kind = Failure::Kind::kExited});
      lock.lock();
      changed_.wait(lock, [&] { return running_by_themselves_ == 0; });
    }
  }
  if (!TakeAllParked()) return absl::FailedPreconditionError("a call is under way");
  snapshot.code != nullptr ? engine_->ReturnTo(snapshot.code)
                           : engine_->KeepOnly(CommonCode(*snapshot.memory));
  absl::Status status = space_.ReturnToImage(host_memory);
  if (status.ok()) status = kernel_.Restore(snapshot.kernel, PluginKernel::OpenFiles::kSame);
  if (status.ok()) status = MatchThreads(snapshot);
  for (const LentPlace& place : lent_) {
    if (place.thread == nullptr) continue;
    PluginThread* const thread = place.thread.get();
    const auto state = std::ranges::find(snapshot.threads, thread->id, &ThreadState::id);
    if (status.ok() && state != snapshot.threads.end()) status = SetState(*thread, *state);
  }
  SetFunctions({.table = snapshot.table, .names = snapshot.names});
  next_id_.store(snapshot.next_id);
  {
    const std::lock_guard lock(mutex_);
    failure_.reset();
    has_ended_.store(false, std::memory_order_seq_cst);
  }
  ParkAll();
  if (!status.ok()) End({.kind = Failure::Kind::kMismatch});
  return status;
}

// Not as a virtual machine, of which there are few.
bool Instance::BeginAgain(const InstanceSnapshot& snapshot) {
  const bool is_alone = policy_.engine != Engine::kKvm && arena_.use_count() == 1;  // else somebody holds memory of it
  if (!is_alone || !IsOriginalProcess() || snapshot.code == nullptr ||
      space_.image() != snapshot.memory || CountLent() != snapshot.threads.size() ||
      !ReturnTo(snapshot, memory::AddressSpace::HostMemory::kGoes).ok()) {
    return false;
  }
  arena_->Restore(snapshot.arena);
  SetCallbacks(snapshot.callbacks);
  SetWarden(nullptr);
  return true;
}

void Instance::SetCallbacks(const std::vector<std::shared_ptr<const Callback>>& callbacks) {
  const std::lock_guard lock(mutex_);
  const std::size_t most = std::max(callbacks.size(), callbacks_.size());
  for (std::size_t number = 0; number < most; ++number) {
    callback_of_[number].store(number < callbacks.size() ? callbacks[number].get() : nullptr,
                               std::memory_order_release);
  }
  callbacks_ = callbacks;
}

// A program that was loaded since, or ended in loading, has others than the snapshot.
absl::Status Instance::MatchThreads(const InstanceSnapshot& snapshot) {
  for (LentPlace& place : lent_) {
    if (place.thread == nullptr) continue;
    const auto state = std::ranges::find(snapshot.threads, place.thread->id, &ThreadState::id);
    if (state != snapshot.threads.end()) continue;
    Dismiss(*place.thread);
    place.thread = nullptr;
  }
  for (const ThreadState& state : snapshot.threads) {
    const auto has_id = [&](const LentPlace& place) { return place.thread != nullptr && place.thread->id == state.id; };
    if (std::ranges::any_of(lent_, has_id)) continue;
    absl::StatusOr<std::unique_ptr<GuestCpu>> cpu = engine_->CreateCpu();
    if (!cpu.ok()) return cpu.status();
    const auto place = std::ranges::find_if(lent_, [](const LentPlace& other) { return other.thread == nullptr; });
    if (place == lent_.end()) return absl::InternalError("more threads than places for them");
    place->thread = std::make_unique<PluginThread>(state.id, *std::move(cpu));
    Enlist(*place->thread);
  }
  return absl::OkStatus();
}

absl::StatusOr<internal::Block> Instance::Claim(std::uint64_t address, std::size_t size) {
  if (arena_->Claim(address, size)) return internal::Block(arena_, address, size);
  return absl::NotFoundError("no such memory, or it was claimed");
}

absl::StatusOr<std::unique_ptr<Instance>> Instance::Create(const Policy& policy,
                                                           const InstanceSnapshot& snapshot,
                                                           std::unique_ptr<Files> files) {
  absl::StatusOr<std::unique_ptr<Instance>> instance = Reserve(policy, snapshot.random, std::move(files));
  if (!instance.ok()) return instance.status();
  if (absl::Status status = (*instance)->SetUpEngine(snapshot.code); !status.ok()) return status;
  if (absl::Status status = (*instance)->StartFrom(snapshot, PluginKernel::OpenFiles::kReopened);
      !status.ok()) {
    return status;
  }
  return instance;
}

absl::StatusOr<std::unique_ptr<Instance>> Instance::CreateFirst(const Policy& policy,
                                                                InstanceSnapshot& snapshot,
                                                                std::unique_ptr<Files> files) {
  absl::StatusOr<std::unique_ptr<Instance>> instance = Reserve(policy, snapshot.random, std::move(files));
  if (!instance.ok()) return instance.status();
  if (absl::Status status = (*instance)->SetUpEngine(snapshot.code); !status.ok()) return status;
  if (absl::Status status = (*instance)->StartFrom(snapshot, PluginKernel::OpenFiles::kReopened);
      !status.ok()) {
    return status;
  }
  if (absl::Status status = (*instance)->ShareCode(snapshot); !status.ok()) return status;
  return instance;
}

absl::StatusOr<std::unique_ptr<Instance>> Instance::CreateFrom(const Policy& policy,
                                                               std::uint64_t random,
                                                               std::unique_ptr<Files> files,
                                                               SnapshotOpener open) {
  absl::StatusOr<std::unique_ptr<Instance>> instance = Reserve(policy, random, std::move(files));
  if (!instance.ok()) return instance.status();
  if (absl::Status status = (*instance)->SetUpEngine(nullptr); !status.ok()) return status;
  const absl::StatusOr<std::shared_ptr<const InstanceSnapshot>> snapshot =
      open((*instance)->kernel_.files());
  if (!snapshot.ok()) return snapshot.status();
  if (absl::Status status = (*instance)->StartFrom(**snapshot, PluginKernel::OpenFiles::kSame);
      !status.ok()) {
    return status;
  }
  return instance;
}

// All that have the snapshot execute the same translations.
absl::Status Instance::ShareCode(InstanceSnapshot& snapshot) {
  absl::StatusOr<std::shared_ptr<const runtime::SharedCode>> code =
      engine_->Share(CommonCode(*snapshot.memory));
  if (!code.ok()) return code.status();
  snapshot.code = *std::move(code);
  return absl::OkStatus();
}

absl::Status Instance::StartFrom(const InstanceSnapshot& snapshot, PluginKernel::OpenFiles files) {
  if (absl::Status status = TakeOverSignals(); !status.ok()) return status;
  PrepareThread();
  space_.LimitData(policy_.memory_limit);
  if (absl::Status status = space_.AdoptImage(snapshot.memory); !status.ok()) return status;
  if (absl::Status status = MatchThreads(snapshot); !status.ok()) return status;
  for (const LentPlace& place : lent_) {
    if (place.thread == nullptr) continue;
    const auto state = std::ranges::find(snapshot.threads, place.thread->id, &ThreadState::id);
    if (absl::Status status = SetState(*place.thread, *state); !status.ok()) return status;
  }
  arena_->Restore(snapshot.arena);
  gates_ = snapshot.table;
  SetFunctions({.table = snapshot.table, .names = snapshot.names});
  next_id_.store(snapshot.next_id);
  SetCallbacks(snapshot.callbacks);
  is_started_.store(true, std::memory_order_release);
  return kernel_.Restore(snapshot.kernel, files);
}

}  // namespace dunebox::plugin
