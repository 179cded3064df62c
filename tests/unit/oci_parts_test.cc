// What the commands for container engines are made of, without a container.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "sandbox/oci/attributes.h"
#include "sandbox/oci/cgroups.h"
#include "sandbox/oci/channel.h"
#include "sandbox/oci/commands.h"
#include "sandbox/oci/features.h"
#include "sandbox/oci/hooks.h"
#include "sandbox/oci/log.h"
#include "sandbox/oci/state.h"

namespace dunebox::oci {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class OciFiles : public ::testing::Test {
 protected:
  OciFiles() {
    char name[] = "/tmp/oci-test-XXXXXX";
    root_ = mkdtemp(name);
  }
  ~OciFiles() override { std::filesystem::remove_all(root_); }

  std::string ReadBack(const std::string& name) const {
    std::ifstream file(root_ + "/" + name);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
  }
  std::string root_;
};

State StateOfThisProcess(Status status) {
  return {.version = "1.0.2",
          .id = "a",
          .status = status,
          .process = *ProcessIdentity::Of(getpid()),
          .bundle = "/b",
          .created = "now",
          .annotations = {{"k", "v"}}};
}

using OciState = OciFiles;

TEST_F(OciState, AnIdIsOneContainer) {
  ASSERT_TRUE(ContainerDirectory::Make(root_, "a").ok());
  const auto again = ContainerDirectory::Make(root_, "a");
  EXPECT_TRUE(absl::IsAlreadyExists(again.status()));
  EXPECT_TRUE(absl::IsNotFound(ContainerDirectory::Open(root_, "b").status()));
}

TEST_F(OciState, AnIdIsNoPath) {
  for (const char* const id : {"", ".", "..", "a/b", "../a", "a b", "a\n"}) {
    EXPECT_FALSE(CheckId(id).ok()) << id;
  }
  EXPECT_TRUE(CheckId("web_1.2+x-Y").ok());
  EXPECT_FALSE(CheckId(std::string(256, 'a')).ok());
}

TEST_F(OciState, WhatIsSavedIsLoaded) {
  const auto directory = ContainerDirectory::Make(root_, "a");
  State state = StateOfThisProcess(Status::kRunning);
  state.cgroups = {"/x", "/y"};
  ASSERT_TRUE(directory->Save(state).ok());
  const auto loaded = directory->Load();
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->status, Status::kRunning);
  EXPECT_EQ(loaded->process.pid, getpid());
  EXPECT_EQ(loaded->annotations, state.annotations);
  EXPECT_EQ(loaded->cgroups, state.cgroups);
  EXPECT_EQ(ContainerDirectory::List(root_).size(), 1U);
  EXPECT_TRUE(directory->Remove().ok());
  EXPECT_TRUE(ContainerDirectory::List(root_).empty());
}

TEST_F(OciState, AnotherProcessWithTheSameIdIsNotTheContainer) {
  const auto directory = ContainerDirectory::Make(root_, "a");
  State state = StateOfThisProcess(Status::kRunning);
  ++state.process.start_time;
  ASSERT_TRUE(directory->Save(state).ok());
  EXPECT_EQ(directory->Load()->status, Status::kStopped);
}

TEST_F(OciState, AZombieHasStopped) {
  const pid_t child = fork();
  if (child == 0) _exit(0);
  siginfo_t info;
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT), 0);
  const auto process = ProcessIdentity::Of(child);
  ASSERT_TRUE(process.has_value());
  EXPECT_FALSE(process->IsAlive());
  waitpid(child, nullptr, 0);
}

TEST_F(OciState, ADamagedStateIsAnError) {
  const auto directory = ContainerDirectory::Make(root_, "a");
  std::ofstream(root_ + "/a/state.json") << R"({"id": 3})";
  EXPECT_FALSE(directory->Load().ok());
}

// As by a command that was about to change it while others removed it and made another one.
TEST_F(OciState, AContainerThatWasRemovedIsNotTheNextOneWithItsId) {
  const auto old = ContainerDirectory::Make(root_, "a");
  ASSERT_TRUE(old->Save(StateOfThisProcess(Status::kRunning)).ok());
  ASSERT_TRUE(old->SaveConfig("{}").ok());
  const auto late = ContainerDirectory::Open(root_, "a");
  ASSERT_TRUE(late.ok() && old->Remove().ok());
  const auto next = ContainerDirectory::Make(root_, "a");
  ASSERT_TRUE(next.ok());
  EXPECT_TRUE(late->Remove().ok());
  EXPECT_TRUE(std::filesystem::exists(root_ + "/a"));
  ASSERT_TRUE(next->Save(StateOfThisProcess(Status::kCreated)).ok());
  ASSERT_TRUE(next->SaveConfig("{}").ok());
  EXPECT_TRUE(absl::IsNotFound(late->Load().status())) << late->Load().status();
  EXPECT_TRUE(absl::IsNotFound(late->LoadConfig().status()));
  EXPECT_TRUE(absl::IsNotFound(late->Lock().status()));
  EXPECT_EQ(next->Load()->status, Status::kCreated);
}

