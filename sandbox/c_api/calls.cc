// Functions and callbacks of the C API.
#include <array>
#include <span>
#include <utility>
#include <vector>

#include "sandbox/c_api/objects.h"
#include "sandbox/c_api/report.h"
#include "sandbox/c_api/untyped.h"

namespace dunebox::c_api {
namespace {

absl::Status Find(dunebox_sandbox* sandbox, const char* name, dunebox_pointer address,
                  const char* text, dunebox_function** function) {
  std::shared_ptr<Owner>* const owner = ValueOf(sandbox);
  if (owner == nullptr) return NoObject("sandbox");
  if (text == nullptr) return NoObject("signature");
  if (function == nullptr) return NoObject("place for the function");
  absl::StatusOr<Signature> signature = Signature::Parse(text);
  if (!signature.ok()) return signature.status();
  Sandbox& inner = *(*owner)->sandbox;
  internal::Target target = name != nullptr ? internal::Target(inner, std::string(name))
                                            : internal::Target(inner, address);
  if (absl::Status status = target.Find(); !status.ok()) return status;
  *function = Places<dunebox_function>::Take(
      FunctionObject(*owner, std::move(target), *std::move(signature)));
  return absl::OkStatus();
}

absl::Status FindCounterpart(dunebox_sandbox* sandbox, FunctionObject* original,
                             dunebox_function** function) {
  std::shared_ptr<Owner>* const owner = ValueOf(sandbox);
  if (owner == nullptr) return NoObject("sandbox");
  if (original == nullptr) return NoObject("function");
  if (function == nullptr) return NoObject("place for the function");
  const std::lock_guard lock(original->mutex);
  internal::Target target(*(*owner)->sandbox, original->target);
  if (absl::Status status = target.Find(); !status.ok()) return status;
  *function = Places<dunebox_function>::Take(
      FunctionObject(*owner, std::move(target), original->signature));
  return absl::OkStatus();
}

// What every call begins with.
absl::StatusOr<internal::CallFrame> Prepare(FunctionObject* function,
                                            const dunebox_value* arguments, size_t count) {
  if (function == nullptr) return NoObject("function");
  if (function->owner->sandbox == nullptr) {
    return absl::FailedPreconditionError("the function's sandbox was destroyed");
  }
  if (arguments == nullptr && count != 0) return NoObject("arguments");
  absl::StatusOr<internal::CallFrame> frame =
      function->signature.Frame(std::span(arguments, count));
  if (!frame.ok()) return frame.status();
  return frame;
}

// After a reset it is looked up again: for all threads that have the handle.
absl::StatusOr<internal::Target> FoundTarget(FunctionObject* function) {
  const std::lock_guard lock(function->mutex);
  if (absl::Status status = function->target.Find(); !status.ok()) return status;
  return function->target.Found();
}

absl::Status Call(FunctionObject* function, const dunebox_value* arguments, size_t count,
                  dunebox_value* result) {
  const absl::StatusOr<internal::CallFrame> frame = Prepare(function, arguments, count);
  if (!frame.ok()) return frame.status();
  if (function->signature.result().kind == Kind::kStructure) {
    return absl::InvalidArgumentError("the function's result is a structure: dunebox_call_into");
  }
  absl::StatusOr<internal::Target> target = FoundTarget(function);
  if (!target.ok()) return target.status();
  const absl::StatusOr<internal::CallResult> called = target->Call(*frame);
  if (called.ok() && result != nullptr) *result = function->signature.ResultIn(*called);
  return called.status();
}

absl::Status CallInto(FunctionObject* function, const dunebox_value* arguments, size_t count,
                      void* result, size_t size) {
  absl::StatusOr<internal::CallFrame> frame = Prepare(function, arguments, count);
  if (!frame.ok()) return frame.status();
  const Type& type = function->signature.result();
  if (result == nullptr || type.kind != Kind::kStructure || type.size != size) {
    return absl::InvalidArgumentError("the function's result is no structure of this size");
  }
  absl::StatusOr<internal::Target> target = FoundTarget(function);
  if (!target.ok()) return target.status();
  if (!type.is_small()) return target->CallInto(*frame, result, size).status();
  const absl::StatusOr<internal::CallResult> called = target->Call(*frame);
  if (called.ok()) function->signature.StructureIn(*called, result);
  return called.status();
}

absl::Status Export(dunebox_sandbox* sandbox, const char* text, dunebox_callback callback,
                    void* user, dunebox_pointer* address) {
  std::shared_ptr<Owner>* const owner = ValueOf(sandbox);
  if (owner == nullptr) return NoObject("sandbox");
  if (text == nullptr) return NoObject("signature");
  if (callback == nullptr) return NoObject("callback");
  if (address == nullptr) return NoObject("place for the address");
  absl::StatusOr<Signature> signature = Signature::Parse(text);
  if (!signature.ok()) return signature.status();
  if (absl::Status status = signature->CheckForCallback(); !status.ok()) return status;
  internal::Callback exported{.uses_vectors = signature->UsesVectors(),
                              .stack_words = signature->stack_words(),
                              .has_large_result = signature->has_large_result()};
  exported.run = [signature = *std::move(signature), callback, user](internal::CallbackFrame& frame) {
    std::array<dunebox_value, kMostParameters> arguments;
    Signature::Words room;
    signature.ArgumentsIn(frame, arguments, room);
    // As aligned as any structure is.
    std::vector<std::byte> structure(signature.result().kind == Kind::kStructure ? signature.result().size : 0);
    dunebox_value result{.u = 0};
    if (!structure.empty()) result.to = structure.data();
    callback(user, arguments.data(), &result);
    signature.PutResult(result, structure, frame);
  };
  const absl::StatusOr<std::uint64_t> added =
      internal::Untyped::Export(*(*owner)->sandbox, std::move(exported));
  if (added.ok()) *address = *added;
  return added.status();
}

}  // namespace
}  // namespace dunebox::c_api

