#include "runtime/jit/jit_engine.h"

#include <sys/auxv.h>

#include <algorithm>
#include <array>
#include <utility>

#include "hostcalls/table/table.h"
#include "libdune/x86/guest_cpuid.h"
#include "runtime/jit/jit_thread.h"

namespace dunebox::runtime {
namespace {

constexpr std::uint64_t kHwcap2Fsgsbase = 1 << 1;  // [linux] HWCAP2_FSGSBASE
constexpr std::size_t kMostCodeBytes = 4096;

// Calls without arguments that go to the kernel as they are: nothing to check, nothing to copy.
bool RunsInPlace(std::int64_t number) {
  const hostcalls::Row* row = hostcalls::FindRow(static_cast<std::uint64_t>(number));
  return row != nullptr && row->route == hostcalls::Route::kForwarded && row->argument_count() == 0;
}

// Where executable memory that begins at `pc` ends, at most `most` bytes on.
std::uint64_t ExecutableEnd(const memory::VmaMap& map, std::uint64_t pc, std::uint64_t most) {
  std::uint64_t end = pc;
  while (end < pc + most) {
    const memory::Vma* vma = map.Find(GuestVirt{end});
    if (vma == nullptr || !vma->protection.execute) break;
    end = vma->range.end.value;
  }
  return std::min(end, pc + most);
}

}  // namespace

absl::Status JitEngine::CheckHost() {
  if ((getauxval(AT_HWCAP2) & kHwcap2Fsgsbase) == 0) {
    return absl::UnavailableError(
        "--engine=jit needs a processor and kernel with FSGSBASE (Linux 5.9)");
  }
  return absl::OkStatus();
}

JitEngine::JitEngine(memory::AddressSpace& space)
    : space_(space),
      extended_layout_(jit::ExtendedLayout::OfHost(dune::x86::kExtendedFeatureMask)),
      code_pages_(space.memory()) {}

absl::StatusOr<std::unique_ptr<JitEngine>> JitEngine::Create(const JitOptions& options,
                                                             memory::AddressSpace& space) {
  if (absl::Status status = CheckHost(); !status.ok()) return status;
  std::unique_ptr<JitEngine> engine(new JitEngine(space));
  jit::Translator::Options translation;
  translation.emitter.map_target = [raw = engine.get()](std::uint64_t target) {
    const bool aliased = target >= raw->alias_.start.value && target < raw->alias_.end.value;
    return aliased ? raw->alias_host_ + (target - raw->alias_.start.value) : target;
  };
  if (options.allow_in_place_calls) translation.emitter.runs_in_place = RunsInPlace;
  absl::StatusOr<std::unique_ptr<jit::Translator>> translator =
      jit::Translator::Create(std::move(translation), *engine);
  if (!translator.ok()) return translator.status();
  engine->translator_ = *std::move(translator);
  space.SetObserver(engine.get());
  return engine;
}

JitEngine::~JitEngine() { space_.SetObserver(nullptr); }

absl::StatusOr<std::unique_ptr<EngineThread>> JitEngine::CreateThread() {
  absl::StatusOr<std::unique_ptr<jit::ThreadContext>> context =
      jit::ThreadContext::Create(extended_layout_);
  if (!context.ok()) return context.status();
  return std::make_unique<JitThread>(*this, translator_, *std::move(context));
}

absl::Status JitEngine::AliasHostPages(const GuestRange& at, const void* host) {
  alias_ = at;
  alias_host_ = reinterpret_cast<std::uint64_t>(host);
  return absl::OkStatus();
}

void JitEngine::LockForFork() {
  translator_->LockForFork();
  code_pages_.LockForFork();
}

void JitEngine::UnlockAfterFork() {
  code_pages_.UnlockAfterFork();
  translator_->UnlockAfterFork();
}

void JitEngine::Forget(const GuestRange& range) {
  translator_->Invalidate(range.start.value, range.end.value);
  code_pages_.Unprotect(range);
}

void JitEngine::WithCode(std::uint64_t pc, std::size_t most, bool watch, Use use) {
  std::array<std::uint8_t, kMostCodeBytes> bytes;
  space_.WithMap([&](const memory::VmaMap& map) {
    const std::uint64_t end = ExecutableEnd(map, pc, std::min(most, bytes.size()));
    std::size_t have = 0;
    // Page by page: what is past the end of a file is not there.
    for (std::uint64_t at = pc; at < end;) {
      const std::uint64_t part = std::min(end, PageDown(at) + kPageSize) - at;
      const memory::Vma* vma = map.Find(GuestVirt{at});
      if (watch && vma != nullptr && vma->protection.write) code_pages_.Protect(GuestVirt{at});
      if (!space_.memory().Read(at, std::as_writable_bytes(std::span(bytes).subspan(have, part)))) {
        break;
      }
      have += part;
      at += part;
    }
    use(std::span(bytes).first(have));
  });
}

JitEngine::WriteFault JitEngine::OnWriteFault(GuestVirt address) {
  const GuestVirt page{PageDown(address.value)};
  return space_.WithMap([&](const memory::VmaMap& map) {
    const memory::Vma* vma = map.Find(address);
    if (vma == nullptr || !vma->protection.write) return WriteFault::kNotOurs;
    translator_->Invalidate(page.value, page.value + kPageSize);
    return code_pages_.Unprotect({page, page + kPageSize}) ? WriteFault::kCodePage
                                                           : WriteFault::kAllowed;
  });
}

}  // namespace dunebox::runtime
