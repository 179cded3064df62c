// General registers from one structure to another: a trap's frame, UserContext, the virtual CPU's (kvm_regs), an engine's.
// Each names its members as the processor does. Selectors and bases are not among them.
//
//   CopyGeneralRegisters(frame, context);
#ifndef DUNEBOX_LIBDUNE_GENERAL_REGISTERS_H_
#define DUNEBOX_LIBDUNE_GENERAL_REGISTERS_H_

namespace dune {

// Of two structures apart from each other, as the compiler may know.
template <typename From, typename To>
inline void CopyGeneralRegisters(const From& __restrict from, To& __restrict to) {
  to.rax = from.rax, to.rbx = from.rbx, to.rcx = from.rcx, to.rdx = from.rdx;
  to.rsi = from.rsi, to.rdi = from.rdi, to.rbp = from.rbp, to.rsp = from.rsp;
  to.r8 = from.r8, to.r9 = from.r9, to.r10 = from.r10, to.r11 = from.r11;
  to.r12 = from.r12, to.r13 = from.r13, to.r14 = from.r14, to.r15 = from.r15;
  to.rip = from.rip, to.rflags = from.rflags;
}

}  // namespace dune

#endif  // DUNEBOX_LIBDUNE_GENERAL_REGISTERS_H_
