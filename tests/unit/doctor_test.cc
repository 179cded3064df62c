#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/seccomp.h>
#include <sys/personality.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "runtime/doctor/checks.h"
#include "runtime/doctor/report.h"

namespace dunebox::doctor {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr int kDescriptor = 77;

// A /dev/kvm that only opens and answers one question.
class FakeDevice : public kvm::KvmApi {
 public:
  int open_result = kDescriptor;
  int version = 12;
  int open_descriptors = 0;

  using kvm::KvmApi::Ioctl;
  int OpenDevice() override {
    if (open_result >= 0) ++open_descriptors;
    return open_result;
  }
  int Ioctl(int, unsigned long, void*) override { return version; }
  int Run(int) override { return -ENOSYS; }
  void* MapRunArea(int, std::size_t, int*) override { return nullptr; }
  void UnmapRunArea(void*, std::size_t) override {}
  void Close(int) override { --open_descriptors; }
};

kvm::Probe HardwareProbe() {
  kvm::Probe probe;
  probe.ring0 = kvm::Ring0::kNative;
  probe.syscall_entry = kvm::SyscallEntry::kRing0;
  probe.sysret_works = true;
  probe.paging = kvm::Paging::kTwoDimensional;
  return probe;
}

// A good machine: a test spoils what it is about.
confinement::MechanismSet AllNamespaces() {
  confinement::MechanismSet all;
  for (int i = 0; i < confinement::kMechanismCount; ++i) {
    all.Add(static_cast<confinement::Mechanism>(i));
  }
  return all;
}

class DoctorTest : public ::testing::Test {
 protected:
  DoctorTest() {
    std::string pattern = ::testing::TempDir() + "/doctor_test_XXXXXX";
    directory_ = mkdtemp(pattern.data());
    host.cpuinfo_path = Write("cpuinfo",
                              "processor\t: 0\n"
                              "model name\t: Fast Processor 9000\n"
                              "flags\t\t: fpu fsgsbase avx512f pku ospke svm npt\n"
                              "\n"
                              "processor\t: 1\n"
                              "model name\t: Another\n");
    host.group_path = Write("group", "root:x:0:\nkvm:x:104:someone\nusers:x:100:\n");
    host.sysctl_directory = directory_;
    host.kvm_path = directory_ + "/kvm";
    WriteSysctl("vm/max_map_count", "65530\n");
    WriteSysctl("vm/mmap_min_addr", "65536\n");
    WriteSysctl("vm/legacy_va_layout", "0\n");
    host.kernel = [] { return KernelIdentity{.release = "6.18.2-amd64", .machine = "x86_64"}; };
    host.kvm = &device;
    host.probe = [] { return HardwareProbe(); };
    host.translation = [] { return absl::OkStatus(); };
    host.isolation = [](jit::Isolation) { return absl::OkStatus(); };
    host.prepared = [](jit::Isolation) { return absl::NotFoundError("none"); };
    host.protection_key = [] { return 0; };
    host.landlock_abi = [] { return 7; };
    host.user_namespace = [] { return 0; };
    host.namespaces = [] { return AllNamespaces(); };
    host.seccomp_action = [](std::uint32_t) { return 0; };
    host.limit = [](int resource) {
      return resource == RLIMIT_STACK ? rlimit{8u << 20, RLIM_INFINITY} : rlimit{1024, 524288};
    };
    host.personality = [] { return std::uint32_t{0}; };
    host.maps_path = Write("maps", "555555554000-555555580000 r-xp 00000000 00:1b 1 /dunebox\n");
  }
  ~DoctorTest() override { std::filesystem::remove_all(directory_); }

  std::string Write(const std::string& name, const std::string& text) {
    std::string path = directory_ + "/" + name;
    std::ofstream(path) << text;
    return path;
  }
  void WriteSysctl(const std::string& name, const std::string& text) {
    std::filesystem::create_directories(
        (directory_ + "/" + name).substr(0, (directory_ + "/" + name).rfind('/')));
    Write(name, text);
  }
  // A file that stands for /dev/kvm; only its mode and owner matter.
  void MakeDeviceFile(mode_t mode) {
    Write("kvm", "");
    ASSERT_EQ(chmod(host.kvm_path.c_str(), mode), 0);
    device.open_result = -EACCES;
  }

