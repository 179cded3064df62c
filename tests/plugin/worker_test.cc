// The processes behind two walls, and brokers of files: they die with whom they belong to, leave nothing behind, and the
// host's own children and signals are as before.
#include <fcntl.h>
#include <grp.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <iterator>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "sandbox/worker/fork_server.h"
#include "tests/plugin/fixture.h"

namespace dunebox {
namespace {

struct Process {
  pid_t pid, parent;
  char state;
};

// The fork server of this process has a pidfd of it.
bool IsForkServerOf(pid_t host, pid_t server) {
  std::ifstream file("/proc/" + std::to_string(server) + "/fdinfo/4");
  std::string text;
  std::getline(file, text, '\0');
  return text.find("Pid:\t" + std::to_string(host) + "\n") != std::string::npos;
}

// Those that run our executables.
std::vector<Process> All() {
  std::vector<Process> result;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    const std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    std::ifstream file(entry.path() / "stat");
    std::string text;
    std::getline(file, text, '\0');  // empty: it has ended meanwhile
    const std::size_t end = text.rfind(')');
    const bool is_ours = absl::StrContains(text, "dunebox-w") || absl::StrContains(text, "dunebox-b");
    if (end == std::string::npos || !is_ours) continue;
    Process process{.pid = std::atoi(name.c_str()), .parent = 0, .state = ' '};
    if (sscanf(text.c_str() + end + 1, " %c %d", &process.state, &process.parent) == 2) {
      result.push_back(process);
    }
  }
  return result;
}

// The fork server and the workers of `host`, zombies included. Other tests run beside this one.
std::set<pid_t> Of(pid_t host) {
  const std::vector<Process> all = All();
  std::set<pid_t> result;
  for (const Process& process : all) {
    if (IsForkServerOf(host, process.pid)) result.insert(process.pid);
  }
  for (const Process& process : all) {
    if (result.contains(process.parent)) result.insert(process.pid);
  }
  return result;
}

bool IsAlive(pid_t pid) {
  return std::ranges::any_of(
      All(), [&](const Process& process) { return process.pid == pid && process.state != 'Z'; });
}

bool Within10Seconds(const std::function<bool()>& condition) {
  for (int i = 0; i < 1000; ++i) {
    if (condition()) return true;
    usleep(10'000);
  }
  return condition();
}

Policy TwoWalls() { return {.demand = Demand::kTwoWalls, .deadline = absl::Minutes(2)}; }

class Workers : public testing::Test {
 protected:
  static std::unique_ptr<Sandbox> Make() {
    absl::StatusOr<std::unique_ptr<Sandbox>> made = Sandbox::Create(TwoWalls());
    EXPECT_TRUE(made.ok()) << made.status();
    if (!made.ok()) return nullptr;
    EXPECT_TRUE((*made)->Load(PLUGIN_CASES).ok());
    return *std::move(made);
  }
  static int Add(Sandbox& sandbox) {
    auto add = sandbox.Function<int(int, int)>("add");
    if (!add.ok()) return 0;
    const auto sum = (*add)(40, 2);
    return sum.ok() ? sum->UnverifiedValue() : 0;
  }
  // The worker of a sandbox that is made here.
  static std::unique_ptr<Sandbox> Make(pid_t& worker) {
    const std::unique_ptr<Sandbox> first = Make();  // with it, the fork server
    const std::set<pid_t> before = Of(getpid());
    std::unique_ptr<Sandbox> made = Make();
    worker = 0;
    for (const pid_t pid : Of(getpid())) {
      if (!before.contains(pid)) worker = pid;
    }
    return made;
  }
};

TEST_F(Workers, AreKilledWithTheirSandbox) {
  pid_t worker = 0;
  std::unique_ptr<Sandbox> sandbox = Make(worker);
  ASSERT_NE(worker, 0);
  ASSERT_EQ(kill(worker, 0), 0);
  sandbox.reset();
  // Waited for as well: there is no zombie.
  EXPECT_FALSE(Of(getpid()).contains(worker));
}

TEST_F(Workers, ThatAreKilledAreFailuresUntilAReset) {
  pid_t worker = 0;
  const std::unique_ptr<Sandbox> sandbox = Make(worker);
  ASSERT_NE(worker, 0);
  auto spin = sandbox->Function<void()>("spin");
  ASSERT_TRUE(spin.ok());
  absl::Status status;
  std::thread caller([&] { status = (*spin)(); });
  usleep(50'000);
  ASSERT_GT(worker, 0);  // else they would be others
  ASSERT_EQ(kill(worker, SIGKILL), 0);
  caller.join();
  const Failure failure = FailureIn(status);
  EXPECT_EQ(failure.kind, Failure::Kind::kTrap);
  EXPECT_EQ(failure.signal, SIGKILL);
  EXPECT_TRUE(Within10Seconds([&] { return !Of(getpid()).contains(worker); }));
  EXPECT_EQ(Add(*sandbox), 0);
  ASSERT_TRUE(sandbox->Reset().ok());
  EXPECT_EQ(Add(*sandbox), 42);
}

// By another worker, which has the memory that the host holds.
TEST_F(Workers, ThatAreKilledAreReplacedByTheirSnapshot) {
  pid_t worker = 0;
  const std::unique_ptr<Sandbox> sandbox = Make(worker);
  auto next = sandbox->Function<int()>("next");
  auto strlen = sandbox->Function<unsigned long(const char*)>("strlen");
  auto call_back = sandbox->Function<int(int (*)(int), int)>("call_back");
  const auto before = sandbox->MakeString("before"), other = sandbox->MakeString("other");
  ASSERT_TRUE(next.ok() && strlen.ok() && call_back.ok() && before.ok() && other.ok());
  EXPECT_EQ((*next)()->UnverifiedValue(), 1);
  const absl::Status taken = sandbox->Snapshot();
  ASSERT_TRUE(taken.ok()) << taken;
  const auto callback =
      sandbox->Export<int(int)>([](Tainted<int> value) { return value.UnverifiedValue() * 2; });
  const auto after = sandbox->MakeString("after");
  ASSERT_TRUE(callback.ok() && after.ok());
  EXPECT_EQ((*next)()->UnverifiedValue(), 2);
  before->span()[0] = '\0';
  ASSERT_GT(worker, 0);  // else they would be others
  ASSERT_EQ(kill(worker, SIGKILL), 0);
  EXPECT_TRUE(Within10Seconds([&] { return !(*next)().ok(); }));
  for (int round = 0; round < 2; ++round) {  // the second time by the new worker itself
    const absl::Status reset = sandbox->Reset();
    ASSERT_TRUE(reset.ok()) << reset;
    EXPECT_FALSE(sandbox->failure().has_value());
    EXPECT_EQ((*next)()->UnverifiedValue(), 2);
    EXPECT_EQ((*strlen)(*before)->UnverifiedValue(), 6u);
    EXPECT_EQ((*strlen)(*other)->UnverifiedValue(), 5u);
    EXPECT_EQ((*strlen)(*after)->UnverifiedValue(), 0u);
    EXPECT_EQ((*call_back)(*callback, 4)->UnverifiedValue(), 9);
    before->span()[0] = '\0';
  }
}

TEST_F(Workers, OfClonesAreProcessesOfTheirOwn) {
  pid_t worker = 0;
  const std::unique_ptr<Sandbox> sandbox = Make(worker);
  ASSERT_TRUE(sandbox->Snapshot().ok());
  const std::set<pid_t> before = Of(getpid());
  auto clone = sandbox->Clone();
  ASSERT_TRUE(clone.ok()) << clone.status();
  EXPECT_EQ(Of(getpid()).size(), before.size() + 1);
  EXPECT_EQ((*clone)->confinement(), sandbox->confinement());
  ASSERT_GT(worker, 0);  // else they would be others
  ASSERT_EQ(kill(worker, SIGKILL), 0);
  EXPECT_EQ(Add(**clone), 42);
  auto second = (*clone)->Clone();
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_EQ(Add(**second), 42);
}

TEST_F(Workers, EndWithTheForkServerAndANewOneIsStarted) {
  const std::unique_ptr<Sandbox> sandbox = Make();
  for (const pid_t pid : Of(getpid())) {
    if (IsForkServerOf(getpid(), pid)) {
      ASSERT_EQ(kill(pid, SIGKILL), 0);
    }
  }
  EXPECT_TRUE(Within10Seconds([&] { return sandbox->failure().has_value(); }));
  EXPECT_EQ(sandbox->failure()->signal, SIGKILL);
  EXPECT_EQ(Add(*sandbox), 0);
  const absl::Status reset = sandbox->Reset();
  ASSERT_TRUE(reset.ok()) << reset;
  EXPECT_EQ(Add(*sandbox), 42);
}

// An answer that somebody waits for is not the end of who has sent it.
TEST_F(Workers, HaveOneForkServerWhoeverAsksItMeanwhile) {
  const std::shared_ptr<worker::ForkServer> server = *worker::ForkServer::Get();
  std::atomic<bool> is_over = false;
  std::thread other([&] {
    constexpr pid_t kNobodysChild = 1;
    while (!is_over) EXPECT_EQ(server->End(kNobodysChild), std::nullopt);
  });
  bool is_same = true;
  for (int i = 0; is_same && i < 20'000; ++i) {
    const absl::StatusOr<std::shared_ptr<worker::ForkServer>> now = worker::ForkServer::Get();
    is_same = now.ok() && *now == server;
  }
  EXPECT_TRUE(is_same);
  is_over = true;
  other.join();
}

TEST_F(Workers, AreNoChildrenThatTheHostWouldSee) {
  static std::atomic<int> signals;
  signals = 0;
  struct sigaction action {
  }, old{};
  action.sa_handler = [](int) { ++signals; };
  ASSERT_EQ(sigaction(SIGCHLD, &action, &old), 0);
  {
    const std::unique_ptr<Sandbox> sandbox = Make();
    EXPECT_EQ(Add(*sandbox), 42);
    auto end = sandbox->Function<void()>("end");
    EXPECT_FALSE((*end)().ok());
    ASSERT_TRUE(sandbox->Reset().ok());
  }
  errno = 0;
  EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1);
  EXPECT_EQ(errno, ECHILD);
  EXPECT_EQ(waitpid(-1, nullptr, WNOHANG | __WALL), -1);
  sigaction(SIGCHLD, &old, nullptr);
  EXPECT_EQ(signals, 0);
}

constexpr char kAsHost[] = "host", kWithoutPrograms[] = "without-programs", kAsAnotherUser[] = "as-another-user";
constexpr char kFromElsewhere[] = "from-elsewhere";

TEST_F(Workers, DieWithTheHost) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const pid_t host = fork();
  if (host == 0) {
    execl("/proc/self/exe", "worker_test", kAsHost, std::to_string(ends[1]).c_str(), nullptr);
    _exit(1);
  }
  close(ends[1]);
  char byte;
  ASSERT_EQ(read(ends[0], &byte, 1), 1);
  const std::set<pid_t> processes = Of(host);
  EXPECT_EQ(processes.size(), 3u);
  ASSERT_EQ(kill(host, SIGKILL), 0);
  ASSERT_EQ(waitpid(host, nullptr, 0), host);
  EXPECT_TRUE(Within10Seconds([&] { return std::ranges::none_of(processes, IsAlive); }));
  close(ends[0]);
}

// A child of the host's that lives on does not keep them, and ends without harm to them.
TEST_F(Workers, AreNotOfAForkedChild) {
  std::unique_ptr<Sandbox> sandbox = Make();
  const pid_t child = fork();
  if (child == 0) {
    const bool is_refused = Add(*sandbox) == 0 && !sandbox->Reset().ok() &&
                            !Sandbox::Create(TwoWalls()).ok() && sandbox->TakeOutput().empty();
    sandbox.reset();
    _exit(is_refused ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(Add(*sandbox), 42);
}

TEST_F(Workers, OutliveTheThreadThatMadeThem) {
  std::unique_ptr<Sandbox> sandbox;
  std::thread([&] { sandbox = Make(); }).join();
  ASSERT_NE(sandbox, nullptr);
  usleep(20'000);
  EXPECT_EQ(Add(*sandbox), 42);
}

TEST_F(Workers, MemoryOutlivesTheSandbox) {
  std::unique_ptr<Sandbox> sandbox = Make();
  auto memory = sandbox->Allocate<char>(100'000);
  ASSERT_TRUE(memory.ok());
  sandbox.reset();
  std::ranges::fill(memory->span(), 'x');
  EXPECT_EQ(memory->span().back(), 'x');
}

TEST_F(Workers, BeginWithNoDescriptorOfTheHosts) {
  if (geteuid() != 0) GTEST_SKIP() << "only root sees the descriptors of who cannot be traced";
  const int secret = open("/etc/passwd", O_RDONLY);
  const int known = fcntl(secret, F_DUPFD, 100);
  pid_t worker = 0;
  const std::unique_ptr<Sandbox> sandbox = Make(worker);
  ASSERT_NE(worker, 0);
  for (const auto& entry :
       std::filesystem::directory_iterator("/proc/" + std::to_string(worker) + "/fd")) {
    EXPECT_NE(std::filesystem::read_symlink(entry), "/etc/passwd");
  }
  close(secret);
  close(known);
}

// Without one of the two there is no sandbox, and nobody gets one wall for two.
TEST_F(Workers, AreToldOf) {
  const std::unique_ptr<Sandbox> sandbox = Make();
  EXPECT_THAT(sandbox->confinement(), testing::Contains("seccomp"));
  const auto one_wall = Sandbox::Create({}), alone = Sandbox::Create({.file_access = FileAccess::kDirect});
  ASSERT_TRUE(one_wall.ok() && alone.ok());
  EXPECT_THAT((*one_wall)->confinement(), testing::Each(testing::StartsWith("files: ")));
  EXPECT_TRUE((*alone)->confinement().empty());
}

// ---- brokers ------------------------------------------------------------------------------------

Policy Brokered() { return {.deadline = absl::Minutes(2)}; }

// Of this process; the fork server is none.
std::set<pid_t> BrokersHere() {
  std::set<pid_t> result;
  for (const pid_t pid : Of(getpid())) {
    if (!IsForkServerOf(getpid(), pid)) result.insert(pid);
  }
  return result;
}

class Brokers : public PluginTest {
 protected:
  void SetUp() override { Make(Brokered()); }
  // 0 or an errno.
  static int ErrorOfOpening(Sandbox& where, const char* path) {
    auto text = where.MakeString(path);
    auto function = where.Function<int(const char*)>("fail_to_open");
    return text.ok() && function.ok() ? (*function)(*text)->UnverifiedValue() : -1;
  }
};
INSTANTIATE_TEST_SUITE_P(, Brokers, testing::Values(Demand::kOneWall), WallsOf);

// The plugin's libraries came through it, or there would be no sandbox.
TEST_P(Brokers, OpenWhatThePolicyNames) {
  EXPECT_THAT(sandbox->confinement(), testing::Contains("files: seccomp"));
  ASSERT_TRUE(sandbox->Load("/usr/lib/x86_64-linux-gnu/libz.so.1").ok());
  auto fresh = sandbox->MakeString("/tmp/written-by-a-plugin");
  ASSERT_TRUE(fresh.ok());
  EXPECT_EQ(ErrorOfOpening(*sandbox, "/etc/passwd"), EACCES);
  EXPECT_EQ(ErrorOfOpening(*sandbox, "/usr/lib/no-such-file"), ENOENT);
  EXPECT_EQ(Value<int(const char*)>("fail_to_write", *fresh), EACCES);
  const absl::Status status = Call<void(unsigned long, int)>("write_at", 0x10ul, 1);
  EXPECT_THAT(FailureIn(status).symbol, testing::HasSubstr("write_at"));
  ASSERT_TRUE(sandbox->Reset().ok());
  EXPECT_EQ((Value<int(int, int)>("add", 1, 2)), 3);
}

TEST_P(Brokers, AreSharedByThoseWhoMayReadTheSame) {
  const std::set<pid_t> before = BrokersHere();
  ASSERT_GE(before.size(), 1u);
  auto same = Sandbox::Create(Brokered());
  ASSERT_TRUE(same.ok() && (*same)->Load(PLUGIN_CASES).ok());
  EXPECT_EQ(BrokersHere(), before);
  Policy more = Brokered();
  more.readable = {"/etc/passwd"};
  auto other = Sandbox::Create(more);
  ASSERT_TRUE(other.ok() && (*other)->Load(PLUGIN_CASES).ok());
  EXPECT_EQ(BrokersHere().size(), before.size() + 1);
  EXPECT_EQ(ErrorOfOpening(**other, "/etc/passwd"), 0);
  EXPECT_EQ(ErrorOfOpening(**same, "/etc/passwd"), EACCES);
}

TEST_P(Brokers, AreNotThereForThoseWhoOpenNothing) {
  ASSERT_TRUE(sandbox->Snapshot().ok());
  const std::set<pid_t> dead = BrokersHere();
  for (const pid_t pid : dead) {
    ASSERT_EQ(kill(pid, SIGKILL), 0);
    EXPECT_TRUE(Within10Seconds([pid] { return !IsAlive(pid); }));
  }
  auto clone = sandbox->Clone();
  ASSERT_TRUE(clone.ok());
  auto add = (*clone)->Function<int(int, int)>("add");
  ASSERT_TRUE(add.ok());
  EXPECT_EQ((*add)(1, 2)->UnverifiedValue(), 3);
  EXPECT_THAT(BrokersHere(), testing::IsSubsetOf(dead));
  EXPECT_EQ(ErrorOfOpening(**clone, "/usr/lib/os-release"), 0);
  EXPECT_THAT(BrokersHere(), testing::Not(testing::IsSubsetOf(dead)));
}

// Nobody has to wait for it yet.
TEST_P(Brokers, BeginWithTheSandbox) {
  Policy policy = Brokered();
  policy.readable = {"/no-such-directory/" + std::to_string(getpid())};
  const std::set<pid_t> before = BrokersHere();
  const auto made = Sandbox::Create(policy);
  ASSERT_TRUE(made.ok());
  EXPECT_TRUE(Within10Seconds([&] { return BrokersHere().size() == before.size() + 1; }));
}

// What the host has named for one of them has nothing to do with the other, although they have one broker.
TEST_P(Brokers, KeepTheirSandboxesApart) {
  const std::string mine = testing::TempDir() + "dunebox-session-" + std::to_string(getpid()) + ".so";
  std::filesystem::copy_file(PLUGIN_CASES, mine, std::filesystem::copy_options::overwrite_existing);
  auto one = Sandbox::Create(Brokered()), two = Sandbox::Create(Brokered());
  ASSERT_TRUE(one.ok() && two.ok());
  ASSERT_TRUE((*one)->Load(mine).ok());
  ASSERT_TRUE((*two)->Load(PLUGIN_CASES).ok());
  EXPECT_EQ(ErrorOfOpening(**one, mine.c_str()), 0);
  EXPECT_EQ(ErrorOfOpening(**two, mine.c_str()), EACCES);
  auto text = (*two)->MakeString(mine);
  auto status = (*two)->Function<int(const char*)>("fail_to_look");
  ASSERT_TRUE(text.ok() && status.ok());
  EXPECT_EQ((*status)(*text)->UnverifiedValue(), EACCES);
  std::filesystem::remove(mine);
}

// Another is started, which is sent what the host had named.
TEST_P(Brokers, ThatAreGoneAreReplaced) {
  const std::string mine = testing::TempDir() + "dunebox-replaced-" + std::to_string(getpid()) + ".so";
  std::filesystem::copy_file(PLUGIN_CASES, mine, std::filesystem::copy_options::overwrite_existing);
  ASSERT_TRUE(sandbox->Load(mine).ok());
  const std::set<pid_t> before = BrokersHere();
  for (const pid_t pid : before) {
    ASSERT_EQ(kill(pid, SIGKILL), 0);
    EXPECT_TRUE(Within10Seconds([pid] { return !IsAlive(pid); }));
  }
  EXPECT_EQ(ErrorOfOpening(*sandbox, "/usr/lib/os-release"), 0);
  EXPECT_EQ(ErrorOfOpening(*sandbox, mine.c_str()), 0);
  EXPECT_EQ(ErrorOfOpening(*sandbox, "/etc/passwd"), EACCES);
  for (const pid_t pid : BrokersHere()) EXPECT_FALSE(before.contains(pid));
  std::filesystem::remove(mine);
}

// How this program, told so, has ended.
int RunSelf(const char* as, const char* argument = nullptr, const char* executable = "/proc/self/exe") {
  const pid_t child = fork();
  if (child == 0) {
    execl(executable, "worker_test", as, argument, nullptr);
    _exit(127);
  }
  int status = 0;
  return waitpid(child, &status, 0) == child ? status : -1;
}

TEST_P(Brokers, AreNotOfAForkedChild) {
  auto fresh = Sandbox::Create(Brokered());
  ASSERT_TRUE(fresh.ok());
  const pid_t child = fork();
  if (child == 0) {
    const bool is_refused = absl::IsFailedPrecondition((*fresh)->Load(PLUGIN_CASES)) &&
                            absl::IsFailedPrecondition(sandbox->Load(PLUGIN_CASES)) && sandbox->confinement().empty();
    _exit(is_refused ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(ErrorOfOpening(*sandbox, "/usr/lib/os-release"), 0);
}

// It is said, and nothing opens the files instead.
TEST_P(Brokers, ThatCannotBeHadAreRefusals) { EXPECT_EQ(RunSelf(kWithoutPrograms), 0); }

// Nor where that is known only when the plugin's first file is asked for.
TEST_P(Brokers, ThatDoNotComeToLifeAreRefusals) {
  Policy policy = Brokered();
  policy.readable.emplace_back("/usr/lib/os-release");
  rlimit usual{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &usual), 0);
  const auto limit_fork_server = [](const rlimit& limit) {
    for (const pid_t pid : Of(getpid())) {
      if (!IsForkServerOf(getpid(), pid)) continue;
      EXPECT_EQ(prlimit(pid, RLIMIT_NOFILE, &limit, nullptr), 0);
    }
  };
  limit_fork_server({.rlim_cur = 4, .rlim_max = usual.rlim_max});  // fewer than it has already
  auto fresh = Sandbox::Create(policy), another = Sandbox::Create(policy);
  ASSERT_TRUE(fresh.ok() && another.ok());
  const absl::Status refused = (*fresh)->Load(PLUGIN_CASES);
  limit_fork_server(usual);
  EXPECT_TRUE(absl::IsUnavailable(refused) && absl::StrContains(refused.message(), "FileAccess::kDirect")) << refused;
  const absl::Status loaded = (*another)->Load(PLUGIN_CASES);
  EXPECT_TRUE(loaded.ok()) << loaded;
}

// A host whose own file is gone, or is another by now, has the executables still.
TEST_P(Brokers, NeedNoFileOfTheHosts) {
  const std::string self = testing::TempDir() + "dunebox-host-" + std::to_string(getpid());
  std::filesystem::copy_file("/proc/self/exe", self, std::filesystem::copy_options::overwrite_existing);
  EXPECT_EQ(RunSelf(kFromElsewhere, self.c_str(), self.c_str()), 0);
  std::filesystem::remove(self);
}

// A host that has given up its rights has given up its broker's.
TEST_P(Brokers, HaveNoMoreRightsThanTheHost) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can become another user";
  const std::filesystem::path directory = testing::TempDir() + "dunebox-rights-" + std::to_string(getpid());
  std::filesystem::create_directory(directory);
  std::filesystem::copy_file(PLUGIN_CASES, directory / "cases.so");
  std::ofstream(directory / "secret") << "root's";
  ASSERT_EQ(chmod((directory / "secret").c_str(), 0600), 0);
  EXPECT_EQ(RunSelf(kAsAnotherUser, directory.c_str()), 0);
  std::filesystem::remove_all(directory);
}

// The answer that comes too late is not the next question's.
TEST_P(Brokers, ThatDoNotAnswerAreWaitedForUntilTheDeadline) {
  Policy policy = Brokered();
  policy.deadline = absl::Seconds(1);
  Make(policy);
  ASSERT_TRUE(sandbox->Snapshot().ok());
  const auto file = sandbox->MakeString("/usr/lib/os-release"), secret = sandbox->MakeString("/etc/passwd");
  ASSERT_TRUE(file.ok() && secret.ok());
  const std::set<pid_t> brokers = BrokersHere();
  ASSERT_FALSE(brokers.empty());
  for (int round = 0; round < 2; ++round) {
    for (const pid_t broker : brokers) ASSERT_EQ(kill(broker, SIGSTOP), 0);
    const auto opened = Call<int(const char*)>("fail_to_open", *file);
    for (const pid_t broker : brokers) ASSERT_EQ(kill(broker, SIGCONT), 0);
    EXPECT_EQ(FailureIn(opened.status()).kind, Failure::Kind::kTimeout);
    ASSERT_TRUE(sandbox->Reset().ok());
    std::memcpy(secret->span().data(), "/etc/passwd", sizeof("/etc/passwd"));
    std::memcpy(file->span().data(), "/usr/lib/os-release", sizeof("/usr/lib/os-release"));
    EXPECT_EQ(Value<int(const char*)>("fail_to_open", *secret), EACCES);
    EXPECT_EQ(Value<int(const char*)>("fail_to_open", *file), 0);
  }
}

// The process that Workers.DieWithTheHost kills. It says so when its workers are there.
int BeHost(int ready) {
  const auto sandbox = Sandbox::Create(TwoWalls()), another = Sandbox::Create(TwoWalls());
  if (!sandbox.ok() || !another.ok() || !(*sandbox)->Load(PLUGIN_CASES).ok()) return 1;
  auto spin = (*sandbox)->Function<void()>("spin");
  if (!spin.ok() || write(ready, "x", 1) != 1) return 1;
  return (*spin)().ok() ? 0 : 1;
}

// The process of Brokers.ThatCannotBeHadAreRefusals. How many things were not as they should be.
int LoadWithoutPrograms() {
  sock_filter instructions[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_execveat, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program{.len = std::size(instructions), .filter = instructions};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) return 1;
  const auto load = [](FileAccess access) {
    auto sandbox = Sandbox::Create({.file_access = access});
    return sandbox.ok() ? (*sandbox)->Load(PLUGIN_CASES) : sandbox.status();
  };
  const absl::Status refused = load(FileAccess::kBroker), direct = load(FileAccess::kDirect);
  std::cerr << refused << '\n' << direct << '\n';
  return (absl::IsUnavailable(refused) ? 0 : 1) + (absl::StrContains(refused.message(), "FileAccess::kDirect") ? 0 : 1) +
         (direct.ok() ? 0 : 1);
}

// The process of Brokers.NeedNoFileOfTheHosts: brokers and workers of executables that lie in its memory alone.
int LoadFromElsewhere(const char* self) {
  std::filesystem::remove(self);
  std::ofstream(self) << "no executable";
  for (const Demand demand : {Demand::kOneWall, Demand::kTwoWalls}) {
    auto sandbox = Sandbox::Create({.demand = demand});
    const absl::Status status = sandbox.ok() ? (*sandbox)->Load(PLUGIN_CASES) : sandbox.status();
    if (!status.ok()) {
      std::cerr << status << '\n';
      return 1;
    }
  }
  return 0;
}

// The process of Brokers.HaveNoMoreRightsThanTheHost.
int BecomeAnotherUser(const std::string& directory) {
  const std::string secret = directory + "/secret";
  // -1: it cannot be asked.
  const auto open = [&] {
    auto sandbox = Sandbox::Create({.readable = {secret}});
    if (!sandbox.ok() || !(*sandbox)->Load(directory + "/cases.so").ok()) return -1;
    auto text = (*sandbox)->MakeString(secret);
    auto function = (*sandbox)->Function<int(const char*)>("fail_to_open");
    return text.ok() && function.ok() ? (*function)(*text)->UnverifiedValue() : -1;
  };
  const int before = open();
  constexpr uid_t kNobody = 65534;
  if (setgroups(0, nullptr) != 0 || setgid(kNobody) != 0 || setuid(kNobody) != 0) return 1;
  const int after = open();
  std::cerr << before << ' ' << after << '\n';
  return before == 0 && after == EACCES ? 0 : 1;
}

}  // namespace
}  // namespace dunebox

int main(int argc, char** argv) {
  if (argc == 3 && std::string(argv[1]) == dunebox::kAsHost) return dunebox::BeHost(std::atoi(argv[2]));
  if (argc == 2 && std::string(argv[1]) == dunebox::kWithoutPrograms) return dunebox::LoadWithoutPrograms();
  if (argc == 3 && std::string(argv[1]) == dunebox::kFromElsewhere) return dunebox::LoadFromElsewhere(argv[2]);
  if (argc == 3 && std::string(argv[1]) == dunebox::kAsAnotherUser) return dunebox::BecomeAnotherUser(argv[2]);
  testing::InitGoogleMock(&argc, argv);
  return RUN_ALL_TESTS();
}
