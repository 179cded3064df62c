// Guest code on the bare processor, in this process: in with all registers as given, out from a
// signal handler. And the entry of signal handlers that may find the guest's FS base.
#ifndef DUNEBOX_TESTS_JIT_NATIVE_H_
#define DUNEBOX_TESTS_JIT_NATIVE_H_

#define JIT_TEST_GPR 0
#define JIT_TEST_RIP 128
#define JIT_TEST_RFLAGS 136
#define JIT_TEST_FS_BASE 144
#define JIT_TEST_GS_BASE 152
#define JIT_TEST_EXTENDED 192

#endif  // DUNEBOX_TESTS_JIT_NATIVE_H_
