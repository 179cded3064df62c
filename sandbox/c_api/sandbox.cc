// Sandboxes of the C API: from dunebox_create to what they have written.
#include <algorithm>
#include <cstring>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "sandbox/c_api/objects.h"
#include "sandbox/c_api/report.h"

namespace dunebox::c_api {
namespace {

absl::StatusOr<Owner*> OwnerOf(dunebox_sandbox* sandbox) {
  std::shared_ptr<Owner>* const owner = ValueOf(sandbox);
  if (owner == nullptr) return NoObject("sandbox");
  return owner->get();
}

dunebox_sandbox* Own(std::unique_ptr<Sandbox> sandbox) {
  auto owner = std::make_shared<Owner>();
  owner->sandbox = std::move(sandbox);
  owner->engine = owner->sandbox->engine();
  owner->isolation = owner->sandbox->isolation();
  return Places<dunebox_sandbox>::Take(std::move(owner));
}

// With a policy that may be left out. `path`: of a saved sandbox; null: a new one.
absl::Status CreateInto(const char* path, const dunebox_policy* policy, dunebox_sandbox** sandbox) {
  if (sandbox == nullptr) return NoObject("place for the sandbox");
  const PolicyObject defaults;
  const PolicyObject* const object = policy == nullptr ? &defaults : ValueOf(policy);
  if (object == nullptr) return NoObject("policy");
  absl::StatusOr<std::unique_ptr<Sandbox>> made =
      path == nullptr ? Sandbox::Create(object->policy) : Sandbox::Open(path, object->policy);
  if (!made.ok()) return made.status();
  *sandbox = Own(*std::move(made));
  return absl::OkStatus();
}

absl::Status Save(dunebox_sandbox* sandbox, const char* path) {
  const absl::StatusOr<Owner*> owner = OwnerOf(sandbox);
  if (!owner.ok()) return owner.status();
  if (path == nullptr) return NoObject("path");
  return (*owner)->sandbox->Save(path);
}

absl::Status Load(dunebox_sandbox* sandbox, const char* path) {
  const absl::StatusOr<Owner*> owner = OwnerOf(sandbox);
  if (!owner.ok()) return owner.status();
  if (path == nullptr) return NoObject("path");
  return (*owner)->sandbox->Load(path);
}

absl::Status Snapshot(dunebox_sandbox* sandbox) {
  const absl::StatusOr<Owner*> owner = OwnerOf(sandbox);
  return owner.ok() ? (*owner)->sandbox->Snapshot() : owner.status();
}

absl::Status Clone(dunebox_sandbox* sandbox, dunebox_sandbox** clone) {
  const absl::StatusOr<Owner*> owner = OwnerOf(sandbox);
  if (!owner.ok()) return owner.status();
  if (clone == nullptr) return NoObject("place for the clone");
  absl::StatusOr<std::unique_ptr<Sandbox>> made = (*owner)->sandbox->Clone();
  if (!made.ok()) return made.status();
  *clone = Own(*std::move(made));
  return absl::OkStatus();
}

absl::Status Reset(dunebox_sandbox* sandbox) {
  const absl::StatusOr<Owner*> owner = OwnerOf(sandbox);
  if (!owner.ok()) return owner.status();
  std::map<std::uint64_t, Owner::Piece> before;
  if (!(*owner)->sandbox->has_snapshot()) {
    // A new guest knows nothing of them; callbacks of its constructors may allocate others.
    const std::lock_guard lock((*owner)->mutex);
    before = std::exchange((*owner)->pieces, {});
  }
  absl::Status status = (*owner)->sandbox->Reset();
  if (!status.ok()) {
    const std::lock_guard lock((*owner)->mutex);
    (*owner)->pieces.merge(before);
  }
  return status;
}

absl::Status State(dunebox_sandbox* sandbox) {
  const absl::StatusOr<Owner*> owner = OwnerOf(sandbox);
  if (!owner.ok()) return owner.status();
  const std::optional<Failure> failure = (*owner)->sandbox->failure();
  return failure ? ToStatus(*failure) : absl::OkStatus();
}

absl::Status TakeOutput(dunebox_sandbox* sandbox, char* buffer, size_t size, size_t* length) {
  const absl::StatusOr<Owner*> owner = OwnerOf(sandbox);
  if (!owner.ok()) return owner.status();
  if (buffer == nullptr || length == nullptr) return NoObject("place for the output");
  const std::lock_guard lock((*owner)->mutex);
  std::string& output = (*owner)->output;
  output += (*owner)->sandbox->TakeOutput();
  *length = std::min(size, output.size());
  std::memcpy(buffer, output.data(), *length);
  output.erase(0, *length);
  return absl::OkStatus();
}

absl::Status Denials(dunebox_sandbox* sandbox, char* buffer, size_t size, size_t* length) {
  const absl::StatusOr<Owner*> owner = OwnerOf(sandbox);
  if (!owner.ok()) return owner.status();
  if (length == nullptr) return NoObject("place for the length");
  std::string text;
  for (const std::string& denial : (*owner)->sandbox->Denials())
    absl::StrAppend(&text, denial, "\n");
  *length = text.size();
  if (buffer == nullptr || text.size() >= size) {
    return absl::OutOfRangeError(absl::StrCat("the list has ", text.size(), " bytes and a NUL"));
  }
  std::memcpy(buffer, text.c_str(), text.size() + 1);
  return absl::OkStatus();
}

}  // namespace
}  // namespace dunebox::c_api

