// What the handles of dunebox.h stand for.
#ifndef DUNEBOX_SANDBOX_C_API_OBJECTS_H_
#define DUNEBOX_SANDBOX_C_API_OBJECTS_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "dunebox.h"
#include "dunebox/sandbox.h"
#include "sandbox/c_api/handles.h"
#include "sandbox/c_api/signature.h"

namespace dunebox::c_api {

struct PolicyObject {
  Policy policy;
};

// Shared by a sandbox's handle and those of its functions and memory, which may outlive it.
struct Owner {
  std::unique_ptr<Sandbox> sandbox;  // null: destroyed
  std::string engine, isolation;
  std::once_flag confinement_asked;
  std::string confinement;  // when it has been asked for: to know it may need the start of a broker

  std::mutex mutex;    // guards what follows
  std::string output;  // taken from the sandbox, and by nobody else yet
  struct Piece {
    std::byte* host;
    std::size_t size;
  };
  std::map<std::uint64_t, Piece> pieces;  // memory that the present guest shares, by its address
};

struct FunctionObject {
  FunctionObject(std::shared_ptr<Owner> of, internal::Target where, Signature type)
      : owner(std::move(of)), target(std::move(where)), signature(std::move(type)) {}
  FunctionObject(FunctionObject&& other) noexcept
      : owner(std::move(other.owner)),
        target(std::move(other.target)),
        signature(std::move(other.signature)) {}

  std::shared_ptr<Owner> owner;
  std::mutex mutex;  // held while the target looks its address up again
  internal::Target target;
  Signature signature;
};

struct MemoryObject {
  MemoryObject(std::shared_ptr<Owner> of, Memory<std::byte> bytes);
  MemoryObject(MemoryObject&& other) noexcept = default;
  ~MemoryObject();

  std::shared_ptr<Owner> owner;  // null: moved from
  Memory<std::byte> memory;
};

}  // namespace dunebox::c_api

struct dunebox_policy : dunebox::c_api::Place<dunebox::c_api::PolicyObject> {};
struct dunebox_sandbox : dunebox::c_api::Place<std::shared_ptr<dunebox::c_api::Owner>> {};
struct dunebox_function : dunebox::c_api::Place<dunebox::c_api::FunctionObject> {};
struct dunebox_memory : dunebox::c_api::Place<dunebox::c_api::MemoryObject> {};

#endif  // DUNEBOX_SANDBOX_C_API_OBJECTS_H_
