// The second wall alone: native code runs in the worker (hostile_worker.cc), as if nothing were
// left of the first. It reaches nothing that the policy does not give, and the host gets wrong
// answers at most.
#include <errno.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "runtime/file_descriptor.h"
#include "sandbox/plugin/guest.h"
#include "sandbox/plugin/snapshot_file.h"
#include "tests/plugin/hostile_worker.h"

namespace dunebox {
namespace {

using Kind = Failure::Kind;
using plugin::Guest;

class SecondWall : public testing::Test {
 protected:
  void SetUp() override { Make(absl::Minutes(2)); }

  void Make(absl::Duration deadline) {
    policy_ = {.demand = Demand::kTwoWalls, .deadline = deadline, .load_deadline = deadline};
    guest_ = MakeOne();
    ASSERT_NE(guest_, nullptr);
  }
  std::unique_ptr<Guest> MakeOne() {
    absl::StatusOr<std::unique_ptr<Guest>> made = plugin::MakeGuest(policy_, 1);
    EXPECT_TRUE(made.ok()) << made.status();
    if (!made.ok()) return nullptr;
    const absl::Status loaded = (*made)->Load(PLUGIN_CASES);
    EXPECT_TRUE(loaded.ok()) << loaded;
    return *std::move(made);
  }

  absl::StatusOr<std::uint64_t> Attack(const std::string& name) {
    return guest_->FindSymbol("attack." + name);
  }
  static bool Adds(Guest& guest) {
    internal::CallFrame frame;
    frame.AddInteger(40);
    frame.AddInteger(2);
    const absl::StatusOr<std::uint64_t> add = guest.FindSymbol("add");
    if (!add.ok()) return false;
    const absl::StatusOr<internal::CallResult> sum = guest.Call(*add, frame);
    return sum.ok() && static_cast<int>(sum->integer) == 42;
  }
  static Failure FailureIn(const absl::Status& status) {
    const std::optional<Failure> failure = FailureOf(status);
    EXPECT_TRUE(failure.has_value()) << status;
    return failure.value_or(Failure{});
  }

  // A callback that wants something of the sandbox.
  std::shared_ptr<const internal::Callback> Asking() {
    return std::make_shared<const internal::Callback>(
        internal::Callback{.run = [this](internal::CallbackFrame& frame) {
          std::array<std::byte, 8> bytes;
          (void)guest_->Read(0x20000, bytes);
          (void)guest_->failure();
          frame.result.integer = 1;
        }});
  }
  // From now on what needs no call is answered so (hostile_worker.cc).
  void LetItManage(const std::string& how) {
    ASSERT_EQ(*guest_->FindSymbol("lie." + how), kThrough);
    EXPECT_TRUE(absl::IsFailedPrecondition(guest_->Snapshot().status()));
  }

