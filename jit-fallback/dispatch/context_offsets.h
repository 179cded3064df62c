// Offsets in a thread's Context, for emitted code and switch.S; context.h asserts each of them.
#ifndef DUNEBOX_JIT_FALLBACK_DISPATCH_CONTEXT_OFFSETS_H_
#define DUNEBOX_JIT_FALLBACK_DISPATCH_CONTEXT_OFFSETS_H_

#define JIT_SLOT_RCX 0
#define JIT_SLOT_R11 8
#define JIT_SLOT_SCRATCH0 16
#define JIT_SLOT_SCRATCH1 24
#define JIT_GPR 32
#define JIT_RAX 32
#define JIT_RCX 40
#define JIT_RDX 48
#define JIT_RBX 56
#define JIT_RSP 64
#define JIT_RBP 72
#define JIT_RSI 80
#define JIT_RDI 88
#define JIT_R8 96
#define JIT_R9 104
#define JIT_R10 112
#define JIT_R11 120
#define JIT_R12 128
#define JIT_R13 136
#define JIT_R14 144
#define JIT_R15 152
#define JIT_RIP 160
#define JIT_RFLAGS 168
#define JIT_FS_BASE 176
#define JIT_GS_BASE 184
#define JIT_HOST_RSP 192
#define JIT_HOST_FS 200
#define JIT_EXTENDED_AREA 208
#define JIT_EXTENDED_MASK 216
#define JIT_KICK 224
#define JIT_LINK 228
#define JIT_HOST_MXCSR 232
#define JIT_HAS_XSAVEOPT 236
#define JIT_CACHE_RIP 240
#define JIT_CACHE_START 248
#define JIT_CACHE_END 256
#define JIT_RESUME 264
#define JIT_FAULT_VECTOR 272
#define JIT_SELF 304
#define JIT_WINDOW_BASE 312
#define JIT_MINUS_WINDOW_BASE 320
#define JIT_IS_WINDOWED 328

// Where emitted code leaves to: host addresses in the thread's own memory, at this distance from
// its Context, together with the lookup table, so that both can be made read-only to the guest.
#define JIT_POINTERS 0x3000
#define JIT_TO_LINK 0x3000
#define JIT_TO_LOOKUP 0x3008
#define JIT_TO_SYSCALL 0x3010
#define JIT_TO_EMULATE 0x3018
#define JIT_TO_TRAP 0x3020
#define JIT_TO_STALE 0x3028

// The lookup table of indirect targets: 64-bit host addresses, indexed by the low 16 bits of the
// guest's. In the thread's own memory, at this distance from its Context.
#define JIT_TABLE 0x4000
#define JIT_TABLE_ENTRIES 0x10000

// The second table, for guest addresses that share an entry of the first: pairs of minus the guest
// address less one, and the host address, indexed by 16 bits of the address's CRC-32C.
#define JIT_SECOND_TABLE (JIT_TABLE + JIT_TABLE_ENTRIES * 8)

// Why translated code was left; what dunebox_jit_enter returns.
#define JIT_EXIT_LINK 1
#define JIT_EXIT_LOOKUP 2
#define JIT_EXIT_SYSCALL 3
#define JIT_EXIT_EMULATE 4
#define JIT_EXIT_TRAP 5
#define JIT_EXIT_STALE 6
#define JIT_EXIT_SIGNAL 7
#define JIT_EXIT_KICKED 8

#endif  // DUNEBOX_JIT_FALLBACK_DISPATCH_CONTEXT_OFFSETS_H_
