// Offsets in a thread's Context, for emitted code and switch.S; context.h asserts each of them.
#ifndef DUNEBOX_JIT_FALLBACK_DISPATCH_CONTEXT_OFFSETS_H_
#define DUNEBOX_JIT_FALLBACK_DISPATCH_CONTEXT_OFFSETS_H_

// The first page is the only one that emitted code writes.
#define JIT_SLOT_RCX 0
#define JIT_SLOT_R11 8
#define JIT_SLOT_SCRATCH0 16
#define JIT_SLOT_SCRATCH1 24
#define JIT_RIP 32
#define JIT_LINK 40
#define JIT_GS_BASE 48
#define JIT_PASSED_RAX 56
#define JIT_PASSED_RCX 64
#define JIT_PASSED_RDX 72
#define JIT_PASSED_RBX 80
// How many instructions may still run, where they are counted (EmitterOptions): less than 2^56, so that its highest
// byte is 0 until it is negative.
#define JIT_INSTRUCTIONS_LEFT 88
#define JIT_INSTRUCTIONS_SIGN 95
// The same of entries into blocks that check themselves.
#define JIT_CHECKS_LEFT 96
#define JIT_CHECKS_SIGN 103
// Nothing of emitted code's: where the host's thread block has an unused field that is 0.
#define JIT_SELF 304

// The second is the runtime's.
#define JIT_GPR 0x1000
#define JIT_RAX 0x1000
#define JIT_RCX 0x1008
#define JIT_RDX 0x1010
#define JIT_RBX 0x1018
#define JIT_RSP 0x1020
#define JIT_RBP 0x1028
#define JIT_RSI 0x1030
#define JIT_RDI 0x1038
#define JIT_R8 0x1040
#define JIT_R9 0x1048
#define JIT_R10 0x1050
#define JIT_R11 0x1058
#define JIT_R12 0x1060
#define JIT_R13 0x1068
#define JIT_R14 0x1070
#define JIT_R15 0x1078
#define JIT_LEFT_RIP 0x1080
#define JIT_RFLAGS 0x1088
#define JIT_FS_BASE 0x1090
#define JIT_HOST_RSP 0x1098
#define JIT_HOST_FS 0x10a0
#define JIT_EXTENDED_AREA 0x10a8
#define JIT_KICK 0x10b8
#define JIT_LEFT_LINK 0x10bc
#define JIT_HOST_MXCSR 0x10c0
#define JIT_HAS_XSAVEOPT 0x10c4
#define JIT_CACHE_RIP 0x10c8
#define JIT_CACHE_START 0x10d0
#define JIT_CACHE_END 0x10d8
#define JIT_FAULT_VECTOR 0x10e0
#define JIT_USES_KEYS 0x10f8
// Constants for isolation by mask: the mask, and those of a bit's place in 16, 32 and 64 bits.
#define JIT_CONFINING_MASK 0x1110
#define JIT_BIT_PLACE_16 0x1118
#define JIT_BIT_PLACE_32 0x1120
#define JIT_BIT_PLACE_64 0x1128
// For isolation by segment.
#define JIT_WINDOW_BASE 0x1130
#define JIT_MINUS_WINDOW_BASE 0x1138
#define JIT_IS_WINDOWED 0x1140
// For gates: thread_context.h, SetGate.
#define JIT_IS_BARE 0x1144
#define JIT_GATE 0x1148
#define JIT_MUST_BE_INITIAL 0x114c
// In a window: what GS base is outside of it.
#define JIT_HOST_GS 0x1150
// The components that translated code has its own contents in: of what is saved and loaded.
#define JIT_OWN_COMPONENTS 0x1158

// System calls with the same number but for this many low bits are gates of one kind.
#define JIT_GATE_BITS 17

// Components of the extended state. [intel/vol1 §13.1]
#define JIT_X87_COMPONENT 1
#define JIT_SSE_COMPONENT 2
#define JIT_OPMASK_COMPONENT 0x20

// Where emitted code leaves to and is entered: host addresses in the thread's own memory, at this
// distance from its Context, together with the lookup table, so that both can be made read-only to
// the guest.
#define JIT_POINTERS 0x2000
#define JIT_TO_LINK 0x2000
#define JIT_TO_LOOKUP 0x2008
#define JIT_TO_SYSCALL 0x2010
#define JIT_TO_EMULATE 0x2018
#define JIT_TO_TRAP 0x2020
#define JIT_TO_STALE 0x2028
#define JIT_TO_EXIT_LOOKUP 0x2030
#define JIT_TO_BUDGET 0x2038
#define JIT_TO_RESUME 0x2040

// The lookup table of indirect targets: 64-bit host addresses, indexed by the low 16 bits of the
// guest's. In the thread's own memory, at this distance from its Context. An entry without contents leads to the exit
// for lookups.
#define JIT_TABLE 0x3000
#define JIT_TABLE_ENTRIES 0x10000
// How many of them there are while the table is folded (thread_context.cc): the whole consists of such pieces, and each is
// a mapping, of which a process has 65,530 for all its threads.
#define JIT_FOLDED_ENTRIES 0x4000

// The second table, for guest addresses that share an entry of the first: pairs of minus the guest
// address less one, and the host address, indexed by 16 bits of the address's CRC-32C. It is asked where the entry of the
// first is another's.
#define JIT_SECOND_TABLE (JIT_TABLE + JIT_TABLE_ENTRIES * 8)
#define JIT_SECOND_TABLE_ENTRIES 0x10000

// Why translated code was left; what dunebox_jit_enter returns.
#define JIT_EXIT_LINK 1
#define JIT_EXIT_LOOKUP 2
#define JIT_EXIT_SYSCALL 3
#define JIT_EXIT_EMULATE 4
#define JIT_EXIT_TRAP 5
#define JIT_EXIT_STALE 6
#define JIT_EXIT_SIGNAL 7
#define JIT_EXIT_KICKED 8
#define JIT_EXIT_BUDGET 9

#endif  // DUNEBOX_JIT_FALLBACK_DISPATCH_CONTEXT_OFFSETS_H_