TEST_F(OciState, WhoWaitedForTheLockOfARemovedContainerHasNone) {
  const auto directory = ContainerDirectory::Make(root_, "a");
  auto lock = directory->Lock();
  ASSERT_TRUE(lock.ok());
  absl::Status waited;
  std::thread waiter([&] { waited = ContainerDirectory::Open(root_, "a")->Lock().status(); });
  // Both do: that it waits by then, and that it comes later.
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  EXPECT_TRUE(directory->Remove().ok());
  lock = absl::CancelledError();
  waiter.join();
  EXPECT_TRUE(absl::IsNotFound(waited)) << waited;
}

TEST(OciStateJson, HasWhatTheSpecificationNames) {
  const auto running = nlohmann::json::parse(StateJson(StateOfThisProcess(Status::kRunning)));
  EXPECT_EQ(running["ociVersion"], "1.0.2");
  EXPECT_EQ(running["id"], "a");
  EXPECT_EQ(running["status"], "running");
  EXPECT_EQ(running["pid"], getpid());
  EXPECT_EQ(running["bundle"], "/b");
  EXPECT_EQ(running["annotations"]["k"], "v");
  const auto stopped = nlohmann::json::parse(StateJson(StateOfThisProcess(Status::kStopped)));
  EXPECT_FALSE(stopped.contains("pid"));
}

using OciLog = OciFiles;

TEST_F(OciLog, JsonIsOneObjectALine) {
  const auto log = Log::Open(root_ + "/log", LogFormat::kJson);
  ASSERT_TRUE(log.ok());
  log->Warning("a \"word\"\n\xff");
  const auto line = nlohmann::json::parse(ReadBack("log"));
  EXPECT_EQ(line["level"], "warning");
  EXPECT_THAT(line["msg"].get<std::string>(), HasSubstr("a \"word\"\n"));
}

using OciHooks = OciFiles;

Hook Shell(const std::string& script) { return {.path = "/bin/sh", .args = {"sh", "-c", script}}; }

TEST_F(OciHooks, RunInOrderWithTheStateOnStandardInput) {
  Hooks hooks;
  hooks.all[static_cast<std::size_t>(HookPoint::kPoststart)] = {
      Shell("cat >" + root_ + "/out"), Shell("echo two >>" + root_ + "/out")};
  EXPECT_TRUE(RunHooks(hooks, HookPoint::kPoststart, "state ").ok());
  EXPECT_EQ(ReadBack("out"), "state two\n");
}

TEST_F(OciHooks, TheFirstThatFailsEndsTheRow) {
  Hooks hooks;
  hooks.all[static_cast<std::size_t>(HookPoint::kPrestart)] = {Shell("exit 3"),
                                                               Shell("echo >" + root_ + "/out")};
  const absl::Status status = RunHooks(hooks, HookPoint::kPrestart, "{}");
  EXPECT_EQ(status.message(), "hook prestart (/bin/sh): exit status 3");
  EXPECT_FALSE(std::filesystem::exists(root_ + "/out"));
}

TEST_F(OciHooks, OneThatTakesTooLongIsEnded) {
  Hook hook = Shell("sleep 60");
  hook.timeout = 1;
  Hooks hooks;
  hooks.all[static_cast<std::size_t>(HookPoint::kPoststop)] = {hook};
  EXPECT_TRUE(absl::IsDeadlineExceeded(RunHooks(hooks, HookPoint::kPoststop, "{}")));
}

// The file with the state gets the last descriptor that there may be.
TEST_F(OciHooks, OneWhoseTimeCannotBeWatchedIsAnErrorAndNotTooLate) {
  rlimit limit;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  const int next = dup(STDIN_FILENO);
  ASSERT_GE(next, 0);
  close(next);
  const rlimit few{.rlim_cur = static_cast<rlim_t>(next) + 1, .rlim_max = limit.rlim_max};
  Hook hook = Shell("exit 0");
  hook.timeout = 3;
  Hooks timed, others;
  timed.all[static_cast<std::size_t>(HookPoint::kPoststop)] = {hook};
  others.all[static_cast<std::size_t>(HookPoint::kPoststop)] = {Shell("exit 0")};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
  const absl::Status watched = RunHooks(timed, HookPoint::kPoststop, "{}");
  const bool is_told = !watched.ok() && !absl::IsDeadlineExceeded(watched);
  const absl::Status waited = is_told ? RunHooks(others, HookPoint::kPoststop, "{}") : watched;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
  EXPECT_THAT(std::string(watched.message()), HasSubstr("cannot be watched"));
  EXPECT_TRUE(waited.ok()) << waited;  // without a limit there is nothing to watch
}