using namespace dunebox::c_api;

extern "C" dunebox_status dunebox_create(const dunebox_policy* policy, dunebox_sandbox** sandbox,
                                         dunebox_error* error) {
  return Report(CreateInto(nullptr, policy, sandbox), error);
}

extern "C" dunebox_status dunebox_open(const char* path, const dunebox_policy* policy,
                                       dunebox_sandbox** sandbox, dunebox_error* error) {
  if (path == nullptr) return Report(NoObject("path"), error);
  return Report(CreateInto(path, policy, sandbox), error);
}

extern "C" dunebox_status dunebox_save(dunebox_sandbox* sandbox, const char* path,
                                       dunebox_error* error) {
  return Report(Save(sandbox, path), error);
}

extern "C" dunebox_status dunebox_destroy(dunebox_sandbox* sandbox) {
  if (sandbox == nullptr) return DUNEBOX_OK;
  // Its functions and memory know that it is gone.
  std::shared_ptr<Owner>* const value = ValueOf(sandbox);
  const std::shared_ptr<Owner> owner = value != nullptr ? *value : nullptr;
  if (owner == nullptr || !Places<dunebox_sandbox>::GiveBack(sandbox)) {
    return DUNEBOX_INVALID_ARGUMENT;
  }
  owner->sandbox.reset();
  return DUNEBOX_OK;
}

extern "C" dunebox_status dunebox_load(dunebox_sandbox* sandbox, const char* path,
                                       dunebox_error* error) {
  return Report(Load(sandbox, path), error);
}

extern "C" dunebox_status dunebox_snapshot(dunebox_sandbox* sandbox, dunebox_error* error) {
  return Report(Snapshot(sandbox), error);
}

extern "C" dunebox_status dunebox_clone(dunebox_sandbox* sandbox, dunebox_sandbox** clone,
                                        dunebox_error* error) {
  return Report(Clone(sandbox, clone), error);
}

extern "C" dunebox_status dunebox_reset(dunebox_sandbox* sandbox, dunebox_error* error) {
  return Report(Reset(sandbox), error);
}

extern "C" dunebox_status dunebox_state(dunebox_sandbox* sandbox, dunebox_error* error) {
  return Report(State(sandbox), error);
}

extern "C" dunebox_status dunebox_take_output(dunebox_sandbox* sandbox, char* buffer, size_t size,
                                              size_t* length, dunebox_error* error) {
  return Report(TakeOutput(sandbox, buffer, size, length), error);
}

extern "C" dunebox_status dunebox_denials(dunebox_sandbox* sandbox, char* buffer, size_t size,
                                          size_t* length, dunebox_error* error) {
  return Report(Denials(sandbox, buffer, size, length), error);
}

extern "C" const char* dunebox_engine(dunebox_sandbox* sandbox) {
  const absl::StatusOr<Owner*> owner = OwnerOf(sandbox);
  return owner.ok() ? (*owner)->engine.c_str() : nullptr;
}

extern "C" const char* dunebox_isolation(dunebox_sandbox* sandbox) {
  const absl::StatusOr<Owner*> owner = OwnerOf(sandbox);
  return owner.ok() ? (*owner)->isolation.c_str() : nullptr;
}

extern "C" const char* dunebox_confinement(dunebox_sandbox* sandbox) {
  const absl::StatusOr<Owner*> owner = OwnerOf(sandbox);
  if (!owner.ok()) return nullptr;
  std::call_once((*owner)->confinement_asked, [&] {
    (*owner)->confinement = absl::StrJoin((*owner)->sandbox->confinement(), ", ");
  });
  return (*owner)->confinement.c_str();
}
