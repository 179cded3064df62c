#include "runtime/process/thread_list.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <utility>

#include "runtime/process/guest_thread.h"
#include "runtime/signals/host_signals.h"

namespace dunebox::process {
namespace {

// A thread may have been where it could not note that it was woken.
constexpr std::chrono::milliseconds kWakeAgain(50);

}  // namespace

ThreadList::Entry* ThreadList::EntryOf(const GuestThread& thread) {
  const auto found = std::ranges::find(entries_, &thread, &Entry::thread);
  return found == entries_.end() ? nullptr : &*found;
}

void ThreadList::Add(GuestThread& thread) {
  const std::lock_guard lock(mutex_);
  thread.is_held = is_holding_;
  thread.id = gettid();
  entries_.push_back({.thread = &thread});
}

void ThreadList::Rename(GuestThread& thread) {
  const std::lock_guard lock(mutex_);
  thread.id = gettid();
}

void ThreadList::Remove(GuestThread& thread) {
  const std::lock_guard lock(mutex_);
  std::erase_if(entries_, [&](const Entry& entry) { return entry.thread == &thread; });
  changed_.notify_all();
}

void ThreadList::ResetInChild(GuestThread& thread) {
  std::construct_at(&mutex_);
  std::construct_at(&changed_);
  // Somebody may have been changing it when the parent forked.
  std::construct_at(&entries_);
  thread.id = gettid();
  entries_.push_back({.thread = &thread});
  is_holding_ = false;
  ending_ = nullptr;
  thread.is_held = false;
}

void ThreadList::Hold(const GuestThread* but) {
  std::unique_lock lock(mutex_);
  is_holding_ = true;
  const auto still = [&](const Entry& entry) {
    return entry.thread == but || entry.is_parked || entry.is_away;
  };
  for (;;) {
    for (const Entry& entry : entries_) {
      if (entry.thread == but) continue;
      entry.thread->is_held = true;
      if (!still(entry)) signals::Wake(entry.thread->id);
    }
    if (changed_.wait_for(lock, kWakeAgain, [&] { return std::ranges::all_of(entries_, still); })) {
      return;
    }
  }
}

void ThreadList::HoldForEnd(GuestThread& thread) {
  bool is_other = false;
  {
    const std::lock_guard lock(mutex_);
    if (ending_ == &thread) return;
    is_other = ending_ != nullptr;
    if (is_other) {
      thread.is_held = true;
    } else {
      ending_ = &thread;
    }
  }
  is_other ? Park(thread) : Hold(&thread);
}

void ThreadList::ReleaseAfterAll(const GuestThread& thread) {
  {
    const std::lock_guard lock(mutex_);
    if (ending_ != &thread) return;
    ending_ = nullptr;
  }
  ReleaseAll();
}

void ThreadList::Release(GuestThread& thread) {
  const std::lock_guard lock(mutex_);
  is_holding_ = false;
  thread.is_held = false;
  changed_.notify_all();
}

void ThreadList::ReleaseAll() {
  const std::lock_guard lock(mutex_);
  is_holding_ = false;
  for (const Entry& entry : entries_) entry.thread->is_held = false;
  changed_.notify_all();
}

void ThreadList::Park(GuestThread& thread) {
  std::unique_lock lock(mutex_);
  if (Entry* const entry = EntryOf(thread); entry != nullptr) entry->is_parked = true;
  changed_.notify_all();
  changed_.wait(lock, [&] { return !thread.is_held.load(); });
  if (Entry* const entry = EntryOf(thread); entry != nullptr) entry->is_parked = false;
}

void ThreadList::SetAway(GuestThread& thread, bool is_away) {
  const std::lock_guard lock(mutex_);
  if (Entry* const entry = EntryOf(thread); entry != nullptr) entry->is_away = is_away;
  changed_.notify_all();
}

void ThreadList::ForEach(absl::FunctionRef<void(GuestThread&)> visit) {
  const std::lock_guard lock(mutex_);
  for (const Entry& entry : entries_) visit(*entry.thread);
}

GuestThread* ThreadList::Find(pid_t id) {
  const std::lock_guard lock(mutex_);
  const auto found = std::ranges::find_if(
      entries_, [&](const Entry& entry) { return entry.thread->id == id; });
  return found == entries_.end() ? nullptr : found->thread;
}

}  // namespace dunebox::process
