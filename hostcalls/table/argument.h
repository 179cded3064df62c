// One argument of a system call, as data: what kind of value it is, and where
// the length of what it points to is found. Validation, tracing, the generated
// documentation and (later) the seccomp filter all read the same value.
//
// Owns nothing; refuses nothing. `hostcalls/dispatch` acts on it.
//
//   SYSCALL(0, read, kForwarded, kFiles, "",
//           Fd("fd"), BufferOut("buf", LengthIn{2}), Size("count"))
#ifndef DUNEBOX_HOSTCALLS_TABLE_ARGUMENT_H_
#define DUNEBOX_HOSTCALLS_TABLE_ARGUMENT_H_

#include <cstddef>
#include <cstdint>

namespace dunebox::hostcalls {

enum class ArgumentKind : std::uint8_t {
#define ARGUMENT_KIND(name, memory, access) k##name,
#include "hostcalls/table/argument_kinds.inc"
#undef ARGUMENT_KIND
};

// How much memory a pointer argument stands for.
enum class PointedMemory : std::uint8_t {
  kValue,            // none: it is no pointer
  kElsewhere,        // what only a handler, or the copy that is made of it, can tell
  kOneByte,          // a byte at least: strings are checked when they are copied
  kStruct,           // `size` bytes
  kArray,            // `size` bytes times argument `length`
  kLength,           // `length` bytes
  kHeaderAndLength,  // `size` bytes of header and `length` bytes
  kFdSet,            // `length` bits, in whole 64-bit words
  kSocketAddress,    // at most a sockaddr_storage
  kMessage,          // a struct msghdr, and what it points to
};

// What the kernel does with that memory.
enum class KernelAccess : std::uint8_t { kNone, kUnknown, kIn, kOut, kInOut };

struct KindFacts {
  PointedMemory memory;
  KernelAccess access;
};

inline constexpr KindFacts kKindFacts[] = {
#define ARGUMENT_KIND(name, memory, access) {PointedMemory::memory, KernelAccess::access},
#include "hostcalls/table/argument_kinds.inc"
#undef ARGUMENT_KIND
};

constexpr const KindFacts& FactsOf(ArgumentKind kind) {
  return kKindFacts[static_cast<std::size_t>(kind)];
}

// What is known about the insides of a struct, for the trace. Validation needs only the size.
enum class Shape : std::uint8_t {
  kOpaque,     // shown as an address
  kInt,        // one int
  kLong,       // one 64-bit number
  kIntPair,    // two ints: the descriptors of a pipe or a socket pair
  kTimespec,   // seconds and nanoseconds
  kTimeval,    // seconds and microseconds
  kSignalSet,  // 64 bits, one a signal
  kCounted,    // a string array of which only the number of entries is shown (envp)
};
constexpr std::uint32_t SizeOf(Shape shape) {
  switch (shape) {
    case Shape::kInt:
      return 4;
    case Shape::kLong:
    case Shape::kIntPair:
    case Shape::kSignalSet:
      return 8;
    case Shape::kTimespec:
    case Shape::kTimeval:
      return 16;
    case Shape::kOpaque:
    case Shape::kCounted:
      return 0;
  }
  return 0;
}

// Names for bits and values; the tables are in flag_names.inc.
enum class FlagSet : std::uint8_t {
  kNone,
#define FLAG_SET(name, ...) k##name,
#include "hostcalls/table/flag_names.inc"
#undef FLAG_SET
};

struct Argument {
  ArgumentKind kind = ArgumentKind::kNone;
  const char* name = "";
  std::int8_t length_argument = -1;  // index of the argument with the length or count
  bool nullable = false;             // a null pointer is a legal value
  // Bytes of a struct, of one array element, or of the header in front of a buffer's `length`.
  std::uint32_t size = 0;
  FlagSet flag_set = FlagSet::kNone;
  Shape shape = Shape::kOpaque;
};

// Index of the argument that holds a length or a count.
struct LengthIn {
  std::int8_t index;
};

// Bytes in front of a buffer that its length does not count (msgsnd's message type).
struct HeaderBytes {
  std::uint32_t count;
};

constexpr Argument Int(const char* name) { return {.kind = ArgumentKind::kInt, .name = name}; }
constexpr Argument Unsigned(const char* name) {
  return {.kind = ArgumentKind::kUnsigned, .name = name};
}
constexpr Argument Hex(const char* name) { return {.kind = ArgumentKind::kHex, .name = name}; }
constexpr Argument Flags(const char* name, FlagSet set) {
  return {.kind = ArgumentKind::kFlags, .name = name, .flag_set = set};
}
constexpr Argument Fd(const char* name) { return {.kind = ArgumentKind::kFd, .name = name}; }
constexpr Argument DirFd(const char* name) { return {.kind = ArgumentKind::kDirFd, .name = name}; }
constexpr Argument Pid(const char* name) { return {.kind = ArgumentKind::kPid, .name = name}; }
constexpr Argument Size(const char* name) { return {.kind = ArgumentKind::kSize, .name = name}; }
constexpr Argument Offset(const char* name) {
  return {.kind = ArgumentKind::kOffset, .name = name};
}
constexpr Argument Mode(const char* name) { return {.kind = ArgumentKind::kMode, .name = name}; }
constexpr Argument Signal(const char* name) {
  return {.kind = ArgumentKind::kSignal, .name = name};
}
constexpr Argument Address(const char* name) {
  return {.kind = ArgumentKind::kAddress, .name = name};
}
constexpr Argument Path(const char* name) { return {.kind = ArgumentKind::kPath, .name = name}; }
constexpr Argument String(const char* name) {
  return {.kind = ArgumentKind::kString, .name = name};
}
constexpr Argument StringArray(const char* name, Shape shape = Shape::kOpaque) {
  return {.kind = ArgumentKind::kStringArray, .name = name, .shape = shape};
}
constexpr Argument BufferIn(const char* name, LengthIn length, HeaderBytes header = {0}) {
  return {.kind = ArgumentKind::kBufferIn,
          .name = name,
          .length_argument = length.index,
          .size = header.count};
}
constexpr Argument BufferOut(const char* name, LengthIn length, HeaderBytes header = {0}) {
  return {.kind = ArgumentKind::kBufferOut,
          .name = name,
          .length_argument = length.index,
          .size = header.count};
}
constexpr Argument StructIn(const char* name, std::uint32_t size) {
  return {.kind = ArgumentKind::kStructIn, .name = name, .size = size};
}
constexpr Argument StructOut(const char* name, std::uint32_t size) {
  return {.kind = ArgumentKind::kStructOut, .name = name, .size = size};
}
constexpr Argument StructInOut(const char* name, std::uint32_t size) {
  return {.kind = ArgumentKind::kStructInOut, .name = name, .size = size};
}
constexpr Argument StructIn(const char* name, Shape shape) {
  return {.kind = ArgumentKind::kStructIn, .name = name, .size = SizeOf(shape), .shape = shape};
}
constexpr Argument StructOut(const char* name, Shape shape) {
  return {.kind = ArgumentKind::kStructOut, .name = name, .size = SizeOf(shape), .shape = shape};
}
constexpr Argument StructInOut(const char* name, Shape shape) {
  return {.kind = ArgumentKind::kStructInOut, .name = name, .size = SizeOf(shape), .shape = shape};
}
constexpr Argument ArrayIn(const char* name, std::uint32_t element_size, LengthIn count) {
  return {.kind = ArgumentKind::kArrayIn,
          .name = name,
          .length_argument = count.index,
          .size = element_size};
}
constexpr Argument ArrayOut(const char* name, std::uint32_t element_size, LengthIn count) {
  return {.kind = ArgumentKind::kArrayOut,
          .name = name,
          .length_argument = count.index,
          .size = element_size};
}
constexpr Argument ArrayInOut(const char* name, std::uint32_t element_size, LengthIn count) {
  return {.kind = ArgumentKind::kArrayInOut,
          .name = name,
          .length_argument = count.index,
          .size = element_size};
}
constexpr Argument IovecIn(const char* name, LengthIn count) {
  return {.kind = ArgumentKind::kIovecIn, .name = name, .length_argument = count.index};
}
constexpr Argument IovecOut(const char* name, LengthIn count) {
  return {.kind = ArgumentKind::kIovecOut, .name = name, .length_argument = count.index};
}
constexpr Argument SockaddrIn(const char* name, LengthIn length) {
  return {.kind = ArgumentKind::kSockaddrIn, .name = name, .length_argument = length.index};
}
constexpr Argument SockaddrOut(const char* name, LengthIn length) {
  return {.kind = ArgumentKind::kSockaddrOut,
          .name = name,
          .length_argument = length.index,
          .nullable = true};
}
constexpr Argument MessageIn(const char* name) {
  return {.kind = ArgumentKind::kMessageIn, .name = name};
}
constexpr Argument MessageOut(const char* name) {
  return {.kind = ArgumentKind::kMessageOut, .name = name};
}
constexpr Argument FdSet(const char* name, LengthIn bits) {
  return {
      .kind = ArgumentKind::kFdSet, .name = name, .length_argument = bits.index, .nullable = true};
}
// The same argument, where a null pointer is legal.
constexpr Argument Nullable(Argument argument) {
  argument.nullable = true;
  return argument;
}

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_HOSTCALLS_TABLE_ARGUMENT_H_
