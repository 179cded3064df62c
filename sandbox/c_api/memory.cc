// Memory of the C API: what both sides use, and copies of what is the plugin's.
#include <algorithm>
#include <cstring>
#include <iterator>
#include <span>
#include <utility>

#include "sandbox/c_api/objects.h"
#include "sandbox/c_api/report.h"
#include "sandbox/c_api/untyped.h"

namespace dunebox::c_api {

MemoryObject::MemoryObject(std::shared_ptr<Owner> of, Memory<std::byte> bytes)
    : owner(std::move(of)), memory(std::move(bytes)) {
  const std::lock_guard lock(owner->mutex);
  owner->pieces[memory.guest().address()] = {memory.span().data(), memory.size()};
}

MemoryObject::~MemoryObject() {
  if (owner == nullptr) return;
  const std::lock_guard lock(owner->mutex);
  const auto found = owner->pieces.find(memory.guest().address());
  // A new guest may have another piece at the same address.
  if (found != owner->pieces.end() && found->second.host == memory.span().data()) {
    owner->pieces.erase(found);
  }
}

namespace {

absl::Status Allocate(dunebox_sandbox* sandbox, size_t size, const char* text,
                      dunebox_memory** memory) {
  std::shared_ptr<Owner>* const owner = ValueOf(sandbox);
  if (owner == nullptr) return NoObject("sandbox");
  if (memory == nullptr) return NoObject("place for the memory");
  absl::StatusOr<Memory<std::byte>> allocated = (*owner)->sandbox->Allocate<std::byte>(size);
  if (!allocated.ok()) return allocated.status();
  if (text != nullptr) std::memcpy(allocated->span().data(), text, size);
  *memory = Places<dunebox_memory>::Take(MemoryObject(*owner, *std::move(allocated)));
  return absl::OkStatus();
}

absl::Status Counterpart(dunebox_sandbox* clone, dunebox_memory* original, dunebox_memory** memory) {
  std::shared_ptr<Owner>* const owner = ValueOf(clone);
  if (owner == nullptr) return NoObject("clone");
  const MemoryObject* const object = ValueOf(original);
  if (object == nullptr) return NoObject("memory");
  if (memory == nullptr) return NoObject("place for the memory");
  absl::StatusOr<Memory<std::byte>> own = (*owner)->sandbox->CounterpartOf(object->memory);
  if (!own.ok()) return own.status();
  *memory = Places<dunebox_memory>::Take(MemoryObject(*owner, *std::move(own)));
  return absl::OkStatus();
}

absl::Status Span(dunebox_sandbox* sandbox, dunebox_pointer address, size_t size, void** host) {
  std::shared_ptr<Owner>* const owner = ValueOf(sandbox);
  if (owner == nullptr) return NoObject("sandbox");
  if (host == nullptr) return NoObject("place for the pointer");
  const std::lock_guard lock((*owner)->mutex);
  const auto& pieces = (*owner)->pieces;
  const auto next = pieces.upper_bound(address);
  if (next != pieces.begin()) {
    const auto& [start, piece] = *std::prev(next);
    const std::uint64_t offset = address - start;
    if (offset <= piece.size && size <= piece.size - offset) {
      *host = piece.host + offset;
      return absl::OkStatus();
    }
  }
  return absl::OutOfRangeError("the plugin points to what is not memory of the host's");
}

absl::StatusOr<Sandbox*> ForCopy(dunebox_sandbox* sandbox, const void* host, size_t size) {
  std::shared_ptr<Owner>* const owner = ValueOf(sandbox);
  if (owner == nullptr) return NoObject("sandbox");
  if (host == nullptr && size != 0) return NoObject("memory of the host's");
  return (*owner)->sandbox.get();
}

absl::Status CopyString(dunebox_sandbox* sandbox, dunebox_pointer from, char* to, size_t size,
                        size_t* length) {
  if (size == 0) return NoObject("room");
  const absl::StatusOr<Sandbox*> inner = ForCopy(sandbox, to, size);
  if (!inner.ok()) return inner.status();
  const absl::StatusOr<std::string> text =
      (*inner)->CopyString(TaintedPtr<const char>(from), size - 1);
  if (!text.ok()) return text.status();
  std::memcpy(to, text->c_str(), text->size() + 1);
  if (length != nullptr) *length = text->size();
  return absl::OkStatus();
}

}  // namespace
}  // namespace dunebox::c_api

using namespace dunebox::c_api;

extern "C" dunebox_status dunebox_allocate(dunebox_sandbox* sandbox, size_t size,
                                           dunebox_memory** memory, dunebox_error* error) {
  return Report(Allocate(sandbox, size, nullptr, memory), error);
}

extern "C" dunebox_status dunebox_allocate_string(dunebox_sandbox* sandbox, const char* text,
                                                  dunebox_memory** memory, dunebox_error* error) {
  if (text == nullptr) return Report(NoObject("text"), error);
  return Report(Allocate(sandbox, std::strlen(text) + 1, text, memory), error);
}

extern "C" dunebox_status dunebox_memory_counterpart(dunebox_sandbox* clone, dunebox_memory* original,
                                                     dunebox_memory** memory,
                                                     dunebox_error* error) {
  return Report(Counterpart(clone, original, memory), error);
}

extern "C" dunebox_status dunebox_memory_free(dunebox_memory* memory) {
  if (memory == nullptr || Places<dunebox_memory>::GiveBack(memory)) return DUNEBOX_OK;
  return DUNEBOX_INVALID_ARGUMENT;
}

extern "C" void* dunebox_memory_host(dunebox_memory* memory) {
  const MemoryObject* const object = ValueOf(memory);
  return object != nullptr ? object->memory.span().data() : nullptr;
}

extern "C" dunebox_pointer dunebox_memory_guest(dunebox_memory* memory) {
  const MemoryObject* const object = ValueOf(memory);
  return object != nullptr ? object->memory.guest().address() : 0;
}

extern "C" size_t dunebox_memory_size(dunebox_memory* memory) {
  const MemoryObject* const object = ValueOf(memory);
  return object != nullptr ? object->memory.size() : 0;
}

extern "C" dunebox_status dunebox_span(dunebox_sandbox* sandbox, dunebox_pointer address,
                                       size_t size, void** host, dunebox_error* error) {
  return Report(Span(sandbox, address, size, host), error);
}

extern "C" dunebox_status dunebox_read(dunebox_sandbox* sandbox, dunebox_pointer from, void* to,
                                          size_t size, dunebox_error* error) {
  const absl::StatusOr<dunebox::Sandbox*> inner = ForCopy(sandbox, to, size);
  if (!inner.ok()) return Report(inner.status(), error);
  const std::span bytes(static_cast<std::byte*>(to), size);
  return Report(dunebox::internal::Untyped::CopyIn(**inner, from, bytes), error);
}

extern "C" dunebox_status dunebox_write(dunebox_sandbox* sandbox, dunebox_pointer to,
                                           const void* from, size_t size, dunebox_error* error) {
  const absl::StatusOr<dunebox::Sandbox*> inner = ForCopy(sandbox, from, size);
  if (!inner.ok()) return Report(inner.status(), error);
  const std::span bytes(static_cast<const std::byte*>(from), size);
  return Report(dunebox::internal::Untyped::CopyOut(**inner, to, bytes), error);
}

extern "C" dunebox_status dunebox_read_string(dunebox_sandbox* sandbox, dunebox_pointer from,
                                              char* to, size_t size, size_t* length,
                                              dunebox_error* error) {
  return Report(CopyString(sandbox, from, to, size, length), error);
}