  FakeDevice device;
  Host host;

 private:
  std::string directory_;
};

TEST_F(DoctorTest, AGoodMachineNeedsNothingButAnIsolatedJit) {
  const Report report = Examine(host);
  for (const Check& check : report.checks) {
    if (check.name == "engine jit") continue;
    EXPECT_EQ(check.state, State::kOk) << check.name << ": " << check.found;
    EXPECT_THAT(check.advice, IsEmpty()) << check.name;
  }
  EXPECT_EQ(report.engine.engine, "kvm");
  EXPECT_EQ(device.open_descriptors, 0);
}

TEST_F(DoctorTest, WhateverIsNotOkComesWithAdvice) {
  device.open_result = -ENOENT;
  host.probe = [] { return absl::NotFoundError("/dev/kvm: no such device"); };
  host.translation = [] { return absl::UnavailableError("--engine=jit needs FSGSBASE"); };
  host.isolation = [](jit::Isolation) { return absl::UnavailableError("no BMI2"); };
  host.kernel = [] { return KernelIdentity{}; };
  host.cpuinfo_path = "/nonexistent";
  host.sysctl_directory = "/nonexistent";
  host.protection_key = host.landlock_abi = host.user_namespace = [] { return -ENOSYS; };
  host.namespaces = [] { return absl::PermissionDeniedError("not permitted"); };
  host.seccomp_action = [](std::uint32_t) { return -EINVAL; };
  host.limit = [](int) { return rlimit{RLIM_INFINITY, 100}; };
  host.personality = [] { return std::uint32_t{ADDR_COMPAT_LAYOUT}; };
  for (const Check& check : Examine(host).checks) {
    if (check.name == "default rights" || check.name == "prepared code") continue;  // of every machine
    EXPECT_NE(check.state, State::kOk) << check.name << ": " << check.found;
    EXPECT_THAT(check.advice, Not(IsEmpty())) << check.name;
    EXPECT_THAT(check.found, Not(IsEmpty())) << check.name;
  }
}

TEST_F(DoctorTest, AnOldOrUnreadableKernelIsAWarning) {
  EXPECT_EQ(CheckKernel(host).found, "Linux 6.18.2-amd64 x86_64");
  for (const char* release : {"5.10.0-28-amd64", "6.0.19", "4", "4.", "six.one", ""}) {
    host.kernel = [=] { return KernelIdentity{.release = release, .machine = "x86_64"}; };
    EXPECT_EQ(CheckKernel(host).state, State::kWarning) << release;
    EXPECT_THAT(CheckKernel(host).advice, HasSubstr("6.1"));
  }
  for (const char* release : {"6.1", "6.1.0-18-amd64", "7.0-rc1", "10.0.0"}) {
    host.kernel = [=] { return KernelIdentity{.release = release, .machine = "x86_64"}; };
    EXPECT_EQ(CheckKernel(host).state, State::kOk) << release;
  }
}

TEST_F(DoctorTest, AnotherArchitectureCannotRunAnything) {
  host.kernel = [] { return KernelIdentity{.release = "6.18.0", .machine = "aarch64"}; };
  EXPECT_EQ(CheckKernel(host).state, State::kMissing);
}

TEST_F(DoctorTest, TheProcessorIsNamedByItsFirstModelName) {
  EXPECT_EQ(CheckProcessor(host).found, "Fast Processor 9000");
}

TEST_F(DoctorTest, FeaturesAreWholeWordsOfTheFlags) {
  EXPECT_EQ(CheckProcessorFeatures(host).found, "fsgsbase avx512f pku ospke");
  host.cpuinfo_path = Write("other", "flags\t\t: fsgsbase2 avx512f\n");
  const Check check = CheckProcessorFeatures(host);
  EXPECT_EQ(check.found, "avx512f; absent: fsgsbase pku ospke");
  EXPECT_EQ(check.state, State::kWarning);
  EXPECT_THAT(check.advice, HasSubstr("nofsgsbase"));
}

TEST_F(DoctorTest, ProtectionKeysTheKernelWasToldToIgnoreAreAWarning) {
  host.cpuinfo_path = Write("other", "flags\t\t: fsgsbase avx512f pku");
  EXPECT_THAT(CheckProcessorFeatures(host).advice, HasSubstr("nopku"));
  host.protection_key = [] { return -EINVAL; };
  EXPECT_EQ(CheckProtectionKeys(host).state, State::kWarning);
}

TEST_F(DoctorTest, VirtualizationFlagsTellVendorsApart) {
  EXPECT_THAT(CheckVirtualizationFlags(host).found, HasSubstr("AMD-V"));
  host.cpuinfo_path = Write("other", "flags : vmx fsgsbase\n");
  EXPECT_THAT(CheckVirtualizationFlags(host).found, HasSubstr("VT-x"));
  host.cpuinfo_path = Write("other", "flags : fsgsbase\n");
  EXPECT_EQ(CheckVirtualizationFlags(host).state, State::kWarning);
}

TEST_F(DoctorTest, AMissingKvmMeansEngineJitAndSaysWhichModuleToLoad) {
  device.open_result = -ENOENT;
  host.probe = [] { return absl::NotFoundError("/dev/kvm: no such device"); };
  const Report report = Examine(host);
  EXPECT_EQ(report.engine.engine, "jit");
  EXPECT_THAT(report.engine.reason, HasSubstr("/dev/kvm: no such device"));
  const Check check = CheckKvmDevice(host);
  EXPECT_EQ(check.state, State::kMissing);
  EXPECT_THAT(check.advice, AllOf(HasSubstr("modprobe"), HasSubstr("--device=/dev/kvm")));
}

TEST_F(DoctorTest, AForbiddenKvmOfAGroupSaysWhichGroupToJoin) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root: gives a file to another group";
  MakeDeviceFile(0660);
  ASSERT_EQ(chown(host.kvm_path.c_str(), 0, 104), 0);
  const Check check = CheckKvmDevice(host);
  EXPECT_EQ(check.state, State::kMissing);
  EXPECT_EQ(check.found, "forbidden: mode 0660, owner 0, group kvm");
  EXPECT_THAT(check.advice, HasSubstr("usermod -aG kvm"));
}

