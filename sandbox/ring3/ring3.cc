#include "dunebox/ring3.h"

#include <tuple>

#include "libdune/backend.h"
#include "libdune/x86/guest_cpuid.h"
#include "sandbox/plugin/host_signals.h"
#include "sandbox/plugin/original_process.h"
#include "sandbox/ring3/window_table.h"

namespace dunebox {
namespace {

using dune::PageTable;

ring3::WindowTable& TableOf(PageTable::Implementation& table) {
  // Only tables from CreateTable come here.
  return static_cast<ring3::WindowTable&>(table);
}

class TranslatedUserMode final : public dune::UserMode {
 public:
  const dune::UserPlaces& places() const override {
    static constexpr dune::UserPlaces kPlaces{
        .bias = 0x1000'0000, .end = 0x8000'0000, .stack_top = 0xffe0'0000};
    return kPlaces;
  }

  absl::StatusOr<std::unique_ptr<PageTable::Implementation>> CreateTable() override {
    plugin::NoteOriginalProcess();
    if (absl::Status same = plugin::CheckOriginalProcess(); !same.ok()) return same;
    if (absl::Status taken = plugin::TakeOverSignals(); !taken.ok()) return taken;
    return ring3::WindowTable::Create();
  }

  absl::StatusOr<dune::Stop> RunUser(dune::UserContext& context, PageTable::Implementation& table,
                                     const dune::RunOptions& options) override {
    if (absl::Status same = plugin::CheckOriginalProcess(); !same.ok()) return same;
    return TableOf(table).Run(context, options);
  }
  absl::Status CopyFromUser(PageTable::Implementation& table, void* to, std::uintptr_t from,
                            std::size_t size) override {
    return TableOf(table).CopyFrom(to, from, size);
  }
  absl::Status CopyToUser(PageTable::Implementation& table, std::uintptr_t to, const void* from,
                          std::size_t size) override {
    return TableOf(table).CopyTo(to, from, size);
  }
};

}  // namespace

absl::Status ProvideRing3() {
  if (absl::Status able = runtime::JitEngine::CheckHost(); !able.ok()) return able;
  const std::size_t state = jit::ExtendedLayout::OfHost(dune::x86::kExtendedFeatureMask).size;
  if (state > std::tuple_size_v<decltype(dune::UserContext::extended)>) {
    return absl::UnavailableError("the processor's vector state is larger than a UserContext");
  }
  // Never destroyed: other threads may be in it until the process ends.
  static auto* const user_mode = new TranslatedUserMode;
  return dune::GiveUserMode(*user_mode);
}

}  // namespace dunebox