using namespace dunebox::c_api;

extern "C" dunebox_status dunebox_find(dunebox_sandbox* sandbox, const char* name,
                                       const char* signature, dunebox_function** function,
                                       dunebox_error* error) {
  if (name == nullptr) return Report(NoObject("name"), error);
  return Report(Find(sandbox, name, 0, signature, function), error);
}

extern "C" dunebox_status dunebox_find_counterpart(dunebox_sandbox* sandbox,
                                                   dunebox_function* original,
                                                   dunebox_function** function,
                                                   dunebox_error* error) {
  return Report(FindCounterpart(sandbox, ValueOf(original), function), error);
}

extern "C" dunebox_status dunebox_find_at(dunebox_sandbox* sandbox, dunebox_pointer address,
                                          const char* signature, dunebox_function** function,
                                          dunebox_error* error) {
  return Report(Find(sandbox, nullptr, address, signature, function), error);
}

extern "C" dunebox_status dunebox_function_destroy(dunebox_function* function) {
  if (function == nullptr || Places<dunebox_function>::GiveBack(function)) return DUNEBOX_OK;
  return DUNEBOX_INVALID_ARGUMENT;
}

extern "C" dunebox_status dunebox_call(dunebox_function* function, const dunebox_value* arguments,
                                       size_t count, dunebox_value* result, dunebox_error* error) {
  return Report(Call(ValueOf(function), arguments, count, result), error);
}

extern "C" dunebox_status dunebox_call_into(dunebox_function* function,
                                            const dunebox_value* arguments, size_t count,
                                            void* result, size_t size, dunebox_error* error) {
  return Report(CallInto(ValueOf(function), arguments, count, result, size), error);
}

extern "C" dunebox_status dunebox_export(dunebox_sandbox* sandbox, const char* signature,
                                         dunebox_callback callback, void* user,
                                         dunebox_pointer* address, dunebox_error* error) {
  return Report(Export(sandbox, signature, callback, user, address), error);
}
