#include <initializer_list>
#include <string_view>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "sandbox/c_api/objects.h"
#include "sandbox/c_api/report.h"

namespace dunebox::c_api {
namespace {

absl::string_view ForAbseil(std::string_view text) { return {text.data(), text.size()}; }

bool ReadDescriptor(std::string_view text, int& descriptor) {
  return absl::SimpleAtoi(ForAbseil(text), &descriptor) && descriptor >= -1;
}

template <typename Number>
bool ReadNumber(std::string_view text, Number& number) {
  return absl::SimpleAtoi(ForAbseil(text), &number);
}

// "4096", "64K", "512M", "2G".
bool ReadSize(std::string_view text, std::uint64_t& size) {
  struct Unit {
    char letter;
    unsigned shift;
  };
  constexpr Unit kUnits[] = {{'K', 10}, {'M', 20}, {'G', 30}};
  unsigned shift = 0;
  for (const Unit& unit : kUnits) {
    if (text.ends_with(unit.letter)) shift = unit.shift;
  }
  if (shift != 0) text.remove_suffix(1);
  std::uint64_t number = 0;
  if (text.empty() || !absl::ascii_isdigit(static_cast<unsigned char>(text.front())) ||
      !absl::SimpleAtoi(ForAbseil(text), &number) || number > UINT64_MAX >> shift) {
    return false;
  }
  size = number << shift;
  return true;
}

bool ReadDuration(std::string_view text, absl::Duration& duration) {
  return absl::ParseDuration(ForAbseil(text), &duration);
}

bool AddTo(std::string_view text, std::vector<std::string>& list) {
  if (text.empty()) {
    list.clear();
  } else {
    list.emplace_back(text);
  }
  return true;
}

template <typename T>
struct Word {
  std::string_view word;
  T value;
};
template <typename T>
bool ReadWord(std::string_view text, std::initializer_list<Word<T>> words, T& value) {
  for (const Word<T>& row : words) {
    if (row.word == text) {
      value = row.value;
      return true;
    }
  }
  return false;
}

struct SettingRow {
  std::string_view name;
  bool (*set)(PolicyObject& object, std::string_view text);  // false: means nothing
};

using Text = std::string_view;
constexpr SettingRow kSettings[] = {
    {"engine",
     [](PolicyObject& object, Text text) {
       return ReadWord<Engine>(
           text, {{"auto", Engine::kAuto}, {"jit", Engine::kJit}, {"kvm", Engine::kKvm}},
           object.policy.engine);
     }},
    {"demand",
     [](PolicyObject& object, Text text) {
       return ReadWord<Demand>(text,
                               {{"one-wall", Demand::kOneWall}, {"two-walls", Demand::kTwoWalls}},
                               object.policy.demand);
     }},
    {"least_isolation",
     [](PolicyObject& object, Text text) {
       return ReadWord<LeastIsolation>(text,
                                       {{"translation", LeastIsolation::kTranslation},
                                        {"virtual-machine", LeastIsolation::kVirtualMachine},
                                        {"hardware", LeastIsolation::kHardware}},
                                       object.policy.least_isolation);
     }},
    {"deadline",
     [](PolicyObject& object, Text text) { return ReadDuration(text, object.policy.deadline); }},
    {"load_deadline",
     [](PolicyObject& object, Text text) {
       return ReadDuration(text, object.policy.load_deadline);
     }},
    {"cpu_budget",
     [](PolicyObject& object, Text text) { return ReadDuration(text, object.policy.cpu_budget); }},
    {"idle_cpu_budget",
     [](PolicyObject& object, Text text) {
       return ReadDuration(text, object.policy.idle_cpu_budget);
     }},
    {"instruction_budget",
     [](PolicyObject& object, Text text) {
       return ReadNumber(text, object.policy.instruction_budget);
     }},
    {"stdout_to",
     [](PolicyObject& object, Text text) { return ReadDescriptor(text, object.policy.stdout_to); }},
    {"stderr_to",
     [](PolicyObject& object, Text text) { return ReadDescriptor(text, object.policy.stderr_to); }},
    {"memory_limit",
     [](PolicyObject& object, Text text) { return ReadSize(text, object.policy.memory_limit); }},
    {"stack", [](PolicyObject& object, Text text) { return ReadSize(text, object.policy.stack); }},
    {"captured_output",
     [](PolicyObject& object, Text text) { return ReadSize(text, object.policy.captured_output); }},
    {"code_cache",
     [](PolicyObject& object, Text text) { return ReadSize(text, object.policy.code_cache); }},
    {"prepared_translations",
     [](PolicyObject& object, Text text) {
       object.policy.prepared_translations = text;
       return !text.empty();
     }},
    {"host_threads",
     [](PolicyObject& object, Text text) { return ReadNumber(text, object.policy.host_threads); }},
    {"plugin_threads", [](PolicyObject& object,
                          Text text) { return ReadNumber(text, object.policy.plugin_threads); }},
    {"open_files",
     [](PolicyObject& object, Text text) { return ReadNumber(text, object.policy.open_files); }},
    {"nesting",
     [](PolicyObject& object, Text text) { return ReadNumber(text, object.policy.nesting); }},
    {"readable",
     [](PolicyObject& object, Text text) { return AddTo(text, object.policy.readable); }},
    {"libraries",
     [](PolicyObject& object, Text text) { return AddTo(text, object.policy.libraries); }},
    {"file_access",
     [](PolicyObject& object, Text text) {
       return ReadWord<FileAccess>(
           text, {{"direct", FileAccess::kDirect}, {"broker", FileAccess::kBroker}},
           object.policy.file_access);
     }},
    {"environment",
     [](PolicyObject& object, Text text) { return AddTo(text, object.policy.environment); }},
    {"on_denied",
     [](PolicyObject& object, Text text) {
       return ReadWord<OnDenied>(
           text, {{"error", OnDenied::kError}, {"end-sandbox", OnDenied::kEndSandbox}},
           object.policy.on_denied);
     }},
    {"late_handlers",
     [](PolicyObject& object, Text text) {
       return ReadWord<LateHandlers>(text, {{"guarded", LateHandlers::kGuarded}, {"none", LateHandlers::kNone}},
                                     object.policy.late_handlers);
     }},
};

absl::Status Set(PolicyObject* object, const char* name, const char* value) {
  if (object == nullptr) return NoObject("policy");
  if (name == nullptr || value == nullptr) return NoObject("text");
  for (const SettingRow& row : kSettings) {
    if (row.name != name) continue;
    if (row.set(*object, value)) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(name, ": '", value, "' means nothing"));
  }
  return absl::InvalidArgumentError(absl::StrCat("a policy has no setting '", name, "'"));
}

}  // namespace
}  // namespace dunebox::c_api

using namespace dunebox::c_api;

extern "C" dunebox_policy* dunebox_policy_create(void) { return Places<dunebox_policy>::Take({}); }

extern "C" dunebox_status dunebox_policy_destroy(dunebox_policy* policy) {
  if (policy == nullptr || Places<dunebox_policy>::GiveBack(policy)) return DUNEBOX_OK;
  return DUNEBOX_INVALID_ARGUMENT;
}

extern "C" dunebox_status dunebox_policy_set(dunebox_policy* policy, const char* name,
                                             const char* value, dunebox_error* error) {
  return Report(Set(ValueOf(policy), name, value), error);
}
