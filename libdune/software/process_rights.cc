#include "libdune/software/process_rights.h"

#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>

#include <array>

#include "libdune/software/thread_state.h"

namespace dune::software {
namespace {

// What is noted of a page: the program's own rights, the limit, whether writes are tracked (then it is watched, or was written to),
// whether somebody claims it, and that it is noted at all.
struct Note {
  unsigned own = 0;
  unsigned limit = PROT_READ | PROT_WRITE | PROT_EXEC;
  bool is_tracked = false;
  bool is_watched = false;
  bool is_claimed = false;

  // What the kernel is to enforce.
  constexpr int effective() const {
    return static_cast<int>(own & limit & ~(is_watched ? unsigned{PROT_WRITE} : 0u));
  }
  constexpr bool is_of_interest() const {
    return limit != (PROT_READ | PROT_WRITE | PROT_EXEC) || is_tracked || is_claimed;
  }
  constexpr bool operator==(const Note&) const = default;
};

constexpr PageMark kUnknown = 0;
constexpr unsigned kRightsBits = 7;
constexpr unsigned kLimitShift = 3;
constexpr unsigned kTrackedBit = 1 << 6;
constexpr unsigned kWatchedBit = 1 << 7;
constexpr unsigned kClaimedBit = 1 << 8;
constexpr unsigned kKnownBit = 1 << 9;

constexpr PageMark Pack(Note note) {
  return static_cast<PageMark>(note.own | note.limit << kLimitShift | (note.is_tracked ? kTrackedBit : 0u) |
                               (note.is_watched ? kWatchedBit : 0u) | (note.is_claimed ? kClaimedBit : 0u) | kKnownBit);
}

constexpr Note Unpack(PageMark mark) {
  return {mark & kRightsBits, mark >> kLimitShift & kRightsBits, (mark & kTrackedBit) != 0, (mark & kWatchedBit) != 0,
          (mark & kClaimedBit) != 0};
}
constexpr Note kOfEach[] = {{PROT_READ | PROT_WRITE, PROT_READ, true, true, false}, {PROT_READ, kRightsBits, true, false, true}};
static_assert(Unpack(Pack(kOfEach[0])) == kOfEach[0] && Unpack(Pack(kOfEach[1])) == kOfEach[1]);
static_assert(kOfEach[0].effective() == PROT_READ);

// To protect the pages between two that have to be, too, costs less than another system call (measured: 17 ns a page,
// 2.6 us a call).
constexpr std::size_t kCheaperGap = 128 * kPageSize;

// Ranges for the same rights, joined where that is cheap, given to the kernel.
class Protector {
 public:
  ~Protector() { Flush(); }

  void Add(Range range, int rights) {
    if (pending_.size != 0 && rights == rights_ && range.begin == pending_.end()) {
      pending_.size += range.size;
      return;
    }
    Flush();
    pending_ = range;
    rights_ = rights;
  }

  bool Flush() {
    if (pending_.size != 0) {
      is_ok_ &= mprotect(reinterpret_cast<void*>(pending_.begin), pending_.size, rights_) == 0;
      pending_.size = 0;
    }
    return is_ok_;
  }

 private:
  Range pending_;
  int rights_ = 0;
  bool is_ok_ = true;
};

}  // namespace

void UninterruptedLock::lock() {
  std::optional<sigset_t> before;
  if (!AreSignalsHeld()) {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before.emplace());
  }
  mutex_.lock();
  before_ = before;
}

void UninterruptedLock::unlock() {
  const std::optional<sigset_t> before = before_;
  mutex_.unlock();
  if (before) pthread_sigmask(SIG_SETMASK, &*before, nullptr);
}

template <typename Change>
void ProcessRights::ChangeNotes(Range range, Change change) {
  marks_.ForEachRun(range, [&](Range run, PageMark mark) {
    if (mark == kUnknown) return;
    Note note = Unpack(mark);
    change(note);
    marks_.Set(run, Pack(note));
  });
}

absl::Status ProcessRights::Learn(Range range) {
  if (IsClaimed(range)) return absl::OkStatus();
  if (absl::Status room = marks_.Reserve(range); !room.ok()) return room;
  const bool is_mapped = maps_.Visit(range, [&](Range area, Rights rights) {
    marks_.ForEachRun(area, [&](Range run, PageMark mark) {
      const Note note = Unpack(mark);
      if (mark != kUnknown && (note.is_claimed || note.effective() == static_cast<int>(rights))) return;
      // Pages that are new where writes are tracked count as written to.
      marks_.Set(run, Pack({.own = static_cast<unsigned>(rights), .is_tracked = note.is_tracked}));
    });
  });
  if (is_mapped) return absl::OkStatus();
  Forget(range);
  return absl::NotFoundError("the process has nothing mapped in a part of the range");
}

// What is not watched is told of anyway, and need not be asked about; of what is claimed the program has said so.
bool ProcessRights::IsUpToDate(Range range) {
  MapsCursor cursor(maps_);
  bool is_right = true;
  marks_.ForEachRun(range, [&](Range run, PageMark mark) {
    const Note note = Unpack(mark);
    const bool is_in_doubt = note.is_watched && !note.is_claimed;
    for (std::uintptr_t from = run.begin; is_in_doubt && from < run.end();) {
      const std::optional<Area> area = cursor.FindAtOrAbove(from);
      if (!area || area->range.begin >= run.end()) return;
      is_right &= note.effective() == static_cast<int>(area->rights);
      from = area->range.end();
    }
  });
  return is_right;
}

