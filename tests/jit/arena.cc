#include "tests/jit/arena.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace dunebox::jit {
namespace {

void* PointerTo(std::uint64_t address) { return reinterpret_cast<void*>(address); }

// Guards as isolation `seg` has them, and memory behind them that nothing may reach.
constexpr std::size_t kWindowSize = std::size_t{1} << 32, kGuard = kWindowGuard,
                      kCanary = 64 * 1024;
constexpr std::byte kCanaryByte{0xa5};

int NewFile(std::size_t size) {
  const int fd = memfd_create("guest", MFD_CLOEXEC);
  if (fd < 0 || ftruncate(fd, static_cast<off_t>(size)) == 0) return fd;
  close(fd);
  return -1;
}

std::span<std::byte> MapAt(std::uint64_t address, std::size_t size, int protection, int flags,
                           int fd) {
  void* at = mmap(PointerTo(address), size, protection, flags, fd, 0);
  if (at == MAP_FAILED) return {};
  if (at == PointerTo(address)) return {static_cast<std::byte*>(at), size};
  munmap(at, size);
  return {};
}

std::span<std::byte> CanaryBelow(std::uint64_t base) {
  return {static_cast<std::byte*>(PointerTo(base - kGuard - kCanary)), kCanary};
}
std::span<std::byte> CanaryAbove(std::uint64_t base) {
  return {static_cast<std::byte*>(PointerTo(base + kWindowSize + kGuard)), kCanary};
}

}  // namespace

std::unique_ptr<Arena> Arena::Map(const Layout& layout) { return MapAtBase(layout, 0); }

std::unique_ptr<Arena> Arena::MapInWindow(const Layout& layout) {
  return MapAtBase(layout, kWindowBase);
}

std::unique_ptr<Arena> Arena::MapAtBase(const Layout& layout, std::uint64_t base) {
  std::unique_ptr<Arena> arena(new Arena(layout, base));
  if (base != 0) {
    constexpr std::size_t kAround = kGuard + kCanary;
    const auto window =
        MapAt(base - kAround, kWindowSize + 2 * kAround, PROT_NONE,
              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1);
    if (window.empty()) return nullptr;
    arena->mapped_.push_back(window);
    for (const std::span<std::byte> canary : {CanaryBelow(base), CanaryAbove(base)}) {
      mprotect(canary.data(), canary.size(), PROT_READ | PROT_WRITE);
      std::fill(canary.begin(), canary.end(), kCanaryByte);
    }
  }
  const int code = NewFile(kCodeSize), data = NewFile(arena->data_size());
  const bool is_mapped = code >= 0 && data >= 0 && arena->MapParts(0, code, data) &&
                         (base == 0 || arena->MapParts(base, code, data));
  void* writable = mmap(nullptr, kCodeSize, PROT_READ | PROT_WRITE, MAP_SHARED, code, 0);
  if (code >= 0) close(code);
  if (data >= 0) close(data);
  if (writable == MAP_FAILED) return nullptr;
  arena->code_writable_ = static_cast<std::uint8_t*>(writable);
  arena->mapped_.emplace_back(static_cast<std::byte*>(writable), kCodeSize);
  if (!is_mapped) return nullptr;
  // Constants: indices that are good as 32 and as 64 bits, then numbers.
  void* at = PointerTo(arena->HostAddress(arena->constants()));
  auto* constants = static_cast<std::uint64_t*>(at);
  mprotect(constants, kPage, PROT_READ | PROT_WRITE);
  Random random(1);
  for (std::size_t i = 0; i < kPage / 8; ++i) constants[i] = i < 8 ? 64 * i : random();
  mprotect(constants, kPage, PROT_READ);
  return arena;
}

bool Arena::MapParts(std::uint64_t base, int code, int data) {
  // The window is a reservation of ours.
  const int flags = MAP_SHARED | (base == 0 ? MAP_FIXED_NOREPLACE : MAP_FIXED);
  const auto code_part = MapAt(base + layout_.code, kCodeSize, PROT_READ | PROT_EXEC, flags, code);
  const auto data_part = MapAt(base + layout_.data, data_size(), PROT_NONE, flags, data);
  for (const std::span<std::byte> part : {code_part, data_part}) {
    if (!part.empty()) mapped_.push_back(part);
  }
  if (code_part.empty() || data_part.empty()) return false;
  ProtectData(base);
  return true;
}