TEST_F(DoctorTest, AForbiddenKvmOfModeZeroIsNotCuredByAGroup) {
  MakeDeviceFile(0);
  const Check check = CheckKvmDevice(host);
  EXPECT_EQ(check.state, State::kMissing);
  EXPECT_THAT(check.found, HasSubstr("mode 0000"));
  EXPECT_THAT(check.advice, HasSubstr("setfacl"));
}

TEST_F(DoctorTest, OtherWaysInWhichKvmIsUnusableAreToldApart) {
  device.open_result = -ENODEV;
  EXPECT_THAT(CheckKvmDevice(host).found, HasSubstr("without a driver"));
  device.open_result = -EMFILE;
  EXPECT_THAT(CheckKvmDevice(host).found, HasSubstr("Too many open files"));
  device.open_result = kDescriptor;
  device.version = 11;
  EXPECT_THAT(CheckKvmDevice(host).found, HasSubstr("11"));
  EXPECT_EQ(CheckKvmDevice(host).state, State::kMissing);
  device.version = -ENOTTY;
  EXPECT_EQ(CheckKvmDevice(host).state, State::kMissing);
  EXPECT_EQ(device.open_descriptors, 0);
}

TEST_F(DoctorTest, AnEmulatedKvmRunsProgramsButIsAWarning) {
  const Check check = CheckKvmProbe(kvm::Probe{});
  EXPECT_EQ(check.state, State::kWarning);
  EXPECT_THAT(check.found, HasSubstr(kvm::Probe{}.verdict()));
  host.probe = [] { return kvm::Probe{}; };
  host.translation = [] { return absl::UnavailableError("no FSGSBASE"); };
  EXPECT_EQ(Examine(host).engine.engine, "kvm");
}

