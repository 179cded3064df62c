// A KVM without a kernel: answers as a healthy one would, counts what it hands out, fails a chosen
// call, and runs no guest: what KVM_RUN "did" is scripted.
//
// Descriptors are numbers that the host does not know. Memory slots are checked as the kernel
// checks them (alignment, overlap, resizing), so that a wrong slot number fails here too.
//
//   FakeKvm kvm;
//   kvm.ScriptRun([](kvm_run& run) { run.exit_reason = KVM_EXIT_HLT; return 0; });
//   kvm.FailCall(3, ENOMEM);   // the third call from now on, whatever it is
#ifndef DUNEBOX_TESTS_FAKES_FAKE_KVM_H_
#define DUNEBOX_TESTS_FAKES_FAKE_KVM_H_

#include <deque>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "hostcalls/memory/address.h"
#include "runtime/kvm/kvm_api.h"
#include "runtime/kvm/kvm_structs.h"

namespace dunebox::fakes {

class FakeKvm final : public kvm::KvmApi {
 public:
  FakeKvm();
  ~FakeKvm() override;

  // ---- what happens ----
  // The n-th call that can fail (the first is 1) counted from now fails with `error`.
  void FailCall(int n, int error) { fail_from_ = fail_to_ = calls_ + n, fail_error_ = error; }
  // That call and every one after it.
  void FailFrom(int n, int error) { FailCall(n, error), fail_to_ = INT32_MAX; }
  // What the next KVM_RUN that has no script yet does: fills the run area, returns 0 or -errno.
  // A run without a script is -EIO; a kicked one is -EINTR and keeps its script.
  void ScriptRun(std::function<int(kvm_run&)> exit) { script_.push_back(std::move(exit)); }

  // ---- what this KVM is like ----
  kvm::CpuidTable cpuid;
  std::map<unsigned long, int> capabilities;
  int api_version = 12;
  int run_area_size = 3 * 4096;
  int msrs_accepted = -1;  // all of them

  // ---- what was asked of it ----
  int calls() const { return calls_; }  // that can fail
  const std::vector<std::string>& names() const { return names_; }
  std::size_t open_descriptors() const { return descriptors_.size(); }
  std::size_t mapped_run_areas() const { return run_areas_.size(); }
  int misuses() const { return misuses_; }  // closed twice, never opened, unknown ioctl
  int runs() const { return runs_; }
  const std::map<std::uint32_t, kvm_userspace_memory_region>& slots() const { return slots_; }
  // The host's memory behind a guest-physical address; null when no slot has it.
  std::byte* Memory(GuestPhys address) const;
  const kvm_sregs& sregs() const { return sregs_; }
  const kvm_fpu& fpu() const { return fpu_; }
  std::uint64_t xcr0() const { return xcr0_; }
  std::map<std::uint32_t, std::uint64_t> msrs;
  kvm::CpuidTable guest_cpuid;
  std::vector<std::byte> xsave;
  // What KVM_PRE_FAULT_MEMORY has been asked to map, and how much of each it does; less than all: as after a signal.
  std::vector<kvm_pre_fault_memory> pre_faults;
  std::uint64_t pre_fault_most = UINT64_MAX;

  // ---- KvmApi ----
  int OpenDevice() override;
  using KvmApi::Ioctl;
  int Ioctl(int fd, unsigned long request, void* argument) override;
  int Run(int vcpu_fd) override;
  void* MapRunArea(int vcpu_fd, std::size_t size, int* error) override;
  void UnmapRunArea(void* area, std::size_t size) override;
  void Close(int fd) override;

 private:
  enum class Kind { kDevice, kMachine, kVcpu };

  // Counts a call; the errno it has to fail with, or 0.
  int Count(const std::string& name);
  int Open(Kind kind);
  bool Is(int fd, Kind kind) const;
  int DeviceIoctl(unsigned long request, void* argument);
  int MachineIoctl(unsigned long request, void* argument);
  int VcpuIoctl(unsigned long request, void* argument);
  int SetSlot(const kvm_userspace_memory_region& region);

  int calls_ = 0;
  int runs_ = 0;
  int misuses_ = 0;
  int fail_from_ = 0, fail_to_ = 0, fail_error_ = 0;
  int next_descriptor_ = 100'000;
  std::vector<std::string> names_;
  std::map<int, Kind> descriptors_;
  std::set<std::uintptr_t> vcpu_indices_;  // ever used in the last machine
  std::map<int, void*> run_areas_;  // by vCPU; a run area may outlive its descriptor
  std::map<std::uint32_t, kvm_userspace_memory_region> slots_;
  std::deque<std::function<int(kvm_run&)>> script_;
  kvm_sregs sregs_{};
  kvm_fpu fpu_{};
  std::uint64_t xcr0_ = 0;
};

}  // namespace dunebox::fakes

#endif  // DUNEBOX_TESTS_FAKES_FAKE_KVM_H_
