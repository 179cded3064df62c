#include "sandbox/worker/wire.h"

#include <algorithm>
#include <array>

#include "runtime/jit/prepared_file.h"
#include "sandbox/plugin/shown_text.h"

namespace dunebox::worker {
namespace {

constexpr std::size_t kMostMessage = 4096, kMostTexts = 4096;

using StackWords = std::array<std::uint64_t, internal::kMostStackWords>;

void PutStack(Writer& writer, const StackWords& words, unsigned count) {
  count = std::min<unsigned>(count, internal::kMostStackWords);
  writer.Put(count);
  for (unsigned i = 0; i < count; ++i) writer.Put(words[i]);
}

// How many. The others are zero.
unsigned GetStack(Reader& reader, StackWords& words) {
  words = {};
  const unsigned count = std::min<unsigned>(reader.Get<unsigned>(), internal::kMostStackWords);
  for (unsigned i = 0; i < count; ++i) words[i] = reader.Get<std::uint64_t>();
  return count;
}

}  // namespace

void PutFrame(Writer& writer, const internal::CallFrame& frame) {
  writer.Put(frame.integers);
  writer.Put(frame.vectors);
  writer.Put(frame.vector_count);
  writer.Put(static_cast<std::uint32_t>(frame.wants_vector_result));
  PutStack(writer, frame.stack, frame.stack_count);
}

internal::CallFrame GetFrame(Reader& reader) {
  internal::CallFrame frame;
  frame.integers = reader.Get<decltype(frame.integers)>();
  frame.vectors = reader.Get<decltype(frame.vectors)>();
  frame.vector_count = reader.Get<unsigned>();
  frame.wants_vector_result = reader.Get<std::uint32_t>() != 0;
  frame.stack_count = GetStack(reader, frame.stack);
  return frame;
}

void PutFrame(Writer& writer, const internal::CallbackFrame& frame, bool uses_vectors,
              unsigned stack_words) {
  writer.Put(frame.integers);
  writer.Put(uses_vectors ? frame.vectors : decltype(frame.vectors){});
  PutStack(writer, frame.stack, stack_words);
}

internal::CallbackFrame GetCallbackFrame(Reader& reader) {
  internal::CallbackFrame frame;
  frame.integers = reader.Get<decltype(frame.integers)>();
  frame.vectors = reader.Get<decltype(frame.vectors)>();
  GetStack(reader, frame.stack);
  return frame;
}

void PutTexts(Writer& writer, const std::vector<std::string>& texts) {
  writer.Put(static_cast<std::uint32_t>(texts.size()));
  for (const std::string& text : texts) writer.PutText(text);
}

std::vector<std::string> GetTexts(Reader& reader) {
  const auto count = reader.Get<std::uint32_t>();
  std::vector<std::string> texts;
  for (std::uint32_t i = 0; i < count && i < kMostTexts && !reader.has_failed(); ++i) {
    texts.push_back(reader.GetText());
  }
  return texts;
}

std::string Serialize(const StartOrder& order) {
  const Policy& policy = order.policy;
  Writer writer;
  writer.Put(order.random);
  writer.Put(order.arena_size);
  writer.Put(order.relays_stdout);
  writer.Put(order.relays_stderr);
  writer.Put(order.image);
  writer.Put(order.guest);
  writer.Put(static_cast<std::uint32_t>(order.named.size()));
  for (const auto& [number, name] : order.named) {
    writer.Put(number);
    writer.PutText(name);
  }
  writer.Put(policy.engine);
  writer.Put(policy.least_isolation);
  writer.Put(policy.deadline);
  writer.Put(policy.load_deadline);
  writer.Put(policy.cpu_budget);
  writer.Put(policy.idle_cpu_budget);
  writer.Put(policy.instruction_budget);
  writer.Put(policy.memory_limit);
  writer.Put(policy.stack);
  writer.Put(policy.host_threads);
  writer.Put(policy.plugin_threads);
  writer.Put(policy.open_files);
  writer.Put(policy.nesting);
  writer.Put(policy.on_denied);
  writer.Put(policy.captured_output);
  writer.Put(policy.code_cache);
  PutTexts(writer, policy.readable);
  PutTexts(writer, policy.libraries);
  PutTexts(writer, policy.environment);
  return writer.bytes();
}

std::optional<StartOrder> ParseStartOrder(std::string_view bytes) {
  Reader reader(bytes);
  StartOrder order;
  Policy& policy = order.policy;
  order.random = reader.Get<std::uint64_t>();
  order.arena_size = reader.Get<std::uint64_t>();
  order.relays_stdout = reader.Get<std::uint32_t>();
  order.relays_stderr = reader.Get<std::uint32_t>();
  order.image = reader.Get<std::uint32_t>();
  order.guest = reader.Get<std::uint32_t>();
  const auto named = reader.Get<std::uint32_t>();
  for (std::uint32_t i = 0; i < named && i < kMostTexts && !reader.has_failed(); ++i) {
    const auto number = reader.Get<std::uint32_t>();
    order.named.emplace_back(number, reader.GetText());
  }
  policy.engine = reader.Get<Engine>();
  policy.least_isolation = reader.Get<LeastIsolation>();
  policy.deadline = reader.Get<absl::Duration>();
  policy.load_deadline = reader.Get<absl::Duration>();
  policy.cpu_budget = reader.Get<absl::Duration>();
  policy.idle_cpu_budget = reader.Get<absl::Duration>();
  policy.instruction_budget = reader.Get<std::uint64_t>();
  policy.memory_limit = reader.Get<std::uint64_t>();
  policy.stack = reader.Get<std::uint64_t>();
  policy.host_threads = reader.Get<unsigned>();
  policy.plugin_threads = reader.Get<unsigned>();
  policy.open_files = reader.Get<unsigned>();
  policy.nesting = reader.Get<unsigned>();
  policy.on_denied = reader.Get<OnDenied>();
  policy.captured_output = reader.Get<std::uint64_t>();
  policy.code_cache = reader.Get<std::uint64_t>();
  policy.prepared_translations = runtime::kNothingPrepared;  // it could not look who may write there
  policy.readable = GetTexts(reader);
  policy.libraries = GetTexts(reader);
  policy.environment = GetTexts(reader);
  if (!reader.is_complete()) return std::nullopt;
  return order;
}

void PutStatus(Writer& writer, const absl::Status& status) {
  const std::optional<Failure> failure = FailureOf(status);
  writer.Put(static_cast<std::int32_t>(status.code()));
  writer.Put(static_cast<std::uint32_t>(failure.has_value()));
  if (failure) {
    writer.Put(failure->kind);
    writer.Put(failure->signal);
    writer.Put(failure->exit_status);
    writer.Put(failure->instruction);
    writer.Put(failure->fault_address);
    writer.Put(static_cast<std::uint32_t>(failure->reached_memory_limit));
    writer.PutText(std::string_view(failure->symbol).substr(0, kMostMessage));
    writer.PutText(failure->call);
  } else {
    writer.PutText(
        std::string_view(status.message().data(), status.message().size()).substr(0, kMostMessage));
  }
}

std::optional<absl::Status> GetStatus(Reader& reader) {
  const auto code = static_cast<absl::StatusCode>(reader.Get<std::int32_t>());
  const bool is_failure = reader.Get<std::uint32_t>() != 0;
  if (is_failure) {
    Failure failure;
    failure.kind = reader.Get<Failure::Kind>();
    failure.signal = reader.Get<int>();
    failure.exit_status = reader.Get<int>();
    failure.instruction = reader.Get<std::uint64_t>();
    failure.fault_address = reader.Get<std::uint64_t>();
    failure.reached_memory_limit = reader.Get<std::uint32_t>() != 0;
    failure.symbol = plugin::ShownLine(reader.GetText());
    failure.call = plugin::ShownLine(reader.GetText());
    if (reader.has_failed() || failure.kind > Failure::Kind::kInstructionBudget) return std::nullopt;
    return ToStatus(failure);
  }
  const std::string message = plugin::ShownText(reader.GetText());
  const bool is_code = code >= absl::StatusCode::kOk && code <= absl::StatusCode::kUnauthenticated;
  if (reader.has_failed() || !is_code) return std::nullopt;
  return absl::Status(code, message);
}

}  // namespace dunebox::worker