bool ProcessRights::IsClaimed(Range range) {
  bool is_claimed = true;
  marks_.ForEachRun(range, [&](Range, PageMark mark) { return is_claimed = Unpack(mark).is_claimed; });
  return is_claimed;
}

void ProcessRights::Forget(Range range) {
  marks_.ForEachRun(range, [&](Range run, PageMark mark) {
    if (mark != kUnknown && !Unpack(mark).is_of_interest()) marks_.Set(run, kUnknown);
  });
}

absl::Status ProcessRights::Apply(Range range) {
  Protector protector;
  marks_.ForEachRun(range, [&](Range run, PageMark mark) {
    if (mark != kUnknown) protector.Add(run, Unpack(mark).effective());
  });
  if (protector.Flush()) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      "the kernel refused mprotect: no room for more mappings, or one is gone");
}

absl::Status ProcessRights::Protect(Range range, Rights rights) {
  const std::lock_guard lock(lock_);
  // Of a page that nothing is known of there is no limit to give back.
  if (rights != Rights::kAll) {
    if (absl::Status learned = Learn(range); !learned.ok()) return learned;
  }
  ChangeNotes(range, [&](Note& note) { note.limit = static_cast<unsigned>(rights); });
  absl::Status applied = Apply(range);
  if (rights == Rights::kAll) Forget(range);
  return applied;
}

absl::Status ProcessRights::Claim(Range range) {
  const std::lock_guard lock(lock_);
  if (absl::Status learned = Learn(range); !learned.ok()) return learned;
  ChangeNotes(range, [](Note& note) { note.is_claimed = true; });
  return absl::OkStatus();
}

void ProcessRights::Disclaim(Range range) {
  const std::lock_guard lock(lock_);
  ChangeNotes(range, [](Note& note) { note.is_claimed = false; });
  Forget(range);
}

absl::Status ProcessRights::Watch(Range range) {
  const std::lock_guard lock(lock_);
  if (absl::Status learned = Learn(range); !learned.ok()) return learned;
  SetTracked(range, true);
  return Apply(range);
}

absl::Status ProcessRights::Unwatch(Range range) {
  const std::lock_guard lock(lock_);
  SetTracked(range, false);
  absl::Status applied = Apply(range);
  Forget(range);
  return applied;
}

void ProcessRights::SetTracked(Range range, bool is_tracked) {
  ChangeNotes(range, [&](Note& note) { note.is_tracked = note.is_watched = is_tracked; });
}

std::size_t ProcessRights::TakeWritten(Range& range, std::span<Range> written) {
  const std::lock_guard lock(lock_);
  std::size_t count = 0;
  Range watch;  // what is to be watched again by one call
  std::uintptr_t done = range.begin;
  marks_.ForEachRun(range, [&](Range run, PageMark mark) {
    if (count == written.size()) return false;
    done = run.end();
    if (const Note note = Unpack(mark); !note.is_tracked || note.is_watched) return true;
    // Neighbours can differ in what the program allows.
    if (count != 0 && written[count - 1].end() == run.begin) {
      written[count - 1].size += run.size;
    } else {
      written[count++] = run;
    }
    if (watch.size != 0 && run.begin - watch.end() > kCheaperGap) {
      WatchAgain(watch);
      watch = {};
    }
    if (watch.size == 0) watch = run;
    watch.size = run.end() - watch.begin;
    return true;
  });
  WatchAgain(watch);
  range = {done, range.end() - done};
  return count;
}

void ProcessRights::WatchAgain(Range range) {
  const auto set_watched = [&](bool is_watched) {
    ChangeNotes(range, [&](Note& note) { note.is_watched = note.is_tracked && is_watched; });
  };
  set_watched(true);
  // What cannot be watched counts as written to for ever: that is told once too often, and nothing is missed.
  if (!Apply(range).ok()) set_watched(false);
}

absl::Status ProcessRights::RewatchWritten(Range range, absl::FunctionRef<void(Range)> visitor) {
  {
    const std::lock_guard lock(lock_);
    if (!IsUpToDate(range)) {
      return absl::FailedPreconditionError("a part of the range was mapped after it was tracked");
    }
  }
  std::array<Range, 256> written;
  while (range.size != 0) {
    const std::size_t count = TakeWritten(range, written);
    for (std::size_t index = 0; index < count; ++index) visitor(written[index]);
  }
  return absl::OkStatus();
}

bool ProcessRights::IsWatched(std::uintptr_t address) {
  const std::lock_guard lock(lock_);
  return Unpack(marks_.Get(address)).is_watched;
}

bool ProcessRights::Resolve(std::uintptr_t address, Rights wanted) {
  const std::lock_guard lock(lock_);
  const PageMark mark = marks_.Get(address);
  const auto bits = static_cast<unsigned>(wanted);
  Note note = Unpack(mark);
  if (mark == kUnknown || (bits & ~(note.own & note.limit)) != 0) return false;
  // Not watched any more: another thread's fault was first, and this one only has to try again.
  if ((bits & PROT_WRITE) != 0) note.is_watched = false;
  const Range page{address / kPageSize * kPageSize, kPageSize};
  marks_.Set(page, Pack(note));
  return mprotect(reinterpret_cast<void*>(page.begin), page.size, note.effective()) == 0;
}

}  // namespace dune::software
