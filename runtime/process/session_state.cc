#include "runtime/process/session_state.h"

#include <string_view>
#include <utility>

#include "hostcalls/fields.h"

namespace dunebox::process {
namespace {

constexpr std::uint64_t kMagic = 0x4243'4558'4244;  // "DBXECB"

// One list of fields for both directions.
template <typename Visitor, typename State>
void VisitFields(Visitor&& visit, State& state) {
  visit(state.session.reserved.first);
  visit(state.session.reserved.count);
  visit(state.session.trace_fd);
  visit(state.session.report_fd);
  visit(state.session.statistics_fd);
  visit(state.session.record_fd);
  visit(state.session.prepared_fd);
  visit(state.session.code_fd);
  visit(state.session.perf_dump_fd);
  visit(state.session.perf_dump_since);
  visit(state.session.denials_fd);
  visit(state.session.tasks_fd);
  visit(state.session.output_fd);
  visit(state.session.notes_fd);
  visit(state.session.core_fd);
  visit(state.session.gdb.fd);
  visit(state.session.gdb.without_acks);
  visit(state.session.gdb.multiprocess);
  visit(state.session.memory_limit);
  visit(state.session.trace);
  visit(state.session.diagnostics.statistics);
  visit(state.session.diagnostics.statistics_format);
  visit(state.session.diagnostics.perf_map);
  visit(state.session.diagnostics.perf_dump);
  visit(state.session.diagnostics.backtrace);
  visit(state.session.diagnostics.dump);
  visit(state.session.diagnostics.record);
  visit(state.session.kvm_fd);
  visit(state.session.engine);
  visit(state.session.jit_cache);
  visit(state.session.isolation);
  visit(state.session.probe);
  visit(state.session.ring);
  visit(state.session.posted_writes);
  visit(state.session.root);
  visit(state.session.confinement.confined);
  visit(state.session.confinement.filtered);
  visit(state.session.confinement.landlocked);
  visit(state.session.confinement.probe.path);
  visit(state.session.confinement.probe.flags);
  visit(state.session.confinement.kept);
  visit(state.session.confinement.seals_memfds);
  visit(state.path);
  visit(state.program_fd);
  visit(state.arguments);
  visit(state.environment);
  visit(state.signal_mask);
  visit(state.personality);
  visit(state.pending);
  visit(state.descriptors);
  visit(state.stack);
  visit(state.address_space);
  visit(state.data);
  visit(state.core);
  visit(state.file_size);
}

}  // namespace

std::string Serialize(const ExecState& state) {
  hostcalls::FieldWriter writer;
  writer.Field(kMagic);
  VisitFields([&](const auto& field) { writer.Field(field); }, state);
  writer.Field(hostcalls::policy::Serialize(state.session.rules));
  return writer.Take();
}

absl::StatusOr<ExecState> ParseExecState(std::string_view bytes) {
  hostcalls::FieldReader reader(bytes);
  std::uint64_t magic = 0;
  reader.Field(magic);
  ExecState state;
  VisitFields([&](auto& field) { reader.Field(field); }, state);
  std::string rules;
  reader.Field(rules);
  if (magic != kMagic || !reader.Done()) {
    return absl::DataLossError("the state handed over by execve is damaged");
  }
  absl::StatusOr<hostcalls::policy::Rules> parsed = hostcalls::policy::ParseRules(rules);
  if (!parsed.ok()) return parsed.status();
  state.session.rules = *std::move(parsed);
  return state;
}

}  // namespace dunebox::process
