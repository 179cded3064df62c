#include "tests/jit/arena.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace dunebox::jit {
namespace {

void* PointerTo(std::uint64_t address) { return reinterpret_cast<void*>(address); }

bool MapAt(std::uint64_t address, std::size_t size, int protection, int flags, int fd) {
  void* at = mmap(PointerTo(address), size, protection, flags | MAP_FIXED_NOREPLACE, fd, 0);
  if (at == MAP_FAILED) return false;
  if (at == PointerTo(address)) return true;
  munmap(at, size);
  return false;
}

}  // namespace

std::unique_ptr<Arena> Arena::Map(const Layout& layout) {
  std::unique_ptr<Arena> arena(new Arena(layout));
  const int fd = memfd_create("guest-code", MFD_CLOEXEC);
  if (fd < 0 || ftruncate(fd, kCodeSize) != 0) return nullptr;
  void* writable = mmap(nullptr, kCodeSize, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  const bool have_code = MapAt(layout.code, kCodeSize, PROT_READ | PROT_EXEC, MAP_SHARED, fd);
  close(fd);
  const bool have_data = MapAt(layout.data, arena->data_size(), PROT_NONE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);
  if (writable != MAP_FAILED) arena->code_writable_ = static_cast<std::uint8_t*>(writable);
  if (!have_code || !have_data || arena->code_writable_ == nullptr) {
    if (have_code) munmap(PointerTo(layout.code), kCodeSize);
    if (have_data) munmap(PointerTo(layout.data), arena->data_size());
    if (arena->code_writable_ != nullptr) munmap(arena->code_writable_, kCodeSize);
    arena->code_writable_ = nullptr;
    return nullptr;
  }
  for (const std::span<std::byte> part : arena->Writable()) {
    mprotect(part.data(), part.size(), PROT_READ | PROT_WRITE);
  }
  // Constants: indices that are good as 32 and as 64 bits, then numbers.
  auto* constants = static_cast<std::uint64_t*>(PointerTo(arena->constants()));
  mprotect(constants, kPage, PROT_READ | PROT_WRITE);
  Random random(1);
  for (std::size_t i = 0; i < kPage / 8; ++i) constants[i] = i < 8 ? 64 * i : random();
  mprotect(constants, kPage, PROT_READ);
  return arena;
}

Arena::~Arena() {
  if (code_writable_ == nullptr) return;
  munmap(PointerTo(code()), kCodeSize);
  munmap(PointerTo(layout_.data), data_size());
  munmap(code_writable_, kCodeSize);
}

std::vector<std::span<std::byte>> Arena::Writable() const {
  const auto span = [](std::uint64_t address, std::size_t size) {
    return std::span(static_cast<std::byte*>(PointerTo(address)), size);
  };
  return {span(counters(), kPage), span(memory(), kMemorySize), span(stack(), kStackSize)};
}

void Arena::WriteCode(std::uint64_t address, std::span<const std::uint8_t> bytes) {
  std::copy(bytes.begin(), bytes.end(), code_writable_ + (address - code()));
}

void Arena::Fill(Random& random) {
  for (const std::span<std::byte> part : Writable()) {
    if (reinterpret_cast<std::uint64_t>(part.data()) == counters()) continue;
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

void Arena::WithCode(std::uint64_t pc, std::size_t most, bool watch, Use use) {
  if (!IsCode(pc))
    return use({.bytes = {}, .is_watched = watch, .is_still_watched = [] { return true; }});
  const std::size_t have = std::min<std::size_t>(most, code_end() - pc);
  // Tests say themselves what they have changed; blocks may check themselves all the same.
  use({.bytes = {code_writable_ + (pc - code()), have},
       .is_watched = watch && is_watched_,
       .is_still_watched = [] { return true; }});
}

}  // namespace dunebox::jit
