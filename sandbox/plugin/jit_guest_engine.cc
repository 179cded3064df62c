#include "sandbox/plugin/jit_guest_engine.h"

#include <cstddef>
#include <cstring>
#include <map>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "hostcalls/errors/message.h"
#include "jit-fallback/dispatch/thread_context.h"
#include "runtime/jit/jit_engine.h"
#include "runtime/jit/jit_thread.h"
#include "runtime/jit/prepared_file.h"
#include "sandbox/plugin/guest/gates.h"

namespace dunebox::plugin {
namespace {

// The legacy region and the header behind it. [intel/vol1 §13.4]
constexpr std::size_t kVectorsOffset = 160, kVectorSize = 16, kVectorsSize = 256;
constexpr std::size_t kPresentOffset = 512;
constexpr std::uint64_t kVectorsPresent = 2;

static_assert(runtime::kNoInstructionLimit == jit::kNoInstructionLimit);

constexpr std::size_t kRax = 0, kRdx = 2, kRsp = 4, kRdi = 7;  // as instructions number them

class JitCpu final : public GuestCpu {
 public:
  explicit JitCpu(std::unique_ptr<runtime::EngineThread> thread)
      : thread_(static_cast<runtime::JitThread*>(thread.release())) {
    context().SetGate(DUNEBOX_GATE_READY);
  }

  runtime::EngineThread& thread() override { return *thread_; }
  Left RunFunction(const Entry& entry, Returned& returned) override;
  void TakeRegisters(runtime::Registers& registers) override { thread_->ReadRegisters(registers); }
  Left Continue(const runtime::Registers& registers, std::uint64_t stack_after, Returned& returned) override;
  runtime::Exit TakeExit() override { return std::exchange(exit_, runtime::SystemCall{}); }
  void Enter() override { context().Borrow(); }
  void Leave() override { context().GiveBack(); }
  std::int64_t instructions_left() const override {
    return thread_->context().context().instructions_left;
  }
  void set_instructions_left(std::int64_t number) override {
    context().context().instructions_left = number;
  }
  absl::StatusOr<Control> control() const override {
    const jit::ThreadContext& context = thread_->context();
    return Control{.mxcsr = context.mxcsr(), .x87_control = context.x87_control()};
  }
  absl::Status Restart(const Control& control) override {
    thread_->Restart(control.mxcsr, control.x87_control);
    return absl::OkStatus();
  }
  absl::StatusOr<Vectors> ReadVectors() override;
  absl::Status WriteVectors(const Vectors& values) override;

 private:
  jit::ThreadContext& context() { return thread_->context(); }
  Left HowLeft(bool is_at_call, std::uint64_t stack_after, Returned& returned);

  const std::unique_ptr<runtime::JitThread> thread_;
  runtime::Exit exit_;  // of what was left otherwise
};

GuestCpu::Left JitCpu::RunFunction(const Entry& entry, Returned& returned) {
  context().Borrow();
  const bool is_at_call = thread_->RunFunction({.address = entry.function,
                                                .stack_pointer = entry.stack_pointer,
                                                .integers = entry.frame.integers,
                                                .vector_count = entry.frame.vector_count,
                                                .fs_base = entry.fs_base,
                                                .gs_base = entry.gs_base},
                                               exit_);
  context().GiveBack();
  return HowLeft(is_at_call, entry.stack_pointer + sizeof(std::uint64_t), returned);
}

GuestCpu::Left JitCpu::Continue(const runtime::Registers& registers, std::uint64_t stack_after,
                                Returned& returned) {
  context().Borrow();
  const bool is_at_call = thread_->RunToSystemCall(registers, exit_);
  context().GiveBack();
  return HowLeft(is_at_call, stack_after, returned);
}

[[gnu::always_inline]] inline GuestCpu::Left JitCpu::HowLeft(bool is_at_call, std::uint64_t stack_after,
                                                             Returned& returned) {
  if (!is_at_call) return Left::kOtherwise;
  const auto& gpr = context().context().gpr;
  if (gpr[kRax] != DUNEBOX_GATE_RETURN || gpr[kRsp] != stack_after) return Left::kByCall;
  returned = {.integer = gpr[kRdi], .second_integer = gpr[kRdx]};
  return Left::kByReturn;
}

absl::StatusOr<Vectors> JitCpu::ReadVectors() {
  Vectors values{};
  const std::byte* const area = context().context().extended_area;
  std::uint64_t present;
  std::memcpy(&present, area + kPresentOffset, sizeof(present));
  if ((present & kVectorsPresent) == 0) return values;
  for (std::size_t i = 0; i < values.size(); ++i) {
    std::memcpy(&values[i], area + kVectorsOffset + i * kVectorSize, sizeof(values[i]));
  }
  return values;
}

absl::Status JitCpu::WriteVectors(const Vectors& values) {
  const std::span<std::byte> area = context().extended_area();
  std::uint64_t present;
  std::memcpy(&present, area.data() + kPresentOffset, sizeof(present));
  // What is called initial may hold anything.
  if ((present & kVectorsPresent) == 0) std::memset(area.data() + kVectorsOffset, 0, kVectorsSize);
  present |= kVectorsPresent;
  std::memcpy(area.data() + kPresentOffset, &present, sizeof(present));
  for (std::size_t i = 0; i < values.size(); ++i) {
    std::byte* const place = area.data() + kVectorsOffset + i * kVectorSize;
    std::memset(place, 0, kVectorSize);
    std::memcpy(place, &values[i], sizeof(values[i]));
  }
  return absl::OkStatus();
}

class JitGuestEngine final : public GuestEngine {
 public:
  explicit JitGuestEngine(std::unique_ptr<runtime::JitEngine> engine)
      : engine_(std::move(engine)) {}

