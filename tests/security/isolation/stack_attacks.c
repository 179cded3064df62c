// Reads and writes the runtime's memory by operands that an instruction implies: the stack's, and
// those of string instructions.
#include <sys/mman.h>

#include "attack.h"

#define STORE(name, text) X(name, ANY_CPU, STORES, 0, text)
#define LOAD(name, bytes, text) X(load_##name, ANY_CPU, LOADS, bytes, text)
#define TOUCH(name, text) X(touch_##name, ANY_CPU, TOUCHES, 0, text)
#define JUMP(name, text) X(load_##name, ANY_CPU, JUMPS, 0, text)

// ---- the stack
// -------------------------------------------------------------------------------------

#define AT_TARGET "leaq 64(%%rdi), %%rsp\n\t"
#define PUSH_STORES                                                                            \
  STORE(push, AT_TARGET "pushq %%rax")                                                         \
  STORE(push_immediate, AT_TARGET "pushq $-1")                                                 \
  STORE(push_byte_immediate, AT_TARGET "pushq $0x55")                                          \
  STORE(push_word, AT_TARGET "pushw %%ax")                                                     \
  STORE(push_memory, AT_TARGET "pushq (%%rsi)")                                                \
  STORE(push_flags, AT_TARGET "pushfq")                                                        \
  STORE(push_fs, AT_TARGET "pushq %%rax\n\tpushq %%fs")                                        \
  STORE(push_many, AT_TARGET "pushq %%rax\n\tpushq %%rbx\n\tpushq %%rdi\n\tpushq %%rsi")       \
  STORE(push_by_xchg, "addq $64, %%rdi\n\txchgq %%rdi, %%rsp\n\tpushq %%rax")                  \
  STORE(push_by_lea, "leaq 64(%%rdi,%%rbx,8), %%rsp\n\tpushq %%rax")                           \
  STORE(push_by_leave,                                                                         \
        "movq %%rdi, (%%rsi)\n\tmovq %%rsi, %%rbp\n\tmovq %%rsi, %%rsp\n\t"                    \
        "popq %%rsp\n\taddq $64, %%rsp\n\tpushq %%rax")                                        \
  STORE(push_by_or, "xorl %%esp, %%esp\n\torq %%rdi, %%rsp\n\taddq $64, %%rsp\n\tpushq %%rax") \
  STORE(push_by_cmov,                                                                          \
        "addq $64, %%rdi\n\tcmpq %%rax, %%rax\n\tcmoveq %%rdi, %%rsp\n\tpushq %%rax")          \
  STORE(push_by_and, "movq %%rdi, %%rsp\n\tandq $-16, %%rsp\n\taddq $64, %%rsp\n\tpushq %%rax")
#define CALL_STORES                                                                   \
  STORE(call, AT_TARGET "call 1f\n\t1: nop")                                          \
  STORE(call_register, "leaq 1f(%%rip), %%rbx\n\t" AT_TARGET "call *%%rbx\n\t1: nop") \
  STORE(call_memory,                                                                  \
        "leaq 1f(%%rip), %%rbx\n\tmovq %%rbx, (%%rsi)\n\t" AT_TARGET "call *(%%rsi)\n\t1: nop")
#define FRAME_STORES                                                                      \
  STORE(enter, AT_TARGET "movq %%rax, %%rbp\n\tenter $32, $0")                            \
  STORE(enter_nested, "leaq 32(%%rsi), %%rbp\n\tleaq 128(%%rdi), %%rsp\n\tenter $32, $3") \
  STORE(enter_deep, "leaq 512(%%rsi), %%rbp\n\tleaq 512(%%rdi), %%rsp\n\tenter $0x10, $31")
#define DISPLACED_STACK_STORES                                                                    \
  STORE(rsp_store, "movq %%rdi, %%rsp\n\tmovq %%rax, (%%rsp)")                                    \
  STORE(rsp_displacement, AT_TARGET "movq %%rax, -64(%%rsp)")                                     \
  STORE(rsp_vector, "movq %%rdi, %%rsp\n\tmovups %%xmm0, (%%rsp)")                                \
  STORE(rsp_sub,                                                                                  \
        "addq $0x1000, %%rdi\n\tmovq %%rdi, %%rsp\n\tsubq $0x1000, %%rsp\n\tmovq %%rax, (%%rsp)") \
  STORE(pop_memory, "pushq %%rax\n\tpopq (%%rdi)")                                                \
  STORE(pop_memory_by_rsp,                                                                        \
        "movq %%rsi, %%rsp\n\tmovq %%rax, (%%rsi)\n\tsubq %%rsi, %%rdi\n\tpopq -8(%%rsp,%%rdi)")  \
  STORE(pop_word, "pushw %%ax\n\tpopw (%%rdi)")
