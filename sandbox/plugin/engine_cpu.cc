#include "sandbox/plugin/engine_cpu.h"

#include <cstring>
#include <variant>

#include "hostcalls/abi/signal_frame.h"
#include "hostcalls/asymmetric_fence.h"
#include "sandbox/plugin/guest/gates.h"

namespace dunebox::plugin {
namespace {

constexpr std::size_t kVectorsOffset = 160, kVectorSize = 16;  // [intel/vol1 §13.4.1]
constexpr std::size_t kX87ControlOffset = 0, kMxcsrOffset = 24;
constexpr std::uint64_t kX87Present = 1, kVectorsPresent = 2;

std::uint64_t Present(const std::vector<std::byte>& area) {
  std::uint64_t present;
  std::memcpy(&present, area.data() + abi::kHeaderOffset, sizeof(present));
  return present;
}

constexpr std::size_t PlaceOf(std::size_t number) { return kVectorsOffset + number * kVectorSize; }

}  // namespace

GuestCpu::Left EngineCpu::RunFunction(const Entry& entry, Returned& returned) {
  const auto& integers = entry.frame.integers;
  left_ = {.rax = entry.frame.vector_count,
           .rcx = integers[3],
           .rdx = integers[2],
           .rsi = integers[1],
           .rdi = integers[0],
           .rsp = entry.stack_pointer,
           .r8 = integers[4],
           .r9 = integers[5],
           .rip = entry.function,
           .fs_base = entry.fs_base,
           .gs_base = entry.gs_base};
  const Left left = Continue(left_);
  if (left != Left::kByCall || left_.rax != DUNEBOX_GATE_RETURN) return left;
  returned = {.stack_pointer = left_.rsp, .integer = left_.rdi, .second_integer = left_.rdx};
  return Left::kByReturn;
}

GuestCpu::Left EngineCpu::Continue(runtime::Registers& registers) {
  Enter();
  exit_ = thread_->Run(registers);
  return std::holds_alternative<runtime::SystemCall>(exit_) ? Left::kByCall : Left::kOtherwise;
}

void EngineCpu::Enter() { LightFence(); }

absl::StatusOr<EngineCpu::Control> EngineCpu::control() const {
  absl::StatusOr<std::vector<std::byte>> area = State();
  if (!area.ok()) return area.status();
  Control control;
  std::memcpy(&control.mxcsr, area->data() + kMxcsrOffset, sizeof(control.mxcsr));
  std::memcpy(&control.x87_control, area->data() + kX87ControlOffset, sizeof(control.x87_control));
  return control;
}

absl::Status EngineCpu::Restart(const Control& control) {
  std::vector<std::byte> area(thread_->extended_state_size());
  const std::uint64_t present = kX87Present | kVectorsPresent;
  std::memcpy(area.data() + abi::kHeaderOffset, &present, sizeof(present));
  std::memcpy(area.data() + kMxcsrOffset, &control.mxcsr, sizeof(control.mxcsr));
  std::memcpy(area.data() + kX87ControlOffset, &control.x87_control, sizeof(control.x87_control));
  return thread_->LoadExtendedState(area);
}

absl::StatusOr<Vectors> EngineCpu::ReadVectors() {
  const absl::StatusOr<std::vector<std::byte>> area = State();
  if (!area.ok()) return area.status();
  Vectors values{};
  if ((Present(*area) & kVectorsPresent) == 0) return values;
  for (std::size_t i = 0; i < values.size(); ++i) {
    std::memcpy(&values[i], area->data() + PlaceOf(i), sizeof(values[i]));
  }
  return values;
}

absl::Status EngineCpu::WriteVectors(const Vectors& values) {
  absl::StatusOr<std::vector<std::byte>> area = State();
  if (!area.ok()) return area.status();
  const std::uint64_t present = Present(*area) | kVectorsPresent;
  std::memcpy(area->data() + abi::kHeaderOffset, &present, sizeof(present));
  for (std::size_t i = 0; i < values.size(); ++i) {
    std::memset(area->data() + PlaceOf(i), 0, kVectorSize);
    std::memcpy(area->data() + PlaceOf(i), &values[i], sizeof(values[i]));
  }
  return thread_->LoadExtendedState(*area);
}

absl::StatusOr<std::vector<std::byte>> EngineCpu::State() const {
  std::vector<std::byte> area(thread_->extended_state_size());
  if (absl::Status status = thread_->SaveExtendedState(area); !status.ok()) return status;
  return area;
}

}  // namespace dunebox::plugin
