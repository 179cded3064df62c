// The privilege level in which the program runs inside the guest. [DESIGN D9]
//
// In ring 0 the program owns the virtual machine: the supervisor's image, its stacks and the page
// tables are as much the program's as its heap. What keeps it in is that the machine has no memory
// but the program's and the arena, and that the host believes nothing that it finds in the arena.
#ifndef DUNEBOX_RUNTIME_KVM_PROGRAM_RING_H_
#define DUNEBOX_RUNTIME_KVM_PROGRAM_RING_H_

namespace dunebox::kvm {

enum class ProgramRing : unsigned char { kRing3, kRing0 };

}  // namespace dunebox::kvm

#endif  // DUNEBOX_RUNTIME_KVM_PROGRAM_RING_H_
