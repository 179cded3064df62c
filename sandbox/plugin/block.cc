#include <utility>

#include "dunebox/memory.h"
#include "sandbox/plugin/arena.h"

namespace dunebox::internal {

Block& Block::operator=(Block&& other) noexcept {
  std::swap(arena_, other.arena_);
  std::swap(address_, other.address_);
  std::swap(size_, other.size_);
  return *this;
}

Block::~Block() {
  if (arena_ != nullptr) arena_->Free(address_, size_);
}

std::byte* Block::host() const { return arena_->HostPointer(address_); }

}  // namespace dunebox::internal
