// What the kernel does with a seccomp filter: runs its program over the number and the arguments of
// a call. Only the instructions that such filters are made of; any other ends the test process.
//
//   EXPECT_EQ(Verdict(program, {.nr = SYS_read, .arch = AUDIT_ARCH_X86_64}), SECCOMP_RET_ALLOW);
#ifndef DUNEBOX_TESTS_UNIT_BPF_MACHINE_H_
#define DUNEBOX_TESTS_UNIT_BPF_MACHINE_H_

#include <linux/filter.h>
#include <linux/seccomp.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>

namespace dunebox {

inline std::uint32_t Verdict(std::span<const sock_filter> program, const seccomp_data& data) {
  std::uint32_t accumulator = 0;
  for (std::size_t at = 0; at < program.size(); ++at) {
    const sock_filter& step = program[at];
    switch (step.code) {
      case BPF_LD | BPF_W | BPF_ABS:
        if (step.k + sizeof(accumulator) > sizeof(data)) std::abort();
        std::memcpy(&accumulator, reinterpret_cast<const char*>(&data) + step.k, sizeof(accumulator));
        break;
      case BPF_ALU | BPF_AND | BPF_K:
        accumulator &= step.k;
        break;
      case BPF_JMP | BPF_JA:
        at += step.k;
        break;
      case BPF_JMP | BPF_JEQ | BPF_K:
        at += accumulator == step.k ? step.jt : step.jf;
        break;
      case BPF_JMP | BPF_JGE | BPF_K:
        at += accumulator >= step.k ? step.jt : step.jf;
        break;
      case BPF_JMP | BPF_JGT | BPF_K:
        at += accumulator > step.k ? step.jt : step.jf;
        break;
      case BPF_RET | BPF_K:
        return step.k;
      default:
        std::abort();
    }
  }
  std::abort();
}

}  // namespace dunebox

#endif  // DUNEBOX_TESTS_UNIT_BPF_MACHINE_H_