#define POP_LOADS                                                                                \
  LOAD(pop, 8, "movq %%rdi, %%rsp\n\tpopq %%rax")                                                \
  LOAD(pop_word, 2, "movq %%rdi, %%rsp\n\tpopw %%ax")                                            \
  LOAD(pop_rsp, 8, "movq %%rdi, %%rsp\n\tpopq %%rsp\n\tmovq %%rsp, %%rax")                       \
  LOAD(pop_to_memory, 8, "movq %%rdi, %%rsp\n\tpopq (%%rsi)\n\tmovq (%%rsi), %%rax")             \
  LOAD(push_memory, 8, "pushq (%%rdi)\n\tpopq %%rax")                                            \
  LOAD(leave, 8, "movq %%rdi, %%rbp\n\tleave\n\tmovq %%rbp, %%rax")                              \
  LOAD(rsp_load, 8, "movq %%rdi, %%rsp\n\tmovq (%%rsp), %%rax")                                  \
  LOAD(rsp_add, 8,                                                                               \
       "subq $0x1000, %%rdi\n\tmovq %%rdi, %%rsp\n\taddq $0x1000, %%rsp\n\tmovq (%%rsp), %%rax") \
  TOUCH(popfq,                                                                                   \
        "movq %%rdi, %%rsp\n\tpopfq\n\t"                                                         \
        "movq attack_saved_rsp(%%rip), %%rsp\n\tpushq $0x202\n\tpopfq")
#define RETURN_LOADS                                  \
  JUMP(ret, "movq %%rdi, %%rsp\n\tret")               \
  JUMP(ret_immediate, "movq %%rdi, %%rsp\n\tret $16") \
  JUMP(jmp_memory, "jmp *(%%rdi)")                    \
  JUMP(call_memory, "call *(%%rdi)")                  \
  JUMP(jmp_indexed, "subq %%rsi, %%rdi\n\tjmp *(%%rsi,%%rdi)")

// RSP gets there in small steps, each of them confined or not, and nothing is touched on the way.
#define STEPS(count, step) \
  "\n\tmovl $" #count ", %%ecx\n\t1: " step "\n\tdecl %%ecx\n\tjnz 1b\n\tpushq %%rax"
#define DRIFT_STORES                                                                               \
  STORE(drift_up, "addq $64, %%rdi\n\tmovq %%rdi, %%rsp\n\tsubq $0x4000000, %%rsp" STEPS(          \
                      0x1000, "addq $0x4000, %%rsp"))                                              \
  STORE(drift_down, "addq $64, %%rdi\n\tmovq %%rdi, %%rsp\n\taddq $0x4000000, %%rsp" STEPS(        \
                        0x1000, "subq $0x4000, %%rsp"))                                            \
  STORE(drift_by_lea, "addq $64, %%rdi\n\tmovq %%rdi, %%rsp\n\tsubq $0x800000, %%rsp" STEPS(       \
                          0x2000, "leaq 0x400(%%rsp), %%rsp"))                                     \
  STORE(drift_by_inc,                                                                              \
        "addq $64, %%rdi\n\tmovq %%rdi, %%rsp\n\tsubq $0x1000, %%rsp" STEPS(0x1000, "incq %%rsp")) \
  STORE(drift_without_branches,                                                                    \
        "addq $64, %%rdi\n\tmovq %%rdi, %%rsp\n\tsubq $0x80000, %%rsp\n\t"                         \
        ".rept 32\n\taddq $0x4000, %%rsp\n\t.endr\n\tpushq %%rax")                                 \
  STORE(drift_by_and,                                                                              \
        "leaq 0x10040(%%rdi), %%rsp\n\tandq $-0x10000, %%rsp\n\tmovq %%rdi, %%rbx\n\t"             \
        "andl $0xffff, %%ebx\n\tleaq -0x10000(%%rsp,%%rbx), %%rsp\n\taddq $64, %%rsp\n\tpushq "    \
        "%%rax")

// ---- strings
// ---------------------------------------------------------------------------------------

