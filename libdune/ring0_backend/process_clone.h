// A clone of Current(): the pages that ring 0 had used when it was made, as they were then (clones.h). It is there to be read,
// by Read; no thread uses it, for what it asked the host's kernel for would be of the process's pages, not of these.
//
//   absl::StatusOr<std::unique_ptr<ProcessClone>> clone = ProcessClone::Create();
//   absl::Status read = (*clone)->Read(to, address, size);
#ifndef DUNEBOX_LIBDUNE_RING0_BACKEND_PROCESS_CLONE_H_
#define DUNEBOX_LIBDUNE_RING0_BACKEND_PROCESS_CLONE_H_

#include <memory>

#include "libdune/backend.h"
#include "libdune/ring0_backend/tables.h"

namespace dune::ring0 {

class ProcessClone final : public PageTable::Implementation {
 public:
  static absl::StatusOr<std::unique_ptr<ProcessClone>> Create();
  ~ProcessClone() override;

  absl::StatusOr<Mapping> Walk(std::uintptr_t address) const override;
  absl::Status Visit(Range range, absl::FunctionRef<void(const Mapping&)> visitor) const override;
  absl::Status Read(void* to, std::uintptr_t from, std::size_t size) const override;
  absl::Status CheckRunnable() const override;
  absl::Status Activate() override { return CheckRunnable(); }
  std::uint64_t root() const override { return tables_.root; }

 private:
  explicit ProcessClone(std::uint64_t root) : tables_(root) {}
  // Within a page.
  absl::Status ReadPart(void* to, std::uintptr_t from, std::size_t size) const;

  const Tables tables_;
};

}  // namespace dune::ring0

#endif  // DUNEBOX_LIBDUNE_RING0_BACKEND_PROCESS_CLONE_H_