void Arena::ProtectData(std::uint64_t base) const {
  for (const std::span<std::byte> part : WritableAt(base)) {
    mprotect(part.data(), part.size(), PROT_READ | PROT_WRITE);
  }
  mprotect(PointerTo(base + constants()), kPage, PROT_READ);
}

Arena::~Arena() {
  for (const std::span<std::byte> part : mapped_) munmap(part.data(), part.size());
}

void Arena::SetNativeAccess(bool accessible) const {
  if (base_ == 0) return;
  mprotect(PointerTo(code()), kCodeSize, accessible ? PROT_READ | PROT_EXEC : PROT_NONE);
  if (accessible) {
    ProtectData(0);
  } else {
    mprotect(PointerTo(layout_.data), data_size(), PROT_NONE);
  }
}

bool Arena::AreCanariesAlive() const {
  const auto is_alive = [](std::span<const std::byte> canary) {
    return std::ranges::all_of(canary, [](std::byte byte) { return byte == kCanaryByte; });
  };
  return base_ == 0 || (is_alive(CanaryBelow(base_)) && is_alive(CanaryAbove(base_)));
}

std::vector<std::span<std::byte>> Arena::WritableAt(std::uint64_t base) const {
  const auto span = [&](std::uint64_t address, std::size_t size) {
    return std::span(static_cast<std::byte*>(PointerTo(base + address)), size);
  };
  return {span(counters(), kPage), span(memory(), kMemorySize), span(stack(), kStackSize)};
}

void Arena::WriteCode(std::uint64_t address, std::span<const std::uint8_t> bytes) {
  std::copy(bytes.begin(), bytes.end(), code_writable_ + (address - code()));
}

void Arena::Fill(Random& random) {
  for (const std::span<std::byte> part : Writable()) {
    if (reinterpret_cast<std::uint64_t>(part.data()) == HostAddress(counters())) continue;
    for (std::size_t at = 0; at < part.size(); at += 8) {
      const std::uint64_t value = random();
      std::memcpy(part.data() + at, &value, 8);
    }
  }
}

std::vector<std::byte> Arena::Save() const {
  std::vector<std::byte> saved;
  saved.reserve(kPage + kMemorySize + kStackSize);
  for (const std::span<std::byte> part : Writable()) {
    saved.insert(saved.end(), part.begin(), part.end());
  }
  return saved;
}

void Arena::Restore(const std::vector<std::byte>& saved) {
  const std::byte* from = saved.data();
  for (const std::span<std::byte> part : Writable()) {
    std::memcpy(part.data(), from, part.size());
    from += part.size();
  }
}

std::uint64_t Arena::FirstDifference(const std::vector<std::byte>& saved) const {
  const std::byte* from = saved.data();
  for (const std::span<std::byte> part : Writable()) {
    if (std::memcmp(part.data(), from, part.size()) != 0) {
      const auto at = std::mismatch(part.begin(), part.end(), from).first - part.begin();
      return reinterpret_cast<std::uint64_t>(part.data()) + static_cast<std::uint64_t>(at);
    }
    from += part.size();
  }
  return 0;
}

void Arena::WithCode(std::uint64_t pc, std::size_t most, Purpose purpose, Use use) {
  const bool watch = purpose == Purpose::kBlock;
  if (!IsCode(pc))
    return use({.bytes = {}, .is_watched = watch, .is_still_watched = [] { return true; }});
  const std::size_t have = std::min<std::size_t>(most, code_end() - pc);
  // Tests say themselves what they have changed; blocks may check themselves all the same.
  use({.bytes = {code_writable_ + (pc - code()), have},
       .is_watched = watch && is_watched_,
       .is_still_watched = [] { return true; }});
}

}  // namespace dunebox::jit