TEST(OciCgroups, LimitsInTheUnifiedLayout) {
  const Resources resources{
      .memory = 1000, .memory_and_swap = 1500, .pids = 20, .cpu_shares = 1024, .cpu_quota = 50'000};
  EXPECT_THAT(
      *CgroupFiles(resources, CgroupLayout::kUnified),
      ElementsAre(CgroupFile{"memory", "memory.max", "1000"},
                  CgroupFile{"memory", "memory.swap.max", "500"},
                  CgroupFile{"pids", "pids.max", "20"}, CgroupFile{"cpu", "cpu.weight", "39"},
                  CgroupFile{"cpu", "cpu.max", "50000 100000"}));
}

TEST(OciCgroups, LimitsWithATreeForEachController) {
  const Resources resources{
      .memory = -1, .pids = -1, .cpu_period = 1000, .cpu_quota = 500, .cpus = "0-1"};
  EXPECT_THAT(*CgroupFiles(resources, CgroupLayout::kPerController),
              ElementsAre(CgroupFile{"memory", "memory.limit_in_bytes", "-1"},
                          CgroupFile{"pids", "pids.max", "max"},
                          CgroupFile{"cpu", "cpu.cfs_period_us", "1000"},
                          CgroupFile{"cpu", "cpu.cfs_quota_us", "500"},
                          CgroupFile{"cpuset", "cpuset.cpus", "0-1"}));
  EXPECT_FALSE(CgroupFiles({.unified = {{"memory.max", "1"}}}, CgroupLayout::kPerController).ok());
}

TEST(OciCgroups, SwapBelowTheLimitIsRefused) {
  EXPECT_FALSE(CgroupFiles({.memory = 10, .memory_and_swap = 5}, CgroupLayout::kUnified).ok());
}

TEST(OciCgroups, APathStaysBelowTheTop) {
  EXPECT_EQ(*CgroupPath("", "a"), "/dunebox/a");
  EXPECT_EQ(*CgroupPath("x/y", "a"), "/x/y");
  for (const char* const path : {"/x/../../y", "/", "//", "/.", "."}) {
    EXPECT_FALSE(CgroupPath(path, "a").ok()) << path;
  }
  EXPECT_THAT(std::string(CgroupPath("system.slice:podman:a", "a").status().message()),
              HasSubstr("systemd"));
}

// As a container's program may that sees its groups: a group of its own below them, where no list of theirs has it.
TEST(OciCgroups, WhatIsInAGroupBelowEndsWithThem) {
  const std::string path = "/dunebox-test-" + std::to_string(getpid());
  const auto groups = Cgroups::Create(HostCgroups::OfThisMachine(), path, {});
  if (!groups.ok() || groups->directories().empty()) GTEST_SKIP() << "no control groups: " << groups.status();
  std::vector<std::string> below;
  for (const std::string& directory : groups->directories()) below.push_back(directory + "/below");
  // That controller wants its settings first.
  std::erase_if(below, [](const std::string& name) { return name.find("/cpuset/") != std::string::npos; });
  for (const std::string& directory : below) std::filesystem::create_directory(directory);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    alarm(60);
    for (;;) pause();
  }
  EXPECT_TRUE(groups->Enter(child).ok());
  EXPECT_TRUE(Cgroups(below).Enter(child).ok());
  const absl::Status ended = groups->End();
  EXPECT_TRUE(ended.ok()) << ended;
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, WNOHANG), child) << "it still runs";
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << status;
  for (const std::string& directory : groups->directories()) {
    EXPECT_FALSE(std::filesystem::exists(directory)) << directory;
  }
  EXPECT_TRUE(groups->End().ok()) << "there is nothing to end";
  kill(child, SIGKILL);
}

TEST(OciChannel, TheDeathOfTheOtherSideIsAnError) {
  auto pair = ChannelPair::Make();
  ASSERT_TRUE(pair.ok());
  EXPECT_TRUE(pair->one.Send({Step::kFailed, "why"}));
  EXPECT_EQ(pair->other.Expect(Step::kReady).message(), "why");
  { const Channel closed = std::move(pair->one); }
  EXPECT_FALSE(pair->other.Receive().ok());
}

TEST(OciCommand, SignalsByNameAndNumber) {
  EXPECT_EQ(SignalFrom("9"), SIGKILL);
  EXPECT_EQ(SignalFrom("KILL"), SIGKILL);
  EXPECT_EQ(SignalFrom("SIGTERM"), SIGTERM);
  EXPECT_EQ(SignalFrom("RTMIN+1"), SIGRTMIN + 1);
  for (const char* const name : {"", "0", "-9", "65", "X", "SIG", "RTMIN+99"}) {
    EXPECT_EQ(SignalFrom(name), std::nullopt) << name;
  }
}

TEST(OciAttributes, TheHomeOfAUser) {
  const std::string passwd =
      "root:x:0:0:root:/root:/bin/sh\nme:x:1000:1000::/home/me:/bin/sh\nbad:x:7\n";
  EXPECT_EQ(HomeOf(1000, passwd), "/home/me");
  EXPECT_EQ(HomeOf(7, passwd), "/");
  EXPECT_EQ(HomeOf(5, ""), "/");
}

TEST(OciFeatures, AreJsonAndNameTheTables) {
  const auto features = nlohmann::json::parse(FeaturesJson());
  EXPECT_THAT(features["hooks"].dump(), HasSubstr("createRuntime"));
  EXPECT_FALSE(features["linux"]["cgroup"]["systemd"].get<bool>());
  EXPECT_THAT(features["mountOptions"].dump(), HasSubstr("\"ro\""));
}

}  // namespace
}  // namespace dunebox::oci