  Policy policy_;
  std::unique_ptr<Guest> guest_;
};

TEST_F(SecondWall, IsToldOf) {
  EXPECT_THAT(guest_->confinement(), testing::Contains("seccomp"));
  EXPECT_THAT(guest_->confinement(), testing::Contains(testing::StartsWith("landlock ")));
  EXPECT_EQ(*Attack("no such"), kNoSuchAttack);
}

// Refused, and the worker goes on.
TEST_F(SecondWall, GivesAnError) {
  struct Row {
    const char* name;
    std::uint64_t error;
  };
  constexpr Row kRows[] = {
      {"read", EACCES},       {"read_by_2", EACCES},      {"list", EACCES},
      {"write_by_2", EACCES}, {"own_memory", EACCES},     {"read_through_root", EACCES},
      {"memory", ENOMEM},     {"parents_memory", EACCES},
  };
  for (const Row& row : kRows) {
    SCOPED_TRACE(row.name);
    const absl::StatusOr<std::uint64_t> error = Attack(row.name);
    ASSERT_TRUE(error.ok()) << error.status();
    EXPECT_EQ(*error, row.error);
  }
  EXPECT_NE(access(HOSTILE_FILE, F_OK), 0);
  EXPECT_TRUE(Adds(*guest_));
}

TEST_F(SecondWall, EndsWhoAsksForMore) {
  for (const char* const name : {"write",          "unlink",         "execute",
                                 "execute_itself", "fork",           "vfork",
                                 "socket",         "unix_socket",    "kill_all",
                                 "kill_group",     "signal_another", "trace",
                                 "vm_write",       "map_code",       "protect_code",
                                 "memory_file",    "shrink_shared",  "punch_shared", "uncounted_memory",
                                 "io_uring",       "userfaultfd",    "bpf",
                                 "keys",           "namespaces",     "mount",
                                 "root",           "open_by_handle", "outlive_its_parent",
                                 "be_dumped",      "raise_limits",   "send_descriptors",
                                 "console"}) {
    SCOPED_TRACE(name);
    const absl::StatusOr<std::uint64_t> result = Attack(name);
    ASSERT_FALSE(result.ok()) << *result;
    const Failure failure = FailureIn(result.status());
    EXPECT_EQ(failure.kind, Kind::kTrap);
    EXPECT_EQ(failure.signal, SIGSYS);
    guest_ = MakeOne();
    ASSERT_NE(guest_, nullptr);
  }
  EXPECT_NE(access(HOSTILE_FILE, F_OK), 0);
  EXPECT_TRUE(Adds(*guest_));
}

TEST_F(SecondWall, EndsOfTheWorkerAreFailures) {
  struct Row {
    const char* name;
    Kind kind;
    int signal, status;
  };
  constexpr Row kRows[] = {{"crash", Kind::kTrap, SIGILL, 0},
                           {"write_to_null", Kind::kTrap, SIGSEGV, 0},
                           {"exit", Kind::kExited, 0, 9}};
  const std::unique_ptr<Guest> other = MakeOne();
  for (const Row& row : kRows) {
    SCOPED_TRACE(row.name);
    const Failure failure = FailureIn(Attack(row.name).status());
    EXPECT_EQ(failure.kind, row.kind);
    EXPECT_EQ(failure.signal, row.signal);
    EXPECT_EQ(failure.exit_status, row.status);
    EXPECT_EQ(FailureIn(guest_->Load(PLUGIN_CASES)).kind, row.kind);
    EXPECT_EQ(guest_->TakeOutput(), "");
    EXPECT_TRUE(guest_->failure().has_value());
    guest_ = MakeOne();
  }
  EXPECT_TRUE(Adds(*other));
}

// Its own watchdog is gone with the first wall: the host's limit counts.
TEST_F(SecondWall, WorkersThatNeverAnswerAreKilled) {
  Make(absl::Milliseconds(300));
  EXPECT_EQ(FailureIn(Attack("spin").status()).kind, Kind::kTimeout);
  EXPECT_FALSE(Adds(*guest_));
}

// However much it has to say meanwhile. What it writes goes to a pipe that is full, so the next message is there
// whenever the host has done with one.
TEST_F(SecondWall, WorkersThatTalkForEverAreKilled) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
  const runtime::FileDescriptor nobody_reads(ends[0]), full(ends[1]);
  while (write(full.get(), "x", 1) == 1) {
  }
  ASSERT_EQ(fcntl(full.get(), F_SETFL, 0), 0);
  for (const char* const name : {"call_back_for_ever", "output_for_ever"}) {
    SCOPED_TRACE(name);
    policy_ = {.demand = Demand::kTwoWalls,
               .deadline = absl::Seconds(1),
               .load_deadline = absl::Seconds(1),
               .stdout_to = full.get()};
    guest_ = MakeOne();
    ASSERT_NE(guest_, nullptr);
    ASSERT_TRUE(guest_->AddCallback(Asking()).ok());
    const absl::Time start = absl::Now();
    EXPECT_EQ(FailureIn(Attack(name).status()).kind, Kind::kTimeout);
    // Five seconds, on a machine that has nothing else to do.
    EXPECT_LT(absl::Now() - start, absl::Seconds(30));
    EXPECT_FALSE(Adds(*guest_));
  }
}

// Nor does a call come through that another thread makes between a failure and the end of the process.
TEST_F(SecondWall, FailuresStayWhateverTheWorkerAnswersThen) {
  EXPECT_EQ(FailureIn(Attack("fail").status()).signal, SIGSEGV);
  EXPECT_FALSE(Adds(*guest_));
  EXPECT_EQ(guest_->failure().value_or(Failure{}).signal, SIGSEGV);
}

// In a slot of its own, while the host asks for nothing.
TEST_F(SecondWall, WorkersThatWriteForEverUseUpTheirIdleBudget) {
  const runtime::FileDescriptor nowhere(open("/dev/null", O_WRONLY | O_CLOEXEC));
  policy_ = {.demand = Demand::kTwoWalls, .idle_cpu_budget = absl::Milliseconds(100), .stdout_to = nowhere.get()};
  guest_ = MakeOne();
  ASSERT_NE(guest_, nullptr);
  (void)Attack("write_for_ever");
  const absl::Time start = absl::Now();
  std::optional<Failure> failure;
  while (!(failure = guest_->failure()) && absl::Now() - start < absl::Minutes(1)) absl::SleepFor(absl::Milliseconds(20));
  EXPECT_EQ(failure.value_or(Failure{}).kind, Kind::kCpuBudget);
  EXPECT_FALSE(Adds(*guest_));
}

// Where none of the plugin's code runs: the callback would wait for a lock that its own thread has.
TEST_F(SecondWall, WorkersThatCallBackForNoCallAreKilled) {
  ASSERT_TRUE(guest_->AddCallback(Asking()).ok());
  LetItManage("asks_back");
  std::array<std::byte, 100> bytes;
  EXPECT_FALSE(guest_->Read(0x20000, bytes));
  const std::optional<Failure> failure = guest_->failure();
  EXPECT_EQ(failure.value_or(Failure{}).signal, SIGKILL);
  EXPECT_FALSE(Adds(*guest_));
}

// Each answer comes in time, and all of them together never.
TEST_F(SecondWall, WorkersThatAnswerInDropsAreKilled) {
  constexpr std::size_t kMany = 60'000;
  const auto ask = [&](void (*what)(Guest& guest)) {
    guest_ = MakeOne();
    LetItManage("answers_in_drops");
    return std::thread([what, guest = std::move(guest_)] {
      what(*guest);
      EXPECT_EQ(guest->failure().value_or(Failure{}).kind, Kind::kTimeout);
    });
  };
  std::thread askers[] = {
      ask([](Guest& guest) {
        std::vector<std::byte> bytes(kMany);
        EXPECT_FALSE(guest.Read(0x20000, bytes));
      }),
      ask([](Guest& guest) { EXPECT_FALSE(guest.ReadString(0x20000, kMany).ok()); }),
      ask([](Guest& guest) { EXPECT_LT(guest.TakeOutput().size(), 1000u); }),
      ask([](Guest& guest) { EXPECT_LT(guest.Denials().size(), 1000u); }),
  };
  for (std::thread& asker : askers) asker.join();
}

// Whatever it writes into what both sides map, and says out of turn.
TEST_F(SecondWall, LiesAreWrongAnswersAtMost) {
  const std::unique_ptr<Guest> other = MakeOne();
  for (const char* const name : {"scribble", "scribble_messages", "ring"}) {
    SCOPED_TRACE(name);
    const absl::StatusOr<internal::Block> block = guest_->Allocate(4096);
    ASSERT_TRUE(block.ok());
    (void)Attack(name);
    const auto callback = Asking();
    for (int i = 0; i < 300; ++i) {
      (void)Adds(*guest_);
      (void)guest_->AddCallback(callback);
      std::array<std::byte, 100> bytes;
      (void)guest_->Read(0x20000, bytes);
      (void)guest_->ReadString(0x20000, 1000);
      (void)guest_->Denials();
      (void)guest_->TakeOutput();
      (void)guest_->failure();
      block->host()[i] = std::byte{1};
    }
    EXPECT_TRUE(Adds(*other));
    guest_ = MakeOne();
    EXPECT_TRUE(Adds(*guest_));
  }
}

// ---- snapshots of who lies about them -----------------------------------------------------------

class LyingSnapshots : public SecondWall {
 protected:
  // In a worker that has taken an honest one.
  absl::StatusOr<std::shared_ptr<const plugin::InstanceSnapshot>> TakeWith(const std::string& lie) {
    guest_ = MakeOne();
    EXPECT_TRUE(guest_->Snapshot().ok());
    EXPECT_EQ(*guest_->FindSymbol("lie." + lie), kThrough) << lie;
    return guest_->Snapshot();
  }
  // The worker is gone, and the host as it was.
  void ExpectEnded(const absl::Status& status, int signal) {
    const Failure failure = FailureIn(status);
    EXPECT_EQ(failure.kind, Kind::kTrap);
    EXPECT_EQ(failure.signal, signal);
    EXPECT_FALSE(Adds(*guest_));
    EXPECT_TRUE(guest_->failure().has_value());
  }
};

TEST_F(LyingSnapshots, AreNoneWhereNothingIsWrong) {
  const auto taken = TakeWith("none");
  ASSERT_TRUE(taken.ok()) << taken.status();
  const auto clone = plugin::CloneGuest(policy_, **taken);
  ASSERT_TRUE(clone.ok()) << clone.status();
  EXPECT_TRUE(Adds(**clone));
}

TEST_F(LyingSnapshots, WithAnotherLayoutEndTheWorker) {
  for (const char* const lie :
       {"no_threads", "one_thread_twice", "bases_of_the_host", "functions_of_the_host", "names_of_the_host", "heap_beyond",
        "nothing_shared", "shared_elsewhere", "less_shared", "more_shared", "memory_beyond", "contents_nowhere",
        "the_hosts_memory", "a_directory_without_end", "a_descriptor_of_nothing"}) {
    SCOPED_TRACE(lie);
    ExpectEnded(TakeWith(lie).status(), SIGKILL);
  }
  EXPECT_TRUE(Adds(*MakeOne()));
}

TEST_F(LyingSnapshots, WithAnotherTextEndTheWorker) {
  for (const char* const lie : {"nothing_said", "half_of_it", "some_more", "without_end", "noise"}) {
    SCOPED_TRACE(lie);
    ExpectEnded(TakeWith(lie).status(), SIGKILL);
  }
  EXPECT_TRUE(Adds(*MakeOne()));
}

// It could be changed, and cut off, while the host and other workers have it mapped.
TEST_F(LyingSnapshots, InAFileThatIsNotFinalEndTheWorker) {
  for (const char* const lie : {"unsealed", "sealed_half"}) {
    SCOPED_TRACE(lie);
    ExpectEnded(TakeWith(lie).status(), SIGKILL);
  }
}

// The filter has no such call.
TEST_F(LyingSnapshots, InAFileOfAnotherSizeAreNotMade) {
  for (const char* const lie : {"truncated", "grown"}) {
    SCOPED_TRACE(lie);
    const absl::Status status = TakeWith(lie).status();
    EXPECT_FALSE(status.ok());
    EXPECT_EQ(guest_->failure().value_or(Failure{}).signal, SIGSYS) << status;
  }
}

// What is said cannot be told from the truth: clones have what they were given, and the host goes on.
TEST_F(LyingSnapshots, ThatAreTakenAreWrongAnswersAtMost) {
  const auto empty = TakeWith("empty");
  ASSERT_TRUE(empty.ok()) << empty.status();
  const auto clone = plugin::CloneGuest(policy_, **empty);
  if (clone.ok()) {
    EXPECT_FALSE(Adds(**clone));
  }
  int taken = 0;
  for (int round = 0; round < 25; ++round) {
    const auto snapshot = TakeWith("a_word_of_noise:" + std::to_string(round));
    if (!snapshot.ok()) continue;
    ++taken;
    const std::string file = testing::TempDir() + "dunebox-lie-" + std::to_string(getpid());
    EXPECT_TRUE(plugin::SaveSnapshot(**snapshot, file).ok());
    const auto other = plugin::CloneGuest(policy_, **snapshot);
    if (other.ok()) (void)Adds(**other);
    (void)guest_->ReturnTo(**snapshot);
    (void)Adds(*guest_);
    Policy one_wall = policy_;
    one_wall.demand = Demand::kOneWall;
    one_wall.deadline = one_wall.load_deadline = absl::Seconds(2);
    const auto opened = plugin::OpenGuest(one_wall, file);
    unlink(file.c_str());
    if (opened.ok()) (void)Adds(*opened->guest);
  }
  // The dispositions alone are a good part of the text, and any will do.
  EXPECT_GT(taken, 0);
  EXPECT_TRUE(Adds(*MakeOne()));
}

}  // namespace
}  // namespace dunebox
