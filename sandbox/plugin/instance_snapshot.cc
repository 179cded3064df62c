// An instance between calls: taken down as values, put back, and made anew from them.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "sandbox/plugin/host_signals.h"
#include "sandbox/plugin/instance.h"

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

std::optional<std::vector<std::unique_ptr<PluginThread>>> Instance::TakeAllParked() {
  const std::lock_guard lock(mutex_);
  if (PluginThread* const spare = spare_.exchange(nullptr)) parked_.emplace_back(spare);
  if (parked_.size() != threads_.size()) return std::nullopt;
  return std::exchange(parked_, {});
}

void Instance::ParkAll(std::vector<std::unique_ptr<PluginThread>> threads) {
  const std::lock_guard lock(mutex_);
  parked_ = std::move(threads);
  changed_.notify_all();
}

absl::StatusOr<std::shared_ptr<const InstanceSnapshot>> Instance::SnapshotInto(
    std::optional<runtime::FileDescriptor> file) {
  if (has_ended_.load()) return absl::FailedPreconditionError("the sandbox has failed: reset it");
  {
    const std::lock_guard lock(mutex_);
    if (running_by_themselves_ != 0) {
      return absl::FailedPreconditionError(
          absl::StrCat(running_by_themselves_, " threads run that the plugin has started"));
    }
  }
  std::optional<std::vector<std::unique_ptr<PluginThread>>> threads = TakeAllParked();
  if (!threads) return absl::FailedPreconditionError("a call is under way");
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
    for (const auto& thread : *threads) {
      absl::StatusOr<ThreadState> state = StateOf(*thread);
      if (!state.ok()) return state.status();
      snapshot->threads.push_back(*std::move(state));
    }
    snapshot->kernel = kernel_.Save();
    snapshot->arena = arena_->Save();
    snapshot->table = table_;
    snapshot->names = names_;
    snapshot->next_id = next_id_.load();
    snapshot->random = random_;
    const std::lock_guard lock(mutex_);
    snapshot->callbacks = callbacks_;
    return snapshot;
  };
  absl::StatusOr<std::shared_ptr<const InstanceSnapshot>> snapshot = take();
  ParkAll(*std::move(threads));
  // Its memory is neither what it was nor the image's.
  if (absl::IsInternal(snapshot.status())) End({.kind = Failure::Kind::kMismatch});
  return snapshot;
}

absl::Status Instance::ReturnTo(const InstanceSnapshot& snapshot) {
  {
    std::unique_lock lock(mutex_);
    if (running_by_themselves_ != 0) {
      lock.unlock();
      End({.kind = Failure::Kind::kExited});
      lock.lock();
      changed_.wait(lock, [&] { return running_by_themselves_ == 0; });
    }
  }
  std::optional<std::vector<std::unique_ptr<PluginThread>>> threads = TakeAllParked();
  if (!threads) return absl::FailedPreconditionError("a call is under way");
  snapshot.code != nullptr ? engine_->ReturnTo(snapshot.code)
                           : engine_->KeepOnly(CommonCode(*snapshot.memory));
  absl::Status status = space_.ReturnToImage();
  if (status.ok()) status = kernel_.Restore(snapshot.kernel, PluginKernel::OpenFiles::kSame);
  if (status.ok()) status = MatchThreads(snapshot, *threads);
  for (const auto& thread : *threads) {
    const auto state = std::ranges::find(snapshot.threads, thread->id, &ThreadState::id);
    if (status.ok() && state != snapshot.threads.end()) status = SetState(*thread, *state);
  }
  table_ = snapshot.table;
  names_ = snapshot.names;
  next_id_.store(snapshot.next_id);
  {
    const std::lock_guard lock(mutex_);
    failure_.reset();
    has_ended_.store(false, std::memory_order_seq_cst);
  }
  ParkAll(*std::move(threads));
  if (!status.ok()) End({.kind = Failure::Kind::kMismatch});
  return status;
}

// A program that was loaded since, or ended in loading, has others than the snapshot.
absl::Status Instance::MatchThreads(const InstanceSnapshot& snapshot,
                                    std::vector<std::unique_ptr<PluginThread>>& threads) {
  for (const auto& thread : threads) {
    if (std::ranges::find(snapshot.threads, thread->id, &ThreadState::id) == snapshot.threads.end()) {
      Dismiss(*thread);
    }
  }
  std::erase_if(threads, [&](const auto& thread) {
    return std::ranges::find(snapshot.threads, thread->id, &ThreadState::id) == snapshot.threads.end();
  });
  for (const ThreadState& state : snapshot.threads) {
    const auto has_id = [&](const auto& thread) { return thread->id == state.id; };
    if (std::ranges::any_of(threads, has_id)) continue;
    absl::StatusOr<std::unique_ptr<GuestCpu>> cpu = engine_->CreateCpu();
    if (!cpu.ok()) return cpu.status();
    threads.push_back(std::make_unique<PluginThread>(state.id, *std::move(cpu)));
    Enlist(*threads.back());
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
  if (code.ok()) snapshot.code = *std::move(code);
  return code.status();
}

absl::Status Instance::StartFrom(const InstanceSnapshot& snapshot, PluginKernel::OpenFiles files) {
  if (absl::Status status = TakeOverSignals(); !status.ok()) return status;
  PrepareThread();
  space_.LimitData(policy_.memory_limit);
  if (absl::Status status = space_.AdoptImage(snapshot.memory); !status.ok()) return status;
  for (const ThreadState& state : snapshot.threads) {
    absl::StatusOr<std::unique_ptr<GuestCpu>> cpu = engine_->CreateCpu();
    if (!cpu.ok()) return cpu.status();
    auto thread = std::make_unique<PluginThread>(state.id, *std::move(cpu));
    if (absl::Status status = SetState(*thread, state); !status.ok()) return status;
    threads_.push_back(thread.get());
    parked_.push_back(std::move(thread));
  }
  arena_->Restore(snapshot.arena);
  table_ = snapshot.table;
  names_ = snapshot.names;
  next_id_.store(snapshot.next_id);
  callbacks_ = snapshot.callbacks;
  for (std::size_t number = 0; number < callbacks_.size(); ++number) {
    callback_of_[number].store(callbacks_[number].get(), std::memory_order_release);
  }
  return kernel_.Restore(snapshot.kernel, files);
}

}  // namespace dunebox::plugin
