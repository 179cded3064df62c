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
  const runtime::Registers registers = {
           .rax = entry.frame.vector_count,
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
  return Continue(registers, entry.stack_pointer + sizeof(std::uint64_t), returned);
}

GuestCpu::Left EngineCpu::Continue(const runtime::Registers& registers, std::uint64_t stack_after,
                                   Returned& returned) {
  Enter();
  left_ = registers;
  exit_ = thread_->Run(left_);
  if (!std::holds_alternative<runtime::SystemCall>(exit_)) return Left::kOtherwise;
  if (left_.rax != DUNEBOX_GATE_RETURN || left_.rsp != stack_after) return Left::kByCall;
  returned = {.integer = left_.rdi, .second_integer = left_.rdx};
  return Left::kByReturn;
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