TEST_F(DoctorTest, AutoTakesJitWhereTheProcessorHasNoVirtualization) {
  host.cpuinfo_path = Write("other", "model name : x\nflags : fsgsbase avx512f pku ospke\n");
  host.probe = [] { return kvm::Probe{}; };
  EXPECT_EQ(Examine(host).engine.engine, "jit");
  EXPECT_THAT(Examine(host).engine.reason, HasSubstr("no virtualization hardware"));
}

TEST_F(DoctorTest, TheBestIsolationIsNamedAndWhyAnotherIsNot) {
  const Check best = CheckIsolations(host);
  EXPECT_EQ(best.state, State::kOk);
  EXPECT_THAT(best.found, HasSubstr("pku; offered: pku, seg, mask, mask-writes"));
  host.isolation = [](jit::Isolation isolation) {
    return isolation == jit::Isolation::kPku ? absl::UnavailableError("no keys") : absl::OkStatus();
  };
  EXPECT_THAT(CheckIsolations(host).found,
              AllOf(HasSubstr("mask; offered: seg, mask"), HasSubstr("not pku: no keys")));
}

TEST_F(DoctorTest, PreparedCodeIsCountedOrItsFaultNamed) {
  EXPECT_EQ(CheckPrepared(host).state, State::kOk);
  EXPECT_THAT(CheckPrepared(host).found, HasSubstr("dunebox prepare PROG"));
  host.prepared = [](jit::Isolation isolation) -> absl::StatusOr<std::uint32_t> {
    if (isolation == jit::Isolation::kMask) return 1234;
    return absl::NotFoundError("none");
  };
  EXPECT_EQ(CheckPrepared(host).found, "mask: 1234 blocks");
  host.prepared = [](jit::Isolation isolation) -> absl::StatusOr<std::uint32_t> {
    if (isolation == jit::Isolation::kMask) return 1234;
    return absl::FailedPreconditionError("seg.blocks: of another version");
  };
  const Check unfit = CheckPrepared(host);
  EXPECT_EQ(unfit.state, State::kWarning);
  EXPECT_THAT(unfit.found, HasSubstr("seg.blocks: of another version"));
  EXPECT_THAT(unfit.advice, HasSubstr("dunebox prepare"));
}

TEST_F(DoctorTest, NoIsolationIsNeverTakenUnasked) {
  host.isolation = [](jit::Isolation isolation) {
    return isolation == jit::Isolation::kNone ? absl::OkStatus() : absl::UnavailableError("no");
  };
  EXPECT_EQ(CheckIsolations(host).state, State::kMissing);
  EXPECT_THAT(CheckIsolations(host).found, HasSubstr("--jit-isolation=none"));
}

TEST_F(DoctorTest, WhyEngineJitCannotRunIsToldApart) {
  const Check processor = CheckJitEngine(absl::UnavailableError("no FSGSBASE"));
  EXPECT_EQ(processor.state, State::kMissing);
  EXPECT_THAT(processor.found, HasSubstr("no FSGSBASE"));
  EXPECT_THAT(processor.advice, HasSubstr("Linux 5.9"));
  const Check memory = CheckJitEngine(absl::ResourceExhaustedError("mmap: Permission denied"));
  EXPECT_EQ(memory.state, State::kMissing);
  EXPECT_THAT(memory.advice, HasSubstr("executed"));
}

TEST_F(DoctorTest, WithoutEitherEngineBothReasonsAreGiven) {
  device.open_result = -ENOENT;
  host.probe = [] { return absl::NotFoundError("/dev/kvm: no such device"); };
  host.translation = [] { return absl::UnavailableError("no FSGSBASE"); };
  const Report report = Examine(host);
  EXPECT_FALSE(report.engine.usable());
  EXPECT_THAT(report.engine.reason, AllOf(HasSubstr("/dev/kvm"), HasSubstr("no FSGSBASE")));
}

TEST_F(DoctorTest, AFailedProbeMeansNoEngineAndSaysWhy) {
  host.probe = [] { return absl::InternalError("KVM_CREATE_VM: Out of memory"); };
  const Report report = Examine(host);
  EXPECT_FALSE(report.engine.usable());
  EXPECT_THAT(report.engine.reason, HasSubstr("KVM_CREATE_VM"));
}

