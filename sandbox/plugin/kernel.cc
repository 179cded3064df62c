#include "sandbox/plugin/kernel.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "hostcalls/check.h"
#include "hostcalls/dispatch/host_call.h"
#include "runtime/memory/refusals.h"
#include "sandbox/plugin/calls.h"
#include "sandbox/plugin/shown_text.h"

namespace dunebox::plugin {
namespace {

using hostcalls::Errno;
using hostcalls::Row;
using hostcalls::SyscallResult;

constexpr std::size_t kMostDenials = 100;

using Handler = SyscallResult (*)(const Calling&);
using Handlers = std::array<Handler, hostcalls::kSyscallTableSize>;

struct NamedHandler {
  const char* name;
  Handler handler;
};
constexpr NamedHandler kNamedHandlers[] = {
#define PLUGIN_CALL(name, handler) {#name, calls::handler},
#include "sandbox/plugin/calls.inc"
#undef PLUGIN_CALL
};

const Handlers& AllHandlers() {
  static const Handlers handlers = [] {
    Handlers result{};
    for (const NamedHandler& row : kNamedHandlers) {
      const Row* const known = hostcalls::FindRow(row.name);
      DUNEBOX_CHECK(known != nullptr, "a plugin's call that the table does not have");
      result[known->number] = row.handler;
    }
    return result;
  }();
  return handlers;
}

}  // namespace

SyscallResult Calling::Host(std::uint64_t number, const hostcalls::ArgumentValues& values) const {
  return hostcalls::InterruptibleCall(thread.kicked, number, values);
}

PluginKernel::PluginKernel(const Policy& policy, const hostcalls::GuestMemory& memory,
                           memory::MemoryCalls& space, GuestProcess& process,
                           std::unique_ptr<Files> files)
    : policy_(policy), memory_(memory), space_(space), process_(process), files_(std::move(files)),
      descriptors_(policy) {}

SyscallResult PluginKernel::Call(PluginThread& thread, const hostcalls::Request& request) {
  const Handlers& handlers = AllHandlers();
  const Handler handler =
      request.number < handlers.size() ? handlers[request.number] : nullptr;
  const Row* const row = hostcalls::FindRow(request.number);
  if (handler == nullptr) return Refuse(thread, row);
  if (Warden* const warden = process_.warden();
      warden != nullptr && !warden->Permits(*row, thread.registers.rip)) {
    return Refuse(thread, row);
  }
  const std::uint64_t refused = memory::refusals;
  const SyscallResult result = handler({*this, thread, memory(), request.arguments});
  if (memory::refusals != refused) thread.was_refused_memory = true;
  return result;
}

SyscallResult PluginKernel::Refuse(PluginThread& thread, const Row* row) {
  if (row == nullptr || row->route == hostcalls::Route::kAbsent) return Errno{ENOSYS};
  NoteDenial(absl::StrCat("call ", row->name));
  if (policy_.on_denied == OnDenied::kEndSandbox) {
    process_.End({.kind = Failure::Kind::kDenied,
                   .instruction = thread.registers.rip,
                   .symbol = process_.SymbolAt(thread.registers.rip),
                   .call = row->name});
  }
  return Errno{EPERM};
}

void PluginKernel::NoteDenial(std::string what) {
  what = ShownLine(std::move(what));
  const std::lock_guard lock(mutex_);
  if (denials_.size() >= kMostDenials || std::ranges::find(denials_, what) != denials_.end()) return;
  denials_.push_back(std::move(what));
}

void PluginKernel::KeepOutput(std::string_view text) {
  const std::lock_guard lock(mutex_);
  const std::size_t room = policy_.captured_output - std::min(output_.size(), policy_.captured_output);
  output_.append(text.substr(0, room));
}

std::string PluginKernel::TakeOutput() {
  const std::lock_guard lock(mutex_);
  return std::exchange(output_, {});
}

std::vector<std::string> PluginKernel::Denials() const {
  const std::lock_guard lock(mutex_);
  return denials_;
}

signals::KernelAction PluginKernel::ActionOf(int signal) const {
  const std::lock_guard lock(mutex_);
  return actions_[static_cast<std::size_t>(signal)];
}

signals::KernelAction PluginKernel::SetAction(int signal, const signals::KernelAction& action) {
  const std::lock_guard lock(mutex_);
  return std::exchange(actions_[static_cast<std::size_t>(signal)], action);
}

std::string PluginKernel::directory() const {
  const std::lock_guard lock(mutex_);
  return directory_;
}

void PluginKernel::SetDirectory(std::string path) {
  const std::lock_guard lock(mutex_);
  directory_ = std::move(path);
}

std::uint32_t PluginKernel::ExchangeMask(std::uint32_t mask) {
  const std::lock_guard lock(mutex_);
  return std::exchange(mask_, mask & 0777);
}

void PluginKernel::Execute() {
  for (int fd = 0; fd < Descriptors::kMost; ++fd) {
    if (descriptors_.ClosesOnExec(fd)) descriptors_.Close(fd);
  }
  const std::lock_guard lock(mutex_);
  for (signals::KernelAction& action : actions_) {
    if (!action.is_ignore()) action = {};
  }
}

KernelState PluginKernel::Save() const {
  const std::lock_guard lock(mutex_);
  return {.actions = actions_,
          .directory = directory_,
          .mask = mask_,
          .descriptors = descriptors_.Save(),
          .files = files_->rules()};
}

absl::Status PluginKernel::Restore(const KernelState& state, OpenFiles files) {
  absl::Status restored = files == OpenFiles::kSame ? descriptors_.Restore(state.descriptors)
                                                : descriptors_.Reopen(state.descriptors);
  files_->SetRules(state.files);
  const std::lock_guard lock(mutex_);
  actions_ = state.actions;
  directory_ = state.directory;
  mask_ = state.mask;
  output_.clear();
  denials_.clear();
  return restored;
}

}  // namespace dunebox::plugin