#define STRING_STORES                                                  \
  STORE(stosb, "stosb")                                                \
  STORE(stosq, "stosq")                                                \
  STORE(movsb, "movsb")                                                \
  STORE(movsq, "movsq")                                                \
  STORE(rep_stosb, "movl $256, %%ecx\n\trep stosb")                    \
  STORE(rep_stosq, "movl $64, %%ecx\n\trep stosq")                     \
  STORE(rep_movsb, "movl $256, %%ecx\n\trep movsb")                    \
  STORE(rep_movsq, "movl $64, %%ecx\n\trep movsq")                     \
  STORE(rep_stosb_down, "std\n\tmovl $256, %%ecx\n\trep stosb\n\tcld") \
  STORE(rep_movsq_down, "std\n\tmovl $32, %%ecx\n\trep movsq\n\tcld")  \
  STORE(rep_stosd_short, "movl $4, %%ecx\n\trep stosl")
#define STRING_LOADS                                                                               \
  LOAD(lodsq, 8, "movq %%rdi, %%rsi\n\tlodsq")                                                     \
  LOAD(lodsb, 1, "movq %%rdi, %%rsi\n\tlodsb")                                                     \
  LOAD(rep_lodsq, 8, "movq %%rdi, %%rsi\n\tmovl $1, %%ecx\n\trep lodsq")                           \
  LOAD(movsq, 8, "xchgq %%rdi, %%rsi\n\tmovsq\n\tmovq -8(%%rdi), %%rax")                           \
  LOAD(rep_movsb, 8, "xchgq %%rdi, %%rsi\n\tmovl $8, %%ecx\n\trep movsb\n\tmovq -8(%%rdi), %%rax") \
  LOAD(rep_movsb_down, 8,                                                                          \
       "xchgq %%rdi, %%rsi\n\taddq $7, %%rdi\n\taddq $7, %%rsi\n\tstd\n\t"                         \
       "movl $8, %%ecx\n\trep movsb\n\tcld\n\tmovq 1(%%rdi), %%rax")                               \
  TOUCH(scasb, "scasb")                                                                            \
  TOUCH(repne_scasb, "xorl %%eax, %%eax\n\tmovl $64, %%ecx\n\trepne scasb")                        \
  TOUCH(cmpsb, "cmpsb")                                                                            \
  TOUCH(cmps_other_way, "xchgq %%rdi, %%rsi\n\tcmpsq")                                             \
  TOUCH(repe_cmpsb, "movl $64, %%ecx\n\trepe cmpsb")                                               \
  LOAD(xlat, 1, "movq %%rdi, %%rbx\n\txorl %%eax, %%eax\n\txlatb")                                 \
  LOAD(xlat_far, 1, "leaq -255(%%rdi), %%rbx\n\tmovl $255, %%eax\n\txlatb")

#define LISTS(L)                                                                              \
  L(push_stores, PUSH_STORES)                                                                 \
  L(call_stores, CALL_STORES)                                                                 \
  L(frame_stores, FRAME_STORES)                                                               \
  L(rsp_stores, DISPLACED_STACK_STORES)                                                       \
  L(pop_loads, POP_LOADS)                                                                     \
  L(return_loads, RETURN_LOADS) L(drift_stores, DRIFT_STORES) L(string_stores, STRING_STORES) \
      L(string_loads, STRING_LOADS)
#define X(name, needs, access, bytes, text) ATTACK_CODE(code_##name, text)
#define L(name, ...) __VA_ARGS__
LISTS(L)
#undef X
#undef L
#define X(name, needs, access, bytes, text) {#name, needs, access, bytes, code_##name},
#define L(name, ...)                                     \
  static const struct row name##_rows[] = {__VA_ARGS__}; \
  static void run_##name(void) { RUN_ROWS(name##_rows); }
LISTS(L)
#undef L

// ---- over the edge
// ---------------------------------------------------------------------------------

// What starts below the edge of the user half and goes on until something stops it; and RSP that
// walks over the edge and the guard behind it without a touch.
ATTACK_CODE(code_rep_up,
            "movabsq $0x400000000000, %%rdi\n\tsubq $64, %%rdi\n\tmovabsq $0x400000000000, "
            "%%rcx\n\trep stosb")
ATTACK_CODE(code_rep_up_quad,
            "movabsq $0x400000000000, %%rdi\n\tsubq $64, %%rdi\n\torq $-1, %%rcx\n\trep stosq")
ATTACK_CODE(code_rep_from_edge, "movabsq $0x400000000000, %%rdi\n\torq $-1, %%rcx\n\trep stosb")
ATTACK_CODE(code_rep_down_from_zero,
            "xorl %%edi, %%edi\n\torq $-1, %%rcx\n\tstd\n\trep stosb\n\tcld")