TEST_F(DoctorTest, AnOlderLandlockSaysWhatItDoesNotCheck) {
  EXPECT_EQ(CheckLandlock(host).found, "ABI version 7");
  host.landlock_abi = [] { return 4; };
  const Check check = CheckLandlock(host);
  EXPECT_EQ(check.state, State::kWarning);
  EXPECT_EQ(check.found,
            "ABI version 4, without ioctls of devices, signals and abstract sockets: the first wall alone checks these");
}

TEST_F(DoctorTest, LandlockThatIsOffDiffersFromLandlockThatIsAbsent) {
  host.landlock_abi = [] { return -EOPNOTSUPP; };
  EXPECT_THAT(CheckLandlock(host).advice, HasSubstr("lsm="));
  host.landlock_abi = [] { return -ENOSYS; };
  EXPECT_THAT(CheckLandlock(host).advice, HasSubstr("CONFIG_SECURITY_LANDLOCK"));
}

TEST_F(DoctorTest, UserNamespacesThatAreOffNameTheSettingThatForbidsThem) {
  host.user_namespace = [] { return -EPERM; };
  EXPECT_THAT(CheckUserNamespaces(host).advice, HasSubstr("container"));
  WriteSysctl("kernel/apparmor_restrict_unprivileged_userns", "1\n");
  EXPECT_THAT(CheckUserNamespaces(host).advice, HasSubstr("apparmor_restrict"));
  WriteSysctl("user/max_user_namespaces", "0\n");
  EXPECT_THAT(CheckUserNamespaces(host).advice, HasSubstr("max_user_namespaces"));
  WriteSysctl("kernel/unprivileged_userns_clone", "0\n");
  EXPECT_THAT(CheckUserNamespaces(host).advice, HasSubstr("unprivileged_userns_clone"));
}

TEST_F(DoctorTest, ANamespaceIsMissingByItselfOrWithAllOthers) {
  using confinement::Mechanism;
  confinement::MechanismSet some;
  some.Add(Mechanism::kMountNamespace);
  EXPECT_EQ(CheckNamespace(host, some, Mechanism::kMountNamespace).state, State::kOk);
  EXPECT_THAT(CheckNamespace(host, some, Mechanism::kNetworkNamespace).found, HasSubstr("refuses"));
  WriteSysctl("user/max_user_namespaces", "0\n");
  const Check check = CheckNamespace(host, absl::PermissionDeniedError("not permitted"),
                                     Mechanism::kMountNamespace);
  EXPECT_EQ(check.found, "cannot be had: not permitted");
  EXPECT_THAT(check.advice, HasSubstr("max_user_namespaces"));
}

TEST_F(DoctorTest, SeccompNamesTheActionsThatAreAbsent) {
  host.seccomp_action = [](std::uint32_t action) {
    return action == SECCOMP_RET_USER_NOTIF ? -EOPNOTSUPP : 0;
  };
  EXPECT_EQ(CheckSeccomp(host).found, "filters: kill_process trap errno; absent: user_notif");
  EXPECT_EQ(CheckSeccomp(host).state, State::kWarning);
}

TEST_F(DoctorTest, TightLimitsAreWarnings) {
  host.limit = [](int) { return rlimit{1024, 1024}; };
  EXPECT_EQ(CheckOpenFiles(host).state, State::kWarning);
  WriteSysctl("vm/max_map_count", "1000\n");
  EXPECT_EQ(CheckMappingCount(host).state, State::kWarning);
}

TEST_F(DoctorTest, AnUnlimitedStackIsAWarning) {
  EXPECT_EQ(CheckStackLimit(host).found, "8192 KiB");
  host.limit = [](int) { return rlimit{RLIM_INFINITY, RLIM_INFINITY}; };
  EXPECT_EQ(CheckStackLimit(host).state, State::kWarning);
  EXPECT_THAT(CheckStackLimit(host).advice, HasSubstr("ulimit -s"));
}

