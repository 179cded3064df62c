// What the tests of libdune's API share: the backend that the command line names, and memory to try it on.
//
//   class Dirty : public Entered {};
//   TEST_F(Dirty, ...) { Pages pages(16); ... }
#ifndef DUNEBOX_TESTS_LIBDUNE_ENTERED_H_
#define DUNEBOX_TESTS_LIBDUNE_ENTERED_H_

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>
#include <vector>

#include "dune/dune.h"
#include "dune/page_table.h"

namespace dune::testing {

// Of --backend and --dirty.
const EnterOptions& WantedOptions();

// The test's thread is in, or the test is skipped because this machine has not what was asked for.
class Entered : public ::testing::Test {
 protected:
  void SetUp() override {
    const absl::Status entered = Enter(WantedOptions());
    if (absl::IsUnavailable(entered)) GTEST_SKIP() << entered;
    ASSERT_TRUE(entered.ok()) << entered;
  }
};

// Anonymous memory.
class Pages {
 public:
  explicit Pages(std::size_t count, int protection = PROT_READ | PROT_WRITE)
      : size_(count * kPageSize),
        memory_(static_cast<char*>(
            mmap(nullptr, size_, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))) {
    EXPECT_NE(memory_, MAP_FAILED);
  }
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;
  ~Pages() { munmap(memory_, size_); }

  volatile char& operator[](std::size_t page) { return memory_[page * kPageSize]; }
  char* data(std::size_t page = 0) { return memory_ + page * kPageSize; }
  Range range(std::size_t first, std::size_t count) const {
    return {reinterpret_cast<std::uintptr_t>(memory_) + first * kPageSize, count * kPageSize};
  }
  Range range() const { return range(0, size_ / kPageSize); }

 private:
  std::size_t size_;
  char* memory_;
};

// How a child ends that runs `body`: waitpid's status. Its exit status is 0 unless it says otherwise.
template <typename Body>
int StatusOfChild(Body body) {
  const pid_t child = fork();
  if (child == 0) {
    body();
    _exit(0);
  }
  int status = -1;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return status;
}

}  // namespace dune::testing

#endif  // DUNEBOX_TESTS_LIBDUNE_ENTERED_H_
