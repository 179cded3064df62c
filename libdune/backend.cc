#include "libdune/backend.h"

#include "absl/strings/str_cat.h"

namespace dune {
namespace {

absl::Status Missing(const char* what) {
  return absl::UnimplementedError(absl::StrCat(what, " is not among this backend's capabilities"));
}

}  // namespace

using Implementation = PageTable::Implementation;

absl::StatusOr<std::unique_ptr<Implementation>> Implementation::Clone(Sharing /*sharing*/) const {
  return Missing("PageTable::Clone");
}

absl::Status Implementation::Map(Range /*where*/, std::uintptr_t /*memory*/,
                                 const MapOptions& /*options*/) {
  return Missing("PageTable::Map");
}

absl::Status Implementation::MapFresh(Range /*where*/, Rights /*rights*/) {
  return Missing("memory of a table's own");
}

absl::StatusOr<std::byte*> Implementation::FindUserByte(std::uintptr_t /*address*/, Access /*access*/) {
  return Missing("a table's memory by address");
}

absl::Status Implementation::Unmap(Range /*range*/) { return Missing("PageTable::Unmap"); }

absl::Status Implementation::Protect(Range /*range*/, Rights /*rights*/) {
  return Missing("PageTable::Protect");
}

absl::Status Implementation::Share(Range /*range*/, Implementation& /*other*/) {
  return Missing("PageTable::Share");
}

absl::StatusOr<Mapping> Implementation::Walk(std::uintptr_t /*address*/) const {
  return Missing("PageTable::Walk");
}

absl::Status Implementation::Visit(Range /*range*/,
                                   absl::FunctionRef<void(const Mapping&)> /*visitor*/) const {
  return Missing("PageTable::Visit");
}

absl::Status Implementation::Track(Range /*range*/, Tracking /*tracking*/) {
  return Missing("PageTable::Track");
}

absl::Status Implementation::Untrack(Range /*range*/, Tracking /*tracking*/) {
  return Missing("PageTable::Untrack");
}

absl::Status Implementation::TestAndClear(Range /*range*/, Tracking /*tracking*/,
                                          absl::FunctionRef<void(Range)> /*visitor*/) {
  return Missing("PageTable::TestAndClear");
}

absl::Status Implementation::Read(void* /*to*/, std::uintptr_t /*from*/, std::size_t /*size*/) const {
  return Missing("PageTable::Read");
}

absl::Status Implementation::Activate() { return Missing("PageTable::Activate"); }

absl::StatusOr<std::unique_ptr<Implementation>> Machine::CreateTable(
    PageTable::Contents /*contents*/) {
  return Missing("PageTable::Create");
}

absl::Status Machine::SetTrapHandler(unsigned vector, TrapHandler /*handler*/,
                                     HandlerKind /*kind*/) {
  return Missing(absl::StrCat("a handler for vector ", vector).c_str());
}

absl::Status Machine::SetPageFaultHandler(PageFaultHandler /*handler*/, HandlerKind /*kind*/) {
  return Missing("SetPageFaultHandler");
}

absl::StatusOr<Stop> Machine::RunUser(UserContext& /*context*/, Implementation& /*table*/,
                                      const RunOptions& /*options*/) {
  return Missing("RunUser");
}

absl::Status Machine::LoadProgram(const std::string& /*path*/,
                                  std::span<const std::string> /*arguments*/,
                                  std::span<const std::string> /*environment*/,
                                  Implementation& /*table*/, UserContext& /*context*/,
                                  std::uintptr_t& /*heap*/) {
  return Missing("LoadProgram");
}

absl::Status Machine::CopyFromUser(Implementation& /*table*/, void* /*to*/, std::uintptr_t /*from*/,
                                   std::size_t /*size*/) {
  return Missing("CopyFromUser");
}

absl::Status Machine::CopyToUser(Implementation& /*table*/, std::uintptr_t /*to*/,
                                 const void* /*from*/, std::size_t /*size*/) {
  return Missing("CopyToUser");
}

}  // namespace dune
