#include "runtime/process/session_state.h"

#include <cstring>
#include <string_view>
#include <type_traits>

namespace dunebox::process {
namespace {

constexpr std::uint64_t kMagic = 0x3443'4558'4244;  // "DBXEC4"
constexpr std::uint64_t kMostStrings = 1 << 22;

class Writer {
 public:
  template <typename T>
  void Put(const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof(value));
  }
  void Put(const std::string& text) {
    Put(std::uint64_t{text.size()});
    bytes_ += text;
  }
  void Put(const std::vector<std::string>& list) {
    Put(std::uint64_t{list.size()});
    for (const std::string& text : list) Put(text);
  }
  std::string Take() { return std::move(bytes_); }

 private:
  std::string bytes_;
};

class Reader {
 public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) {}
  template <typename T>
  void Get(T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    if (bytes_.size() < sizeof(value)) return Fail();
    std::memcpy(&value, bytes_.data(), sizeof(value));
    bytes_.remove_prefix(sizeof(value));
  }
  void Get(std::string& text) {
    std::uint64_t size = 0;
    Get(size);
    if (bytes_.size() < size) return Fail();
    text.assign(bytes_.substr(0, size));
    bytes_.remove_prefix(size);
  }
  void Get(std::vector<std::string>& list) {
    std::uint64_t count = 0;
    Get(count);
    if (count > kMostStrings) return Fail();
    for (std::uint64_t i = 0; i < count && ok_; ++i) Get(list.emplace_back());
  }
  bool Done() const { return ok_ && bytes_.empty(); }

 private:
  void Fail() {
    ok_ = false;
    bytes_ = {};
  }
  std::string_view bytes_;
  bool ok_ = true;
};

// One list of fields for both directions.
template <typename Visitor, typename State>
void VisitFields(Visitor&& visit, State& state) {
  visit(state.session.trace_fd);
  visit(state.session.report_fd);
  visit(state.session.statistics_fd);
  visit(state.session.record_fd);
  visit(state.session.tasks_fd);
  visit(state.session.memory_limit);
  visit(state.session.trace);
  visit(state.session.diagnostics.statistics);
  visit(state.session.diagnostics.statistics_format);
  visit(state.session.diagnostics.perf_map);
  visit(state.session.diagnostics.dump);
  visit(state.session.diagnostics.record);
  visit(state.session.kvm_fd);
  visit(state.session.engine);
  visit(state.session.jit_cache);
  visit(state.session.isolation);
  visit(state.session.probe);
  visit(state.session.ring);
  visit(state.path);
  visit(state.program_fd);
  visit(state.arguments);
  visit(state.environment);
  visit(state.signal_mask);
  visit(state.descriptors);
  visit(state.stack);
  visit(state.address_space);
  visit(state.core);
  visit(state.file_size);
}

}  // namespace

std::string Serialize(const ExecState& state) {
  Writer writer;
  writer.Put(kMagic);
  VisitFields([&](const auto& field) { writer.Put(field); }, state);
  return writer.Take();
}

absl::StatusOr<ExecState> ParseExecState(std::string_view bytes) {
  Reader reader(bytes);
  std::uint64_t magic = 0;
  reader.Get(magic);
  ExecState state;
  VisitFields([&](auto& field) { reader.Get(field); }, state);
  if (magic != kMagic || !reader.Done()) {
    return absl::DataLossError("the state handed over by execve is damaged");
  }
  return state;
}

}  // namespace dunebox::process
