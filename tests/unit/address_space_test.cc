// The memory system calls against the kernel's own: the same operations, the same results, the same
// map. Then what is Dunebox's alone: the window, sealed ranges, the heap, System V segments.
#include "runtime/memory/address_space.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <random>
#include <sstream>
#include <algorithm>
#include <utility>
#include <string>
#include <vector>

#include "tests/fakes/guest_pages.h"

namespace dunebox::memory {
namespace {

constexpr std::uint64_t kBase = fakes::kTestWindow + (std::uint64_t{1} << 32);
constexpr std::uint64_t kPages = 48;
constexpr std::uint64_t kEnd = kBase + kPages * kPageSize;
constexpr std::uint64_t kLimit = hostcalls::Window::WholeProgram().limit;
constexpr int kAnonymous = MAP_PRIVATE | MAP_ANONYMOUS;

// One letter a page of the test area: '.' for a hole, otherwise the rights, upper case when shared.
class PageLetters {
 public:
  void Set(std::uint64_t start, std::uint64_t end, int prot, bool shared) {
    for (std::uint64_t page = std::max(start, kBase); page < std::min(end, kEnd);
         page += kPageSize) {
      letters_[(page - kBase) / kPageSize] = static_cast<char>((shared ? 'A' : 'a') + prot);
    }
  }
  const std::string& text() const { return letters_; }

 private:
  std::string letters_ = std::string(kPages, '.');
};

std::string KernelsPages(const std::string& file = "/proc/self/maps") {
  PageLetters letters;
  std::ifstream maps(file);
  for (std::string line; std::getline(maps, line);) {
    std::istringstream fields(line);
    std::string rights;
    std::uint64_t start = 0, end = 0;
    char dash = 0;
    fields >> std::hex >> start >> dash >> end >> rights;
    letters.Set(start, end,
                (rights[0] == 'r' ? PROT_READ : 0) | (rights[1] == 'w' ? PROT_WRITE : 0) |
                    (rights[2] == 'x' ? PROT_EXEC : 0),
                rights[3] == 's');
  }
  return letters.text();
}

std::string GuestsPages(const AddressSpace& space, bool as_on_host) {
  PageLetters letters;
  space.ForEachVma([&](const Vma& vma) {
    letters.Set(vma.range.start.value, vma.range.end.value,
                as_on_host ? vma.protection.ToHostProt() : vma.protection.ToProt(),
                vma.sharing == Sharing::kShared);
    return true;
  });
  return letters.text();
}

struct Guest {
  hostcalls::GuestMemory memory{hostcalls::Window::WholeProgram()};
  AddressSpace space{memory, fakes::TestLayout()};
  ~Guest() {
    std::vector<GuestRange> ranges;
    space.ForEachVma([&](const Vma& vma) {
      ranges.push_back(vma.range);
      return true;
    });
    for (const GuestRange& range : ranges) {
      munmap(reinterpret_cast<void*>(range.start.value), range.size());
    }
  }
};

// ---- random operations against the kernel -------------------------------------------------------

enum class Kind { kMap, kUnmap, kProtect, kRemap };

struct Operation {
  Kind kind;
  std::uint64_t address = 0;
  std::uint64_t length = 0;
  int prot = 0;
  int flags = 0;
  int file = -1;  // index into the test's files
  std::uint64_t offset = 0;
  std::uint64_t new_address = 0;
  std::uint64_t new_length = 0;

  std::string Describe() const {
    std::ostringstream text;
    text << "kind " << static_cast<int>(kind) << std::hex << " address " << address << " length "
         << length << " prot " << prot << " flags " << flags << " file " << file << " offset "
         << offset << " new address " << new_address << " new length " << new_length;
    return text.str();
  }
};

class Operations {
 public:
  explicit Operations(unsigned seed) : random_(seed) {}

  Operation Next() {
    Operation operation{.kind = static_cast<Kind>(Pick(4)), .address = Address()};
    operation.length = Length(operation.address);
    switch (operation.kind) {
      case Kind::kMap:
        operation.prot = static_cast<int>(Pick(8));
        operation.flags = Pick(3) == 0 ? MAP_SHARED : MAP_PRIVATE;
        operation.flags |= std::array{MAP_FIXED, MAP_FIXED, MAP_FIXED_NOREPLACE,
                                      MAP_FIXED | MAP_FIXED_NOREPLACE}[Pick(4)];
        if (Pick(2) == 0) {
          operation.flags |= MAP_ANONYMOUS;
        } else {
          operation.file = static_cast<int>(Pick(2));
          operation.offset = Pick(16) * kPageSize;
        }
        break;
      case Kind::kUnmap:
        break;
      case Kind::kProtect:
        operation.prot = static_cast<int>(Pick(8));
        break;
      case Kind::kRemap:
        operation.new_address = Address();
        operation.new_length = Length(operation.new_address);
        operation.flags = std::array{0, MREMAP_MAYMOVE, MREMAP_MAYMOVE | MREMAP_FIXED,
                                     MREMAP_MAYMOVE | MREMAP_FIXED, MREMAP_FIXED}[Pick(5)];
        // Linux 6.17 and later can move several mappings at once, when their length stays the same.
        // Dunebox does as all kernels before.
        if (PageUp(operation.length) == PageUp(operation.new_length) && operation.length != 0) {
          operation.length = operation.new_length = kPageSize;
        }
        break;
    }
    return operation;
  }

 private:
  unsigned Pick(unsigned choices) { return static_cast<unsigned>(random_() % choices); }
  std::uint64_t Address() {
    const std::uint64_t address = kBase + Pick(kPages - 1) * kPageSize;
    return Pick(40) == 0 ? address + 1 + Pick(4095) : address;
  }
  // Never beyond the test area.
  std::uint64_t Length(std::uint64_t address) {
    const std::uint64_t most = std::min<std::uint64_t>((kEnd - PageUp(address)) / kPageSize, 10);
    if (Pick(40) == 0 || most == 0) return 0;
    const std::uint64_t length = (1 + Pick(static_cast<unsigned>(most))) * kPageSize;
    return Pick(8) == 0 ? length - Pick(4095) : length;
  }

