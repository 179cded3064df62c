// Messages as bytes: fixed-size values and texts, one behind the other. Whoever reads knows what
// should be there; what is not there reads as zero and leaves the reader failed, so one look at the
// end is enough.
//
//   Writer writer;
//   writer.Put(frame);  writer.PutText(path);
//   Reader reader(message.bytes);
//   const auto frame = reader.Get<CallFrame>();  const std::string path = reader.GetText();
//   if (!reader.is_complete()) ...
#ifndef DUNEBOX_SANDBOX_WORKER_WIRE_H_
#define DUNEBOX_SANDBOX_WORKER_WIRE_H_

#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "dunebox/call.h"
#include "dunebox/failure.h"
#include "dunebox/policy.h"

namespace dunebox::worker {

class Writer {
 public:
  template <typename T>
  void Put(const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof(value));
  }
  void PutText(std::string_view text) {
    Put(static_cast<std::uint32_t>(text.size()));
    PutBytes(text);
  }
  // Up to the end of the message.
  void PutBytes(std::string_view bytes) { bytes_.append(bytes); }
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

class Reader {
 public:
  explicit Reader(std::string_view bytes) : rest_(bytes) {}

  template <typename T>
  T Get() {
    static_assert(std::is_trivially_copyable_v<T> && !std::is_same_v<T, bool>);
    T value{};
    const std::string_view bytes = Take(sizeof(value));
    if (!bytes.empty()) std::memcpy(&value, bytes.data(), sizeof(value));
    return value;
  }
  std::string GetText() { return std::string(Take(Get<std::uint32_t>())); }
  std::string_view rest() const { return rest_; }
  bool is_complete() const { return !has_failed_ && rest_.empty(); }
  bool has_failed() const { return has_failed_; }

 private:
  // Empty when there is not so much.
  std::string_view Take(std::size_t size) {
    has_failed_ = has_failed_ || size > rest_.size();
    if (has_failed_) return {};
    const std::string_view taken = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return taken;
  }

  std::string_view rest_;
  bool has_failed_ = false;
};

// What a worker is started with.
struct StartOrder {
  Policy policy;
  std::uint64_t random = 0;
  std::uint64_t arena_size = 0;
  std::uint32_t relays_stdout = 0, relays_stderr = 0;  // whether kOutput is to be sent
  // Of files that have been sent, by number; 0: the guest begins anew. Else it begins as a snapshot says: its
  // memory, what EncodeGuest has made of the rest, and libraries that the host had named, by their names.
  std::uint32_t image = 0, guest = 0;
  std::vector<std::pair<std::uint32_t, std::string>> named;
};
std::string Serialize(const StartOrder& order);
std::optional<StartOrder> ParseStartOrder(std::string_view bytes);

// Calls and callbacks: of the words on the stack those that there are, since the others are whatever lay there.
void PutFrame(Writer& writer, const internal::CallFrame& frame);
internal::CallFrame GetFrame(Reader& reader);
void PutFrame(Writer& writer, const internal::CallbackFrame& frame, bool uses_vectors,
              unsigned stack_words);
internal::CallbackFrame GetCallbackFrame(Reader& reader);

void PutTexts(Writer& writer, const std::vector<std::string>& texts);
// At most some thousand.
std::vector<std::string> GetTexts(Reader& reader);

// A status with the failure in it. Read from a worker it is one that a sandbox may have: a code and
// a text that can be shown, whatever was sent. Nothing: there is none.
void PutStatus(Writer& writer, const absl::Status& status);
std::optional<absl::Status> GetStatus(Reader& reader);

}  // namespace dunebox::worker

#endif  // DUNEBOX_SANDBOX_WORKER_WIRE_H_