ATTACK_CODE(code_rep_down_from_guard,
            "movabsq $0x400fffffffff, %%rdi\n\torq $-1, %%rcx\n\tstd\n\trep stosb\n\tcld")
ATTACK_CODE(code_rep_read_up, "movabsq $0x400000000000, %%rdi\n\torq $-1, %%rcx\n\trepe scasb")
// From RDI.
ATTACK_CODE(code_walk_over_edge, "movq %%rdi, %%rsp" STEPS(1600000, "addq $0xf000, %%rsp"))
ATTACK_CODE(code_walk_over_zero, "movq %%rdi, %%rsp" STEPS(64, "subq $0x1000, %%rsp"))
ATTACK_CODE(code_push_at_edge, "movabsq $0x400000000040, %%rsp\n\tpushq %%rax")
ATTACK_CODE(code_call_at_edge, "movabsq $0x400000000040, %%rsp\n\tcall 1f\n\t1: nop")
ATTACK_CODE(code_push_noncanonical, "movabsq $0x800000000040, %%rsp\n\tpushq %%rax")

// Half of it is in the last page of the user half, which is there.
ATTACK_CODE(code_straddle_store, "movabsq $0x3ffffffffffc, %%rdi\n\tmovq %%rax, (%%rdi)")
ATTACK_CODE(code_straddle_vector, "movabsq $0x3ffffffffff8, %%rdi\n\tmovdqu %%xmm0, (%%rdi)")
ATTACK_CODE(code_straddle_push, "movabsq $0x400000000004, %%rsp\n\tpushq %%rax")
ATTACK_CODE(code_straddle_load, "movabsq $0x3ffffffffffc, %%rdi\n\tmovq (%%rdi), %%rax")
ATTACK_CODE(code_straddle_state, "movabsq $0x3fffffffff00, %%rdi\n\tfxsave64 (%%rdi)")

static int is_memory_fault(int signal_number) {
  return signal_number == SIGSEGV || signal_number == SIGBUS;
}

// A walk of `distance` that ends with a push. Where addresses are cut it goes on at the window's
// other end: there is a page for it, and the push must be in it.
static void walk(const char* name, void (*code)(u64), u64 start, int64_t distance) {
  if (!addresses_are_cut()) {
    const int signal_number = attempt(code, start);
    if (!is_memory_fault(signal_number)) breach("%s: signal %d", name, signal_number);
    return;
  }
  char* page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  const u64 end = (u64)page + 4096;
  const int signal_number = attempt(code, (uint32_t)(end - (u64)distance));
  u64 pushed;
  memcpy(&pushed, page + 4096 - sizeof(pushed), sizeof(pushed));
  if (signal_number != 0 || pushed != 0xa5a5a5a5a5a5a5a5) {
    breach("%s: signal %d, pushed %lx", name, signal_number, pushed);
  }
  munmap(page, 4096);
}

static void run_edges(void) {
  mmap((void*)(USER_HALF_END - 4096), 4096, PROT_READ | PROT_WRITE,
       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  static const struct {
    const char* name;
    void (*code)(u64);
  } kEdges[] = {
#define EDGE(name) {#name, code_##name}
      EDGE(rep_up),
      EDGE(rep_up_quad),
      EDGE(rep_from_edge),
      EDGE(rep_down_from_zero),
      EDGE(rep_down_from_guard),
      EDGE(rep_read_up),
      EDGE(push_at_edge),
      EDGE(call_at_edge),
      EDGE(push_noncanonical),
      EDGE(straddle_store),
      EDGE(straddle_vector),
      EDGE(straddle_push),
      EDGE(straddle_load),
      EDGE(straddle_state),
  };
  for (size_t i = 0; i < sizeof(kEdges) / sizeof(kEdges[0]); ++i) {
    const int signal_number = attempt(kEdges[i].code, 0);
    if (!is_memory_fault(signal_number)) breach("%s: signal %d", kEdges[i].name, signal_number);
  }
  // 60 KiB at a time: past the guard, 64 GiB, from the last page below the edge.
  walk("walk_over_edge", code_walk_over_edge, USER_HALF_END - 2048, INT64_C(1600000) * 0xf000);
  walk("walk_over_zero", code_walk_over_zero, 0x8000, -64 * 0x1000);
}

const struct attack_case attack_cases[] = {
#define L(name, ...) {#name, run_##name},
    LISTS(L){"edges", run_edges},
    {NULL, NULL},
};
