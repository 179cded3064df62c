// A page table of libdune's software backend for ring 3: a window of 4 GiB in this process, whose mappings are real
// ones, and the engine that runs code in it. Addresses are offsets into the window, and memory that is mapped in is
// the same memory at another address, so the host's own limits on it hold (a file that was opened for reading stays
// read-only).
//
//   absl::StatusOr<std::unique_ptr<WindowTable>> table = WindowTable::Create();
//   absl::StatusOr<dune::Stop> stop = (*table)->Run(context, options);
#ifndef DUNEBOX_SANDBOX_RING3_WINDOW_TABLE_H_
#define DUNEBOX_SANDBOX_RING3_WINDOW_TABLE_H_

#include <memory>
#include <mutex>
#include <vector>

#include "hostcalls/memory/guest_memory.h"
#include "libdune/backend.h"
#include "runtime/jit/jit_engine.h"
#include "runtime/memory/address_space.h"
#include "sandbox/plugin/window.h"
#include "sandbox/ring3/runner.h"

namespace dunebox::ring3 {

class WindowTable final : public dune::PageTable::Implementation {
 public:
  using Range = dune::Range;
  using Rights = dune::Rights;
  using MapOptions = dune::PageTable::MapOptions;

  static absl::StatusOr<std::unique_ptr<WindowTable>> Create();
  // No thread runs in it.
  ~WindowTable() override = default;

  absl::Status Map(Range where, std::uintptr_t memory, const MapOptions& options) override;
  absl::Status MapFresh(Range where, Rights rights) override;
  absl::Status Unmap(Range range) override;
  absl::Status Protect(Range range, Rights rights) override;
  absl::StatusOr<dune::Mapping> Walk(std::uintptr_t address) const override;
  absl::Status Visit(Range range,
                     absl::FunctionRef<void(const dune::Mapping&)> visitor) const override;

  // dune::RunUser and its copies, by several threads at once.
  absl::StatusOr<dune::Stop> Run(dune::UserContext& context, const dune::RunOptions& options);
  absl::Status CopyFrom(void* to, std::uintptr_t from, std::size_t size) const;
  absl::Status CopyTo(std::uintptr_t to, const void* from, std::size_t size) const;

 private:
  explicit WindowTable(plugin::ReservedWindow window, std::uint64_t random);

  absl::Status CheckInside(Range range) const;
  dune::Mapping Describe(std::uintptr_t page, memory::Protection protection) const;
  // Whether ring 3 has `wanted` in all of it.
  bool Allows(std::uintptr_t address, std::size_t size, Rights wanted) const;
  absl::StatusOr<std::unique_ptr<Runner>> TakeRunner();

  // In this order: the engine goes first, and the addresses last.
  const plugin::ReservedWindow window_;
  const hostcalls::GuestMemory memory_;
  memory::AddressSpace space_;
  std::unique_ptr<runtime::JitEngine> engine_;

  std::mutex mutex_;  // of runners_
  std::vector<std::unique_ptr<Runner>> runners_;  // that nobody uses just now
};

}  // namespace dunebox::ring3

#endif  // DUNEBOX_SANDBOX_RING3_WINDOW_TABLE_H_