TEST_F(DoctorTest, AnUnusualAddressLayoutNamesItsCause) {
  EXPECT_EQ(CheckAddressLayout(host).found, "as usual");
  host.personality = [] { return std::uint32_t{ADDR_NO_RANDOMIZE}; };
  EXPECT_EQ(CheckAddressLayout(host).state, State::kOk);
  host.personality = [] { return std::uint32_t{ADDR_COMPAT_LAYOUT}; };
  EXPECT_THAT(CheckAddressLayout(host).found, HasSubstr("ADDR_COMPAT_LAYOUT"));
  host.personality = [] { return std::uint32_t{0}; };
  WriteSysctl("vm/legacy_va_layout", "1\n");
  EXPECT_THAT(CheckAddressLayout(host).advice, HasSubstr("vm.legacy_va_layout=0"));
  WriteSysctl("vm/legacy_va_layout", "0\n");
  WriteSysctl("vm/mmap_min_addr", "1048576\n");
  EXPECT_THAT(CheckAddressLayout(host).advice, HasSubstr("vm.mmap_min_addr"));
}

TEST_F(DoctorTest, ARuntimeInTheProgramsHalfIsFoundByItsMappings) {
  host.maps_path = Write("maps", "2aaaaaaab000-2aaaaaaac000 rw-p 00000000 00:00 0\n");
  const Check check = CheckAddressLayout(host);
  EXPECT_EQ(check.state, State::kWarning);
  EXPECT_THAT(check.found, HasSubstr("(2aaaaaaab000-2aaaaaaac000)"));
  EXPECT_THAT(check.advice, Not(IsEmpty()));
}

TEST_F(DoctorTest, TextShowsEveryCheckInAlignedColumnsOfLimitedWidth) {
  device.open_result = -ENOENT;
  host.translation = [] { return absl::UnavailableError("no FSGSBASE"); };
  const Report report = Examine(host);
  const std::string text = FormatText(report);
  for (const Check& check : report.checks) EXPECT_THAT(text, HasSubstr(check.name));
  EXPECT_THAT(text, HasSubstr("missing  /dev/kvm"));
  EXPECT_THAT(text, HasSubstr("No engine can run programs here"));
  std::size_t begin = 0;
  for (std::size_t end; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1) {
    const std::string line = text.substr(begin, end - begin);
    if (line.starts_with("No engine")) continue;
    EXPECT_LE(line.size(), 96u) << line;
    EXPECT_FALSE(line.ends_with(' ')) << line;
  }
}

TEST_F(DoctorTest, JsonHoldsTheSameFindings) {
  host.cpuinfo_path = Write("other", "model name : \xff\"quoted\"\nflags : svm\n");
  const Report report = Examine(host);
  const auto json = nlohmann::json::parse(FormatJson(report));
  EXPECT_EQ(json["version"], DUNEBOX_VERSION);
  EXPECT_EQ(json["default_rights"], "default policy");
  EXPECT_EQ(json["engine"]["usable"], true);
  EXPECT_EQ(json["engine"]["auto"], "kvm");
  ASSERT_EQ(json["checks"].size(), report.checks.size());
  for (std::size_t i = 0; i < report.checks.size(); ++i) {
    EXPECT_EQ(json["checks"][i]["name"], report.checks[i].name);
    EXPECT_EQ(json["checks"][i]["advice"], report.checks[i].advice);
  }
  device.open_result = -ENOENT;
  const auto jit = nlohmann::json::parse(FormatJson(Examine(host)));
  EXPECT_EQ(jit["engine"]["auto"], "jit");
  host.translation = [] { return absl::UnavailableError("no FSGSBASE"); };
  const auto none = nlohmann::json::parse(FormatJson(Examine(host)));
  EXPECT_EQ(none["engine"]["usable"], false);
  EXPECT_TRUE(none["engine"]["auto"].is_null());
}

TEST(DoctorHere, TheCollectorsOfThisMachineAllAnswer) {
  const Report report = Examine(ThisHost());
  std::map<std::string, int> names;
  for (const Check& check : report.checks) {
    EXPECT_THAT(check.found, Not(IsEmpty())) << check.name;
    EXPECT_EQ(++names[check.name], 1) << check.name;
    EXPECT_EQ(check.advice.empty(), check.state == State::kOk) << check.name;
  }
}

}  // namespace
}  // namespace dunebox::doctor