  absl::StatusOr<std::unique_ptr<GuestCpu>> CreateCpu() override {
    absl::StatusOr<std::unique_ptr<runtime::EngineThread>> thread = engine_->CreateThread();
    if (!thread.ok()) return thread.status();
    return std::make_unique<JitCpu>(*std::move(thread));
  }
  absl::StatusOr<std::shared_ptr<const runtime::SharedCode>> Share(memory::RangeSet ranges) override {
    return engine_->Share(std::move(ranges));
  }
  void ReturnTo(std::shared_ptr<const runtime::SharedCode> shared) override {
    engine_->ReturnTo(std::move(shared));
  }
  void KeepOnly(const memory::RangeSet& ranges) override { engine_->KeepOnly(ranges); }
  void SetKick(std::function<void()> kick) override { engine_->SetKick(std::move(kick)); }
  std::string name() const override { return "jit"; }
  std::string isolation() const override { return "seg"; }
  std::vector<runtime::Counter> Counters() override { return engine_->Counters(); }

 private:
  const std::unique_ptr<runtime::JitEngine> engine_;
};

// What sandboxes have mapped, by its directory: one mapping for all that have it at a time.
struct MappedTranslations {
  std::mutex mutex;  // guards what follows
  std::map<std::string, std::weak_ptr<const jit::PreparedBlocks>> of;
};

// The default is used if it fits, and never asked for.
absl::StatusOr<std::shared_ptr<const jit::PreparedBlocks>> PreparedFor(const Policy& policy) {
  const std::string& directory = policy.prepared_translations;
  if (policy.instruction_budget != 0 || directory == runtime::kNothingPrepared) return nullptr;
  static auto& mapped = *new MappedTranslations;  // threads may outlive main
  const std::lock_guard lock(mapped.mutex);
  std::weak_ptr<const jit::PreparedBlocks>& known = mapped.of[directory];
  if (std::shared_ptr<const jit::PreparedBlocks> blocks = known.lock()) return blocks;
  absl::StatusOr<std::shared_ptr<const jit::PreparedBlocks>> blocks =
      runtime::MapPrepared(directory, jit::Isolation::kSeg);
  if (blocks.ok()) {
    known = *blocks;
    return blocks;
  }
  if (directory == runtime::kPreparedDirectory) return nullptr;
  return absl::FailedPreconditionError(errors::Behind("prepared_translations", blocks.status()).message());
}

}  // namespace

absl::StatusOr<std::unique_ptr<GuestEngine>> CreateJitEngine(const Policy& policy,
                                                             memory::AddressSpace& space,
                                                             std::shared_ptr<const runtime::SharedCode> shared) {
  absl::StatusOr<std::shared_ptr<const jit::PreparedBlocks>> prepared = PreparedFor(policy);
  if (!prepared.ok()) return prepared.status();
  absl::StatusOr<std::unique_ptr<runtime::JitEngine>> engine = runtime::JitEngine::Create(
      {.cache_size = policy.code_cache,
       .isolation = jit::Isolation::kSeg,
       .shared = std::move(shared),
       .counts_instructions = policy.instruction_budget != 0,
       .is_called = true,
       .keeps_blocks = true,
       .prepared = *std::move(prepared)},
      space);
  if (!engine.ok()) return engine.status();
  return std::make_unique<JitGuestEngine>(*std::move(engine));
}

}  // namespace dunebox::plugin
