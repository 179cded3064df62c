#include "libdune/software/address_space.h"

#include <utility>

namespace dune::software {
namespace {

absl::Status NoAccessedBits() {
  return absl::UnimplementedError("the host's kernel does not say which pages were read");
}

// Joins neighbours on their way to a visitor.
class Joiner {
 public:
  explicit Joiner(absl::FunctionRef<void(Range)> visitor) : visitor_(visitor) {}

  void Add(Range range) {
    if (pending_.size != 0 && pending_.end() == range.begin) {
      pending_.size += range.size;
      return;
    }
    Flush();
    pending_ = range;
  }
  void Flush() {
    if (pending_.size != 0) visitor_(std::exchange(pending_, {}));
  }

 private:
  absl::FunctionRef<void(Range)> visitor_;
  Range pending_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<AddressSpace>> AddressSpace::Create(DirtyMethod method) {
  std::unique_ptr<AddressSpace> space(new AddressSpace);
  if (absl::Status opened = space->maps_.Reopen(); !opened.ok()) return opened;
  absl::StatusOr<std::unique_ptr<DirtyTracker>> tracker = MakeDirtyTracker(method, space->rights_);
  if (!tracker.ok()) return tracker.status();
  space->tracker_ = *std::move(tracker);
  return space;
}

absl::Status AddressSpace::Protect(Range range, Rights rights) {
  return rights_.Protect(range, rights);
}

absl::Status AddressSpace::Claim(Range range) { return rights_.Claim(range); }

void AddressSpace::Disclaim(Range range) { rights_.Disclaim(range); }

bool AddressSpace::IsTracked(Range range) const {
  const std::lock_guard lock(mutex_);
  return tracked_.Covers(range);
}

Mapping AddressSpace::Describe(std::uintptr_t page, Rights rights) const {
  const Range range{page, kPageSize};
  return {.page = range,
          .memory = page,
          .rights = rights,
          .ring = Ring::kSupervisor,
          .dirty = IsTracked(range) && tracker_->IsDirty(page)};
}

absl::StatusOr<Mapping> AddressSpace::Walk(std::uintptr_t address) const {
  const std::optional<Area> area = maps_.FindAtOrAbove(address);
  if (!area || area->range.begin > address) {
    return absl::NotFoundError("nothing is mapped at the address");
  }
  return Describe(address / kPageSize * kPageSize, area->rights);
}

absl::Status AddressSpace::Visit(Range range,
                                 absl::FunctionRef<void(const Mapping&)> visitor) const {
  maps_.Visit(range, [&](Range part, Rights rights) {
    for (std::uintptr_t page = part.begin; page < part.end(); page += kPageSize) {
      visitor(Describe(page, rights));
    }
  });
  return absl::OkStatus();
}

absl::Status AddressSpace::Track(Range range, Tracking tracking) {
  if (tracking == Tracking::kAccessed) return NoAccessedBits();
  if (!maps_.Visit(range, [](Range, Rights) {})) {
    return absl::NotFoundError("the process has nothing mapped in a part of the range");
  }
  if (range.size == 0) return absl::OkStatus();
  const std::lock_guard lock(mutex_);
  if (absl::Status tracked = tracker_->Track(range); !tracked.ok()) return tracked;
  tracked_.Add(range);
  return absl::OkStatus();
}

absl::Status AddressSpace::Untrack(Range range, Tracking tracking) {
  if (tracking == Tracking::kAccessed) return NoAccessedBits();
  if (range.size == 0) return absl::OkStatus();
  const std::lock_guard lock(mutex_);
  if (!tracked_.Covers(range)) return absl::FailedPreconditionError("the range is not tracked");
  tracked_.Remove(range);
  return tracker_->Untrack(range);
}

absl::Status AddressSpace::TestAndClear(Range range, Tracking tracking,
                                        absl::FunctionRef<void(Range)> visitor) {
  if (tracking == Tracking::kAccessed) return NoAccessedBits();
  if (!IsTracked(range)) return absl::FailedPreconditionError("the range is not tracked");
  Joiner joiner(visitor);
  absl::Status told = tracker_->TestAndClear(range, [&](Range written) { joiner.Add(written); });
  joiner.Flush();
  return told;
}

void AddressSpace::BeforeFork() {
  mutex_.lock();
  rights_.Lock();
}

void AddressSpace::AfterForkInParent() {
  rights_.Unlock();
  mutex_.unlock();
}

void AddressSpace::AfterForkInChild() {
  // Without /proc the questions are answered as if nothing were mapped.
  static_cast<void>(maps_.Reopen());
  tracker_->AfterForkInChild(tracked_.ranges());
  rights_.Unlock();
  mutex_.unlock();
}

}  // namespace dune::software
