// Signals of a host application are taken over once, when it makes its first sandbox: while its threads set handlers.
#include "sandbox/plugin/host_signals.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <iterator>
#include <thread>
#include <vector>

#include "runtime/signals/action.h"

namespace dunebox::plugin {
namespace {

// One for each thread. More threads than processors: some are interrupted wherever they are.
constexpr int kSignals[] = {SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGPIPE, SIGALRM, SIGTERM};

std::atomic<int> handled{0};
void OnSignal(int) { ++handled; }

// As the kernel has it.
std::uint64_t HandlerOf(int signal) {
  signals::KernelAction action;
  syscall(SYS_rt_sigaction, signal, nullptr, &action, sizeof(action.mask));
  return action.handler;
}

// Sets its handler until it sees that the last of the signals has been taken over, which had none.
void SetHandlers(int signal, std::atomic<int>& begun) {
  struct sigaction action{};
  action.sa_handler = OnSignal;
  sigaction(signal, &action, nullptr);
  ++begun;
  while (HandlerOf(SIGSEGV) == reinterpret_cast<std::uint64_t>(SIG_DFL)) sigaction(signal, &action, nullptr);
}

// In a process of its own. How many signals have their handlers without ours in front.
int TakeOverWhileTheyAreSet() {
  std::atomic<int> begun{0};
  std::vector<std::thread> threads;
  for (const int signal : kSignals) threads.emplace_back(SetHandlers, signal, std::ref(begun));
  while (begun != static_cast<int>(std::size(kSignals))) std::this_thread::yield();
  const bool is_taken_over = TakeOverSignals().ok();
  for (std::thread& thread : threads) thread.join();
  int wrong = is_taken_over ? 0 : 100;
  for (const int signal : kSignals) {
    wrong += HandlerOf(signal) == reinterpret_cast<std::uint64_t>(OnSignal);
    struct sigaction seen{};
    sigaction(signal, nullptr, &seen);
    wrong += seen.sa_handler != OnSignal;
    raise(signal);
  }
  return wrong + (handled != static_cast<int>(std::size(kSignals)) ? 50 : 0);
}

TEST(HostSignals, ThatAreSetWhileTheyAreTakenOverHaveOursInFront) {
  constexpr int kProcesses = 50;
  for (int i = 0; i < kProcesses; ++i) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      for (const int signal : {SIGSEGV, SIGABRT}) ::signal(signal, SIG_DFL);
      _exit(TakeOverWhileTheyAreSet());
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_EQ(status, 0) << "process " << i;
  }
}

}  // namespace
}  // namespace dunebox::plugin