  std::mt19937 random_;
};

struct Files {
  Files() {
    writable[0] = memfd_create("first", MFD_CLOEXEC);
    EXPECT_EQ(ftruncate(writable[0], 64 * kPageSize), 0);
    // The same file again, for reading only: sharing it writable is EACCES.
    const std::string path = std::string("/proc/self/fd/").append(std::to_string(writable[0]));
    writable[1] = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    EXPECT_GE(writable[1], 0);
  }
  ~Files() { close(writable[0]), close(writable[1]); }
  int Descriptor(int index) const { return index < 0 ? -1 : writable[index]; }
  int writable[2];
};

// "address", "moved" or "-errno": where the kernel chooses, the two choose differently.
template <typename Unmap>
std::string Outcome(const Operation& operation, std::int64_t result, Unmap unmap) {
  // The kernel keeps neighbours apart that differ in nothing we know of (what was writable once
  // stays accounted for): growing over such a seam is its EFAULT and our ENOMEM.
  if (operation.kind == Kind::kRemap && operation.flags == 0 && result == -EFAULT) {
    result = -ENOMEM;
  }
  if (result < 0 && result > -4096) return std::string("-").append(std::to_string(-result));
  const auto address = static_cast<std::uint64_t>(result);
  if (operation.kind == Kind::kRemap && (operation.flags & MREMAP_FIXED) == 0 &&
      address != operation.address) {
    unmap(address, PageUp(operation.new_length));
    return "moved";
  }
  std::ostringstream text;
  text << std::hex << address;
  return text.str();
}

std::string ApplyNatively(const Operation& o, const Files& files) {
  long result = 0;
  switch (o.kind) {
    case Kind::kMap:
      result = syscall(SYS_mmap, o.address, o.length, o.prot, o.flags, files.Descriptor(o.file),
                       o.offset);
      break;
    case Kind::kUnmap:
      result = syscall(SYS_munmap, o.address, o.length);
      break;
    case Kind::kProtect:
      result = syscall(SYS_mprotect, o.address, o.length, o.prot);
      break;
    case Kind::kRemap:
      result = syscall(SYS_mremap, o.address, o.length, o.new_length, o.flags, o.new_address);
      break;
  }
  return Outcome(o, result == -1 ? -errno : result, [](std::uint64_t address, std::uint64_t size) {
    syscall(SYS_munmap, address, size);
  });
}

std::string ApplyToGuest(AddressSpace& space, const Operation& o, const Files& files) {
  hostcalls::SyscallResult result = hostcalls::kSuccess;
  switch (o.kind) {
    case Kind::kMap:
      result = space.Map({.address = o.address,
                          .length = o.length,
                          .prot = o.prot,
                          .flags = o.flags,
                          .fd = files.Descriptor(o.file),
                          .offset = o.offset});
      break;
    case Kind::kUnmap:
      result = space.Unmap(o.address, o.length);
      break;
    case Kind::kProtect:
      result = space.Protect(o.address, o.length, o.prot);
      break;
    case Kind::kRemap:
      result = space.Remap({.old_address = o.address,
                            .old_length = o.length,
                            .new_length = o.new_length,
                            .flags = o.flags,
                            .new_address = o.new_address});
      break;
  }
  return Outcome(o, result.value(), [&](std::uint64_t address, std::uint64_t size) {
    EXPECT_TRUE(space.Unmap(address, size).ok());
  });
}

// What the kernel does, in a child, as one line an operation.
std::vector<std::string> NativeLines(unsigned seed, int steps, const Files& files) {
  int ends[2];
  EXPECT_EQ(pipe(ends), 0);
  const pid_t child = fork();
  if (child == 0) {
    close(ends[0]);
    Operations operations(seed);
    std::string text;
    for (int i = 0; i < steps; ++i) {
      const std::string outcome = ApplyNatively(operations.Next(), files);
      text += outcome + " " + KernelsPages() + "\n";
    }
    for (std::size_t done = 0; done < text.size();) {
      const ssize_t written = write(ends[1], text.data() + done, text.size() - done);
      if (written <= 0) _exit(1);
      done += static_cast<std::size_t>(written);
    }
    _exit(0);
  }
  close(ends[1]);
  std::string text;
  std::array<char, 4096> buffer;
  for (ssize_t size; (size = read(ends[0], buffer.data(), buffer.size())) > 0;) {
    text.append(buffer.data(), static_cast<std::size_t>(size));
  }
  close(ends[0]);
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

TEST(AddressSpace, BehavesAsTheKernelUnderRandomOperations) {
  const Files files;
  for (unsigned seed = 1; seed <= 12; ++seed) {
    constexpr int kSteps = 400;
    const std::vector<std::string> native = NativeLines(seed, kSteps, files);
    ASSERT_EQ(native.size(), static_cast<std::size_t>(kSteps));
    Guest guest;
    Operations operations(seed);
    for (int i = 0; i < kSteps; ++i) {
      const Operation operation = operations.Next();
      const std::string before = GuestsPages(guest.space, false);
      const std::string outcome = ApplyToGuest(guest.space, operation, files);
      ASSERT_EQ(outcome + " " + GuestsPages(guest.space, false), native[i])
          << "seed " << seed << " step " << i << ": " << operation.Describe() << "\nbefore "
          << before;
      // What is behind it on the host is the same but for the right to execute.
      ASSERT_EQ(KernelsPages(), GuestsPages(guest.space, true)) << operation.Describe();
    }
  }
}

// ---- where mappings may be ----------------------------------------------------------------------

struct Refusal {
  const char* what;
  MapRequest request;
  int error;
};

TEST(AddressSpace, RefusesWhatLiesOutsideTheWindow) {
  Guest guest;
  const Refusal refusals[] = {
      {"nothing", {.length = 0, .flags = kAnonymous}, EINVAL},
      {"too much", {.length = ~std::uint64_t{0}, .flags = kAnonymous}, ENOMEM},
      {"more than there is", {.length = kLimit, .flags = kAnonymous}, ENOMEM},
      {"unaligned", {.address = kBase + 1, .length = 1, .flags = kAnonymous | MAP_FIXED}, EINVAL},
      {"null page", {.address = 0, .length = kPageSize, .flags = kAnonymous | MAP_FIXED}, EPERM},
      {"the limit", {.address = kLimit, .length = 1, .flags = kAnonymous | MAP_FIXED}, ENOMEM},
      {"over the limit",
       {.address = kLimit - kPageSize, .length = 2 * kPageSize, .flags = kAnonymous | MAP_FIXED},
       ENOMEM},
      {"the runtime",
       {.address = 0x7000'0000'0000, .length = 1, .flags = kAnonymous | MAP_FIXED_NOREPLACE},
       ENOMEM},
      {"the kernel's half",
       {.address = 0xffff'8000'0000'0000, .length = 1, .flags = kAnonymous | MAP_FIXED},
       ENOMEM},
      {"wrap around",
       {.address = kBase, .length = ~kPageSize, .flags = kAnonymous | MAP_FIXED},
       ENOMEM},
      {"bad descriptor", {.length = 1, .flags = MAP_PRIVATE, .fd = -1}, EBADF},
      {"unaligned offset", {.length = 1, .flags = kAnonymous, .offset = 1}, EINVAL},
      {"neither shared nor private", {.length = 1, .flags = MAP_ANONYMOUS}, EINVAL},
  };
  for (const Refusal& refusal : refusals) {
    EXPECT_EQ(guest.space.Map(refusal.request).error(), refusal.error) << refusal.what;
  }
  EXPECT_EQ(guest.space.FormatMaps(), "");
}

TEST(AddressSpace, UnmapAndProtectStayInsideTheWindow) {
  Guest guest;
  EXPECT_EQ(guest.space.Unmap(kLimit, kPageSize).error(), EINVAL);
  EXPECT_EQ(guest.space.Unmap(kLimit - kPageSize, 2 * kPageSize).error(), EINVAL);
  EXPECT_EQ(guest.space.Unmap(0x7000'0000'0000, kPageSize).error(), EINVAL);
  EXPECT_EQ(guest.space.Unmap(kBase, ~std::uint64_t{0}).error(), EINVAL);
  EXPECT_EQ(guest.space.Unmap(kBase + 1, kPageSize).error(), EINVAL);
  EXPECT_EQ(guest.space.Unmap(kBase, 0).error(), EINVAL);
  EXPECT_TRUE(guest.space.Unmap(0, kPageSize).ok());  // as on Linux
  EXPECT_TRUE(guest.space.Unmap(kBase, kPageSize).ok());
  EXPECT_EQ(guest.space.Protect(0x7000'0000'0000, kPageSize, PROT_READ).error(), ENOMEM);
  EXPECT_EQ(guest.space.Protect(kLimit - kPageSize, 2 * kPageSize, PROT_READ).error(), ENOMEM);
  EXPECT_EQ(guest.space.Protect(kBase, ~std::uint64_t{0}, PROT_READ).error(), ENOMEM);
  EXPECT_EQ(guest.space.Protect(kBase, kPageSize, 0x40).error(), EINVAL);
  EXPECT_EQ(guest.space.Advise(0x7000'0000'0000, kPageSize, MADV_DONTNEED).error(), ENOMEM);
  EXPECT_EQ(guest.space.Advise(kBase, kPageSize, MADV_HWPOISON).error(), EPERM);
}

TEST(AddressSpace, RemapStaysInsideTheWindow) {
  Guest guest;
  ASSERT_TRUE(guest.space
                  .Map({.address = kBase,
                        .length = 4 * kPageSize,
                        .prot = PROT_READ,
                        .flags = kAnonymous | MAP_FIXED})
                  .ok());
  const auto remap = [&](std::uint64_t from, std::uint64_t old_length, std::uint64_t new_length,
                         int flags, std::uint64_t to) {
    return guest.space
        .Remap({.old_address = from,
                .old_length = old_length,
                .new_length = new_length,
                .flags = flags,
                .new_address = to})
        .error();
  };
  constexpr int kTo = MREMAP_MAYMOVE | MREMAP_FIXED;
  EXPECT_EQ(remap(kBase, kPageSize, kPageSize, kTo, kLimit), EINVAL);
  EXPECT_EQ(remap(kBase, kPageSize, 2 * kPageSize, kTo, kLimit - kPageSize), EINVAL);
  EXPECT_EQ(remap(kBase, kPageSize, kPageSize, kTo, 0x7000'0000'0000), EINVAL);
  EXPECT_EQ(remap(kBase, kPageSize, kPageSize, kTo, kBase), EINVAL);  // onto itself
  EXPECT_EQ(remap(kLimit, kPageSize, kPageSize, MREMAP_MAYMOVE, 0), EFAULT);
  EXPECT_EQ(remap(0x7000'0000'0000, kPageSize, 2 * kPageSize, MREMAP_MAYMOVE, 0), EFAULT);
  EXPECT_EQ(remap(kBase, kPageSize, ~std::uint64_t{0}, MREMAP_MAYMOVE, 0), EINVAL);
  EXPECT_EQ(remap(kBase, kPageSize, kLimit, MREMAP_MAYMOVE, 0), ENOMEM);
  EXPECT_EQ(remap(kBase, kPageSize, kPageSize, 0x80, 0), EINVAL);
  EXPECT_EQ(KernelsPages(), GuestsPages(guest.space, true));
}

TEST(AddressSpace, PlacesFreshMappingsInItsOwnArea) {
  Guest guest;
  const Layout& layout = guest.space.layout();
  std::uint64_t last = layout.mmap_top.value;
  for (int i = 0; i < 10; ++i) {
    const auto at =
        guest.space.Map({.length = 3 * kPageSize, .prot = PROT_READ, .flags = kAnonymous});
    ASSERT_TRUE(at.ok());
    EXPECT_EQ(at.ToRegister(), last - 3 * kPageSize);
    last = at.ToRegister();
  }
  // A hint is taken when it is free, and ignored when it is not.
  const MapRequest hinted{.address = kBase + 5, .length = kPageSize, .flags = kAnonymous};
  EXPECT_EQ(guest.space.Map(hinted).ToRegister(), kBase);
  EXPECT_EQ(guest.space.Map(hinted).ToRegister(), last - kPageSize);
  MapRequest outside = hinted;
  outside.address = 0x7000'0000'0000;
  EXPECT_LT(guest.space.Map(outside).ToRegister(), kLimit);
#ifndef __SANITIZE_ADDRESS__  // whose shadow is at the top of the low 2 GiB
  const auto low = guest.space.Map({.length = kPageSize, .flags = kAnonymous | MAP_32BIT});
  ASSERT_TRUE(low.ok());
  EXPECT_LT(low.ToRegister(), 0x8000'0000u);
#endif
  const auto big = guest.space.Map({.length = 4 << 20, .flags = kAnonymous});
  EXPECT_EQ(big.ToRegister() % (2 << 20), 0u);
}

TEST(Layout, KeepsItsPartsInOrderWhateverTheRandomBits) {
  std::mt19937_64 random(3);
  for (int i = 0; i < 10'000; ++i) {
    const std::uint64_t bits = i < 2 ? -static_cast<std::uint64_t>(i) : random();
    const std::uint64_t stack = (8 << 20) + (random() % 1000) * kPageSize;
    const Layout layout = Layout::FromRandom(bits, stack);
    EXPECT_LT(layout.stack_top.value, kLimit);
    EXPECT_TRUE(IsPageAligned(layout.stack_top.value | layout.mmap_top.value |
                              layout.pie_base.value | layout.heap_gap));
    EXPECT_LE(layout.mmap_top.value + stack + kStackGuardGap, layout.stack_top.value);
    EXPECT_LT(layout.pie_base.value + (std::uint64_t{1} << 40), layout.mmap_top.value);
    EXPECT_GT(layout.heap_gap, 0u);
  }
  const Layout same = Layout::FromRandom(99, 8 << 20);
  EXPECT_EQ(same.stack_top, Layout::FromRandom(99, 8 << 20).stack_top);
  EXPECT_NE(same.stack_top, Layout::FromRandom(98, 8 << 20).stack_top);
}

TEST(Layout, OfASmallProgramEndsBelowFourGiB) {
  std::mt19937_64 random(3);
  for (int i = 0; i < 10'000; ++i) {
    const std::uint64_t stack = (8 << 20) + (random() % 1000) * kPageSize;
    const Layout layout = Layout::FromRandom(random(), stack, Images::kSmall);
    EXPECT_LT(layout.stack_top.value, hostcalls::Window::SmallProgram().limit);
    EXPECT_LE(layout.mmap_top.value + stack + kStackGuardGap, layout.stack_top.value);
    EXPECT_LT(layout.image_area.end, layout.heap_base);
    EXPECT_LT(layout.heap_base.value + layout.heap_gap + (std::uint64_t{1} << 30),
              layout.mmap_top.value);
    EXPECT_LT(layout.pie_base, layout.image_area.end);
  }
}

// ruby's YJIT takes the first 256 MiB above its library that are free, in steps of 4 MiB, and crashes
// when they have 2 GiB inside.
TEST(Layout, LeavesRoomForReservedCodeBetweenLowImagesAndTwoGiB) {
  constexpr std::uint64_t kReserved = (256 << 20) + (4 << 20);
  std::mt19937_64 random(3);
  for (int i = 0; i < 10'000; ++i) {
    const std::uint64_t bits = i < 2 ? -static_cast<std::uint64_t>(i) : random();
    for (const Images images : {Images::kLow, Images::kSmall}) {
      const Layout layout = Layout::FromRandom(bits, 8 << 20, images);
      EXPECT_LE(layout.image_area.end.value + kReserved, 0x8000'0000u);
      EXPECT_GT(layout.image_area.end.value, layout.pie_base.value + (512 << 20));
    }
  }
}

// ---- sealed ranges ------------------------------------------------------------------------------

TEST(AddressSpace, ASealedRangeCannotBeChangedInAnyWay) {
  Guest guest;
  ASSERT_TRUE(guest.space
                  .Map({.address = kBase,
                        .length = 8 * kPageSize,
                        .prot = PROT_READ | PROT_WRITE,
                        .flags = kAnonymous | MAP_FIXED})
                  .ok());
  const std::uint64_t sealed = kBase + 3 * kPageSize;
  guest.space.AddSealed({GuestVirt{sealed}, GuestVirt{sealed + 2 * kPageSize}}, {.read = true},
                        "[vdso]");
  const std::string before = guest.space.FormatMaps();
  // Exactly, from below, from above, around.
  const std::uint64_t ranges[][2] = {{3, 2}, {2, 2}, {4, 2}, {0, 8}};
  for (const auto& [first, pages] : ranges) {
    const std::uint64_t at = kBase + first * kPageSize;
    const std::uint64_t length = pages * kPageSize;
    EXPECT_EQ(guest.space.Unmap(at, length).error(), EPERM);
    EXPECT_EQ(guest.space.Protect(at, length, PROT_READ | PROT_WRITE).error(), EPERM);
    EXPECT_EQ(guest.space.Protect(at, length, PROT_NONE).error(), EPERM);
    EXPECT_EQ(guest.space.Advise(at, length, MADV_DONTNEED).error(), EPERM);
    EXPECT_EQ(guest.space
                  .Map({.address = at,
                        .length = length,
                        .prot = PROT_READ,
                        .flags = kAnonymous | MAP_FIXED})
                  .error(),
              EPERM);
    EXPECT_EQ(guest.space
                  .Map({.address = at,
                        .length = length,
                        .prot = PROT_READ,
                        .flags = kAnonymous | MAP_FIXED_NOREPLACE})
                  .error(),
              EEXIST);
    EXPECT_EQ(guest.space
                  .Remap({.old_address = kBase,
                          .old_length = kPageSize,
                          .new_length = kPageSize + length,
                          .flags = MREMAP_MAYMOVE | MREMAP_FIXED,
                          .new_address = sealed - length + kPageSize})
                  .ok(),
              false);
  }
  EXPECT_EQ(guest.space
                .Remap({.old_address = sealed,
                        .old_length = 2 * kPageSize,
                        .new_length = 2 * kPageSize,
                        .flags = MREMAP_MAYMOVE | MREMAP_FIXED,
                        .new_address = kBase + 20 * kPageSize})
                .error(),
            EPERM);
  EXPECT_EQ(guest.space
                .Remap({.old_address = sealed,
                        .old_length = 2 * kPageSize,
                        .new_length = kPageSize,
                        .flags = 0})
                .error(),
            EPERM);
  EXPECT_EQ(guest.space.FormatMaps(), before);
}

// ---- the heap -----------------------------------------------------------------------------------

TEST(AddressSpace, TheHeapGrowsAndShrinksByTheByte) {
  Guest guest;
  guest.space.SetHeapStart(GuestVirt{kBase + 5});
  const std::uint64_t start = kBase + kPageSize;
  const auto brk = [&](std::uint64_t address) { return guest.space.Break(address).ToRegister(); };
  EXPECT_EQ(brk(0), start);
  EXPECT_EQ(brk(start + 100), start + 100);
  EXPECT_EQ(brk(start + 3 * kPageSize + 1), start + 3 * kPageSize + 1);
  auto* memory = reinterpret_cast<char*>(start);
  std::memset(memory, 'x', 4 * kPageSize);
  EXPECT_EQ(brk(start + kPageSize), start + kPageSize);
  EXPECT_EQ(brk(start + 2 * kPageSize), start + 2 * kPageSize);
  EXPECT_EQ(memory[kPageSize - 1], 'x');
  EXPECT_EQ(memory[kPageSize], '\0');  // given back and fresh again
  EXPECT_NE(guest.space.FormatMaps().find("[heap]"), std::string::npos);
  // What cannot be leaves it as it is.
  EXPECT_EQ(brk(start - 1), start + 2 * kPageSize);
  EXPECT_EQ(brk(kLimit + 1), start + 2 * kPageSize);
  EXPECT_EQ(brk(~std::uint64_t{0}), start + 2 * kPageSize);
  ASSERT_TRUE(guest.space
                  .Map({.address = start + 8 * kPageSize,
                        .length = kPageSize,
                        .flags = kAnonymous | MAP_FIXED})
                  .ok());
  EXPECT_EQ(brk(start + 9 * kPageSize), start + 2 * kPageSize);
  EXPECT_EQ(brk(start + 8 * kPageSize), start + 8 * kPageSize);
  EXPECT_EQ(brk(start), start);
}

// ---- the engine is told -------------------------------------------------------------------------

struct Watcher final : MappingObserver {
  void Forget(const GuestRange& range) override {
    forgotten.push_back(range);
    pages = KernelsPages();
  }
  bool NeedsHostInvalidation() const override { return true; }
  std::vector<GuestRange> forgotten;
  std::string pages;  // of the host, when it was called last
};

TEST(AddressSpace, TheEngineForgetsARangeBeforeTheHostChangesIt) {
  Guest guest;
  Watcher watcher;
  ASSERT_TRUE(guest.space
                  .Map({.address = kBase,
                        .length = 4 * kPageSize,
                        .prot = PROT_READ | PROT_WRITE | PROT_EXEC,
                        .flags = kAnonymous | MAP_FIXED})
                  .ok());
  guest.space.SetObserver(&watcher);
  const auto expect = [&](auto change, std::uint64_t first, std::uint64_t end) {
    watcher.forgotten.clear();
    const std::string before = KernelsPages();
    EXPECT_TRUE(change().ok());
    ASSERT_EQ(watcher.forgotten.size(), 1u);
    EXPECT_EQ(watcher.forgotten[0].start.value, kBase + first * kPageSize);
    EXPECT_EQ(watcher.forgotten[0].end.value, kBase + end * kPageSize);
    EXPECT_EQ(watcher.pages, before);
  };
  expect([&] { return guest.space.Protect(kBase, kPageSize, PROT_READ); }, 0, 1);
  // Only the right to execute goes: the host has nothing to change, but is bounced.
  expect([&] { return guest.space.Protect(kBase + kPageSize, kPageSize, PROT_READ | PROT_WRITE); },
         1, 2);
  expect([&] { return guest.space.Unmap(kBase + 2 * kPageSize, kPageSize); }, 2, 3);
  expect(
      [&] {
        return guest.space.Map({.address = kBase + 3 * kPageSize,
                                .length = kPageSize,
                                .flags = kAnonymous | MAP_FIXED});
      },
      3, 4);
  watcher.forgotten.clear();
  EXPECT_TRUE(guest.space.Protect(kBase, kPageSize, PROT_READ).ok());  // changes nothing
  EXPECT_TRUE(guest.space
                  .Map({.address = kBase + 9 * kPageSize,
                        .length = kPageSize,
                        .flags = kAnonymous | MAP_FIXED_NOREPLACE})
                  .ok());
  EXPECT_TRUE(watcher.forgotten.empty());
}

// ---- /proc/self/maps ----------------------------------------------------------------------------

std::string KernelsLineAt(std::uint64_t address) {
  std::ifstream maps("/proc/self/maps");
  std::ostringstream start;
  start << std::hex << address << "-";
  for (std::string line; std::getline(maps, line);) {
    if (line.rfind(start.str(), 0) == 0) return line + "\n";
  }
  return "";
}

TEST(AddressSpace, FormatsAMappingAsTheKernelDoes) {
  const Files files;
  const MapRequest requests[] = {
      {.prot = PROT_READ, .flags = MAP_PRIVATE, .fd = files.writable[0], .offset = 3 * kPageSize},
      {.prot = PROT_READ | PROT_WRITE, .flags = MAP_SHARED, .fd = files.writable[0]},
      {.prot = PROT_NONE, .flags = kAnonymous},
  };
  for (MapRequest request : requests) {
    Guest guest;
    request.address = kBase;
    request.length = 2 * kPageSize;
    request.flags |= MAP_FIXED;
    ASSERT_TRUE(guest.space.Map(request).ok());
    EXPECT_EQ(guest.space.FormatMaps(), KernelsLineAt(kBase));
  }
}

// ---- System V shared memory ---------------------------------------------------------------------

// ---- the limit of memory -------------------------------------------------------------------------

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

struct LimitedGuest : Guest {
  LimitedGuest() { space.LimitData(16 * kMiB); }
  hostcalls::SyscallResult Map(std::uint64_t length, int prot) {
    return space.Map({.length = length, .prot = prot, .flags = kAnonymous | MAP_NORESERVE});
  }
};

TEST(MemoryLimit, FilledMemoryCountsUntilItIsUnmapped) {
  LimitedGuest guest;
  const auto first = guest.Map(12 * kMiB, PROT_READ | PROT_WRITE);
  ASSERT_TRUE(first.ok());
  EXPECT_EQ(guest.Map(8 * kMiB, PROT_READ | PROT_WRITE).error(), ENOMEM);
  // As RLIMIT_DATA would not: no longer writable, it is as full as before.
  EXPECT_TRUE(guest.space.Protect(first.value(), 12 * kMiB, PROT_READ).ok());
  EXPECT_EQ(guest.Map(8 * kMiB, PROT_READ | PROT_WRITE).error(), ENOMEM);
  EXPECT_TRUE(guest.space.Protect(first.value(), 12 * kMiB, PROT_NONE).ok());
  EXPECT_EQ(guest.Map(8 * kMiB, PROT_READ | PROT_WRITE).error(), ENOMEM);
  EXPECT_TRUE(guest.space.Protect(first.value(), 12 * kMiB, PROT_READ | PROT_WRITE).ok());
  EXPECT_TRUE(guest.space.Unmap(first.value(), 6 * kMiB).ok());
  EXPECT_TRUE(guest.Map(8 * kMiB, PROT_READ | PROT_WRITE).ok());
  EXPECT_EQ(guest.Map(4 * kMiB, PROT_READ | PROT_WRITE).error(), ENOMEM);
}

TEST(MemoryLimit, WhatBecomesWritableCounts) {
  LimitedGuest guest;
  const auto area = guest.Map(32 * kMiB, PROT_READ);
  ASSERT_TRUE(area.ok());
  EXPECT_EQ(guest.space.Protect(area.value(), 32 * kMiB, PROT_READ | PROT_WRITE).error(), ENOMEM);
  EXPECT_TRUE(guest.space.Protect(area.value(), 8 * kMiB, PROT_READ | PROT_WRITE).ok());
  EXPECT_TRUE(guest.space.Protect(area.value(), 8 * kMiB, PROT_READ).ok());
  EXPECT_EQ(guest.space.Protect(area.value() + 8 * kMiB, 12 * kMiB, PROT_READ | PROT_WRITE).error(),
            ENOMEM);
  // The same pages once more are no more than before.
  EXPECT_TRUE(guest.space.Protect(area.value(), 16 * kMiB, PROT_READ | PROT_WRITE).ok());
}

TEST(MemoryLimit, MovedMemoryStaysFilled) {
  LimitedGuest guest;
  const auto area = guest.Map(10 * kMiB, PROT_READ | PROT_WRITE);
  ASSERT_TRUE(area.ok());
  const auto from = static_cast<std::uint64_t>(area.value());
  EXPECT_EQ(guest.space
                .Remap({.old_address = from,
                        .old_length = 10 * kMiB,
                        .new_length = 20 * kMiB,
                        .flags = MREMAP_MAYMOVE})
                .error(),
            ENOMEM);
  EXPECT_TRUE(guest.space.Protect(from, 10 * kMiB, PROT_READ).ok());
  const auto moved = guest.space.Remap({.old_address = from,
                                        .old_length = 10 * kMiB,
                                        .new_length = 10 * kMiB,
                                        .flags = MREMAP_MAYMOVE | MREMAP_FIXED,
                                        .new_address = kBase});
  ASSERT_TRUE(moved.ok());
  EXPECT_EQ(guest.Map(8 * kMiB, PROT_READ | PROT_WRITE).error(), ENOMEM);
  EXPECT_TRUE(guest.space.Unmap(kBase, 10 * kMiB).ok());
  EXPECT_TRUE(guest.Map(16 * kMiB, PROT_READ | PROT_WRITE).ok());
}

// What a loader has mapped as the stack does not count; what is made of it does.
TEST(MemoryLimit, WhatAStackIsEnlargedOrMovedToCounts) {
  LimitedGuest guest;
  const std::uint64_t stack = kBase + (std::uint64_t{1} << 30);
  ASSERT_TRUE(guest.space.MapNamed(GuestVirt{stack}, kMiB, PROT_READ | PROT_WRITE, "[stack]").ok());
  ASSERT_TRUE(guest.Map(15 * kMiB, PROT_READ | PROT_WRITE).ok());
  const auto remap = [&](std::uint64_t from, std::uint64_t length, int flags, std::uint64_t to = 0) {
    return guest.space.Remap({.old_address = from, .old_length = kPageSize, .new_length = length, .flags = flags,
                              .new_address = to});
  };
  EXPECT_EQ(remap(stack, 64 * kMiB, MREMAP_MAYMOVE).error(), ENOMEM);
  EXPECT_EQ(remap(stack + kMiB - kPageSize, 64 * kMiB, 0).error(), ENOMEM);  // where it is
  // A page at a time, each left behind as it was.
  std::uint64_t made = 0;
  while (made < 2 * kMiB / kPageSize &&
         remap(stack, kPageSize, MREMAP_MAYMOVE | MREMAP_DONTUNMAP | MREMAP_FIXED, kBase + made * kPageSize).ok()) {
    ++made;
  }
  EXPECT_LE(made, kMiB / kPageSize);
  EXPECT_EQ(guest.Map(kMiB, PROT_READ | PROT_WRITE).error(), ENOMEM);
}

TEST(MemoryLimit, WhatCanOnlyBeReadCountsForItsPageTables) {
  LimitedGuest guest;
  const std::uint64_t most = 512 * 16 * kMiB;
  const auto area = guest.Map(most, PROT_READ);
  ASSERT_TRUE(area.ok());
  EXPECT_EQ(guest.Map(8 * kMiB, PROT_READ).error(), ENOMEM);
  EXPECT_TRUE(guest.Map(8 * kMiB, PROT_NONE).ok());
  EXPECT_TRUE(guest.space.Unmap(area.value(), 16 * kMiB).ok());
  EXPECT_TRUE(guest.Map(8 * kMiB, PROT_READ | PROT_WRITE).ok());
}

// ---- the program's own limits --------------------------------------------------------------------

struct OwnLimitsGuest : Guest {
  OwnLimitsGuest() { space.KeepLimits(limits); }
  int Map(std::uint64_t length, int prot) {
    return space.Map({.length = length, .prot = prot, .flags = kAnonymous | MAP_NORESERVE}).error();
  }
  hostcalls::MemoryLimits limits;
};

TEST(OwnLimits, AreThoseOfTheMoment) {
  OwnLimitsGuest guest;
  EXPECT_EQ(guest.Map(64 * kMiB, PROT_NONE), 0);
  guest.limits.all = 80 * kMiB;
  EXPECT_EQ(guest.Map(32 * kMiB, PROT_NONE), ENOMEM);
  EXPECT_EQ(guest.Map(16 * kMiB, PROT_NONE), 0);
  guest.limits.all = hostcalls::MemoryLimits::kNone;
  EXPECT_EQ(guest.Map(32 * kMiB, PROT_NONE), 0);
  guest.limits.data = 8 * kMiB;
  EXPECT_EQ(guest.Map(16 * kMiB, PROT_READ | PROT_WRITE), ENOMEM);
  EXPECT_EQ(guest.Map(16 * kMiB, PROT_READ), 0);
  EXPECT_EQ(guest.Map(8 * kMiB, PROT_READ | PROT_WRITE), 0);
}

TEST(OwnLimits, LetWhatIsThereBeChanged) {
  OwnLimitsGuest guest;
  const MapRequest area{.address = kBase,
                        .length = 4 * kMiB,
                        .prot = PROT_READ | PROT_WRITE,
                        .flags = kAnonymous | MAP_FIXED};
  ASSERT_TRUE(guest.space.Map(area).ok());
  guest.limits.all = guest.limits.data = kPageSize;
  EXPECT_TRUE(guest.space.Map(area).ok());
  EXPECT_TRUE(guest.space.Protect(kBase, kMiB, PROT_READ).ok());
  // Less data than there was, and more than there may be.
  EXPECT_EQ(guest.space.Protect(kBase, kMiB, PROT_READ | PROT_WRITE).error(), ENOMEM);
  EXPECT_EQ(guest.space
                .Remap({.old_address = kBase + 2 * kMiB,
                        .old_length = kMiB,
                        .new_length = kMiB,
                        .flags = MREMAP_MAYMOVE | MREMAP_FIXED,
                        .new_address = kBase + 8 * kMiB})
                .error(),
            0);
  EXPECT_TRUE(guest.space.Unmap(kBase, kMiB).ok());
  EXPECT_EQ(guest.Map(kPageSize, PROT_NONE), ENOMEM);
}

TEST(OwnLimits, DoNotCountTheStack) {
  OwnLimitsGuest guest;
  ASSERT_TRUE(guest.space.MapNamed(GuestVirt{kBase}, 8 * kMiB, PROT_READ | PROT_WRITE, "[stack]").ok());
  guest.limits.all = guest.limits.data = kMiB;
  EXPECT_EQ(guest.Map(kMiB, PROT_READ | PROT_WRITE), 0);
  EXPECT_EQ(guest.space
                .Remap({.old_address = kBase, .old_length = kPageSize, .new_length = kMiB, .flags = MREMAP_MAYMOVE})
                .error(),
            ENOMEM);
}

// ---- a window that is reserved -------------------------------------------------------------------

bool IsFree(void* page) {
  void* const got = mmap(page, kPageSize, PROT_NONE, kAnonymous | MAP_FIXED_NOREPLACE, -1, 0);
  if (got == MAP_FAILED) return errno != EEXIST;
  munmap(got, kPageSize);
  return true;
}

// Older kernels unmap what is there before they refuse to map; so here it is gone before.
TEST(ReservedWindow, HasNoHoleWhereTheKernelRefusesToMap) {
  auto* const window = static_cast<std::byte*>(
      mmap(nullptr, 4 * kPageSize, PROT_READ | PROT_WRITE, kAnonymous | MAP_NORESERVE, -1, 0));
  ASSERT_NE(window, MAP_FAILED);
  HostMapper mapper;
  mapper.SetReserved(true);
  ASSERT_EQ(munmap(window + kPageSize, kPageSize), 0);
  EXPECT_EQ(mapper.Map(window + kPageSize, kPageSize, PROT_READ, MAP_PRIVATE | MAP_FIXED, -1, 0), MAP_FAILED);
  EXPECT_EQ(errno, EBADF);
  EXPECT_FALSE(IsFree(window + kPageSize));
  // What is still there stays.
  window[2 * kPageSize] = std::byte{7};
  EXPECT_EQ(mapper.Map(window + 2 * kPageSize, kPageSize, PROT_READ, MAP_PRIVATE | MAP_FIXED, -1, 0), MAP_FAILED);
  EXPECT_EQ(window[2 * kPageSize], std::byte{7});
  munmap(window, 4 * kPageSize);
}

// Against one flag a page.
TEST(RangeSet, IsTheSumOfWhatWasAddedAndNotRemoved) {
  constexpr std::uint64_t kCount = 64;
  std::mt19937 random(7);
  RangeSet set;
  std::array<bool, kCount> model{};
  for (int round = 0; round < 20'000; ++round) {
    std::uint64_t start = random() % kCount, end = random() % (kCount + 1);
    if (start > end) std::swap(start, end);
    const GuestRange range{GuestVirt{start}, GuestVirt{end}};
    const auto in_range = std::count(model.begin() + static_cast<long>(start),
                                     model.begin() + static_cast<long>(end), true);
    ASSERT_EQ(set.SizeIn(range), static_cast<std::uint64_t>(in_range)) << "round " << round;
    const bool add = random() % 2 == 0;
    std::fill(model.begin() + static_cast<long>(start), model.begin() + static_cast<long>(end), add);
    add ? set.Add(range) : set.Remove(range);
    ASSERT_EQ(set.size(), static_cast<std::uint64_t>(std::count(model.begin(), model.end(), true)))
        << "round " << round;
  }
}

class SharedSegment {
 public:
  explicit SharedSegment(std::uint64_t pages)
      : id_(shmget(IPC_PRIVATE, pages * kPageSize, IPC_CREAT | 0600)) {
    EXPECT_GE(id_, 0);
  }
  ~SharedSegment() { shmctl(id_, IPC_RMID, nullptr); }
  int id() const { return id_; }
  shmatt_t attached() const {
    shmid_ds info{};
    shmctl(id_, IPC_STAT, &info);
    return info.shm_nattch;
  }

 private:
  const int id_;
};

TEST(SharedSegments, AreAttachedWhereTheGuestOrWeChooseAndDetached) {
  Guest guest;
  SharedSegment segment(3);
  const auto chosen = guest.space.AttachShared(segment.id(), 0, 0);
  ASSERT_TRUE(chosen.ok());
  EXPECT_LT(chosen.ToRegister(), kLimit);
  EXPECT_EQ(guest.space.AttachShared(segment.id(), kBase, SHM_RDONLY).ToRegister(), kBase);
  EXPECT_EQ(guest.space.AttachShared(segment.id(), kBase + 4 * kPageSize + 7, SHM_RND).ToRegister(),
            kBase + 4 * kPageSize);
  EXPECT_EQ(segment.attached(), 3u);
  EXPECT_EQ(GuestsPages(guest.space, false).substr(0, 8), "BBB.DDD.");
  EXPECT_EQ(KernelsPages(), GuestsPages(guest.space, true));
  *reinterpret_cast<int*>(chosen.ToRegister()) = 77;
  EXPECT_EQ(*reinterpret_cast<int*>(kBase), 77);
  EXPECT_EQ(guest.space.AttachShared(segment.id(), kBase + 1, 0).error(), EINVAL);
  EXPECT_EQ(guest.space.AttachShared(segment.id(), kBase + kPageSize, 0).error(), EINVAL);  // taken
  EXPECT_EQ(guest.space.AttachShared(segment.id(), kLimit - kPageSize, 0).error(), EINVAL);
  EXPECT_EQ(guest.space.AttachShared(segment.id(), 0x7000'0000'0000, 0).error(), EINVAL);
  EXPECT_EQ(guest.space.AttachShared(segment.id(), kBase, SHM_REMAP).error(), EINVAL);
  EXPECT_EQ(guest.space.AttachShared(-1, 0, 0).error(), EINVAL);
  EXPECT_TRUE(guest.space.DetachShared(kBase).ok());
  EXPECT_EQ(guest.space.DetachShared(kBase).error(), EINVAL);
  EXPECT_EQ(guest.space.DetachShared(kBase + 5 * kPageSize).error(), EINVAL);  // inside
  EXPECT_EQ(guest.space.DetachShared(kBase + 4 * kPageSize + 1).error(), EINVAL);
  EXPECT_EQ(guest.space.DetachShared(0x7000'0000'0000).error(), EINVAL);
  EXPECT_TRUE(guest.space.DetachShared(chosen.ToRegister()).ok());
  EXPECT_EQ(segment.attached(), 1u);
  EXPECT_EQ(KernelsPages(), GuestsPages(guest.space, true));
}

TEST(SharedSegments, AreShownAsTheKernelShowsThem) {
  Guest guest;
  SharedSegment segment(2);
  ASSERT_TRUE(guest.space.AttachShared(segment.id(), kBase, 0).ok());
  EXPECT_EQ(guest.space.FormatMaps(), KernelsLineAt(kBase));
}

// What is left of a segment after changes in its range: attach 6 pages, change some, detach. The
// kernel does the same to itself in a child.
using Change = void (*)(AddressSpace*);
constexpr std::uint64_t kSecond = kBase + kPageSize;

// On the guest's space, or (null) on the process itself.
void UnmapTheMiddle(AddressSpace* space) {
  if (space == nullptr) {
    munmap(reinterpret_cast<void*>(kSecond), 2 * kPageSize);
  } else {
    EXPECT_TRUE(space->Unmap(kSecond, 2 * kPageSize).ok());
  }
}
void UnmapTheStart(AddressSpace* space) {
  if (space == nullptr) {
    munmap(reinterpret_cast<void*>(kBase), 2 * kPageSize);
  } else {
    EXPECT_TRUE(space->Unmap(kBase, 2 * kPageSize).ok());
  }
}
void MapOver(std::uint64_t at, AddressSpace* space) {
  constexpr int kFlags = kAnonymous | MAP_FIXED;
  if (space == nullptr) {
    (void)mmap(reinterpret_cast<void*>(at), kPageSize, PROT_READ, kFlags, -1, 0);
  } else {
    EXPECT_TRUE(
        space->Map({.address = at, .length = kPageSize, .prot = PROT_READ, .flags = kFlags}).ok());
  }
}
void MapOverTheMiddle(AddressSpace* space) { MapOver(kSecond, space); }
void MapOverTheStart(AddressSpace* space) { MapOver(kBase, space); }
void MoveThePageAway(AddressSpace* space) {
  const std::uint64_t to = kBase + 20 * kPageSize;
  constexpr int kFlags = MREMAP_MAYMOVE | MREMAP_FIXED;
  if (space == nullptr) {
    mremap(reinterpret_cast<void*>(kSecond), kPageSize, kPageSize, kFlags,
           reinterpret_cast<void*>(to));
  } else {
    EXPECT_TRUE(space
                    ->Remap({.old_address = kSecond,
                             .old_length = kPageSize,
                             .new_length = kPageSize,
                             .flags = kFlags,
                             .new_address = to})
                    .ok());
  }
}
void ProtectTheMiddle(AddressSpace* space) {
  if (space == nullptr) {
    mprotect(reinterpret_cast<void*>(kSecond), kPageSize, PROT_NONE);
  } else {
    EXPECT_TRUE(space->Protect(kSecond, kPageSize, PROT_NONE).ok());
  }
}

TEST(SharedSegments, DetachingLeavesAloneWhatIsNoLongerTheSegment) {
  for (const Change change : {&UnmapTheMiddle, &UnmapTheStart, &MapOverTheMiddle, &MapOverTheStart,
                              &MoveThePageAway, &ProtectTheMiddle}) {
    SharedSegment segment(6);
    int ends[2];
    ASSERT_EQ(pipe(ends), 0);
    const pid_t child = fork();
    if (child == 0) {
      shmat(segment.id(), reinterpret_cast<void*>(kBase), 0);
      change(nullptr);
      const int result = shmdt(reinterpret_cast<void*>(kBase));
      const std::string text = std::to_string(result) + KernelsPages();
      _exit(write(ends[1], text.data(), text.size()) == static_cast<ssize_t>(text.size()) ? 0 : 1);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_EQ(status, 0);
    std::string native(1 + kPages, '\0');
    ASSERT_EQ(read(ends[0], native.data(), native.size()), static_cast<ssize_t>(native.size()));
    close(ends[0]), close(ends[1]);

    Guest guest;
    ASSERT_TRUE(guest.space.AttachShared(segment.id(), kBase, 0).ok());
    change(&guest.space);
    const bool ok = guest.space.DetachShared(kBase).ok();
    EXPECT_EQ(std::string(ok ? "0" : "-").append(GuestsPages(guest.space, false)), native);
    EXPECT_EQ(KernelsPages(), GuestsPages(guest.space, true));
  }
}

TEST(SharedSegments, TwoOfTheSameNextToEachOtherAreDetachedOneByOne) {
  Guest guest;
  SharedSegment segment(2);
  const std::uint64_t second = kBase + 2 * kPageSize;
  ASSERT_TRUE(guest.space.AttachShared(segment.id(), kBase, 0).ok());
  ASSERT_TRUE(guest.space.AttachShared(segment.id(), second, 0).ok());
  EXPECT_TRUE(guest.space.DetachShared(kBase).ok());
  EXPECT_EQ(GuestsPages(guest.space, false).substr(0, 6), "..DD..");
  EXPECT_EQ(KernelsPages(), GuestsPages(guest.space, true));
  EXPECT_TRUE(guest.space.DetachShared(second).ok());
  EXPECT_EQ(segment.attached(), 0u);
}

}  // namespace
}  // namespace dunebox::memory
