# Instructions that cross from one page into the next, which holds code, something else later, or nothing that may be executed.
# page_edges_handlers.c maps the pages and puts the code there.
#include "cases.inc"

# For every split of the code's bytes over the two pages: page_edges_place(code, length, split) puts it there and gives its address,
# it is called, and rax goes into the sum r12. A fault ends that split; its line is printed.
  .macro SPLITS name, protection
CASE \name\()_next_page_\protection, next_split
  mov $page_edges_\protection, %edi
  call page_edges_protect
  xor %r12d, %r12d; mov $1, %r13d
1:lea \name\()_code(%rip), %rdi
  mov $\name\()_end-\name\()_code, %esi
  mov %r13, %rdx
  call page_edges_place
  mov %rax, %rbx
  mov $0x77, %eax
  xor %ecx, %ecx; xor %edx, %edx; xor %esi, %esi; xor %edi, %edi
  xor %r8d, %r8d; xor %r9d, %r9d; xor %r10d, %r10d; xor %r11d, %r11d
  call page_edges_call
  imul $31, %r12, %r12
  add %rax, %r12
  inc %r13
  cmp $\name\()_end-\name\()_code, %r13
  jbe 1b
  ret
  .endm

  .macro CODE name
  .pushsection .rodata
\name\()_code:
  .endm
  .macro END_CODE name
\name\()_end:
  .popsection
  .irp protection, executable, readable, absent
  SPLITS \name, \protection
  .endr
  .endm

# The values of enum in page_edges_handlers.c.
  .set page_edges_executable, 0
  .set page_edges_readable, 1
  .set page_edges_absent, 2

CODE immediate
  movabs $0x1122334455667788, %rax
  ret
END_CODE immediate

CODE jump
  jmp 1f
  ud2
1:lea 5(%rax), %rax
  {disp32} jmp 2f
  ud2
2:ret
END_CODE jump

CODE calls
  call 1f
  lea 2(%rax), %rax
  ret
1:lea 3(%rax, %rax), %rax
  ret
END_CODE calls

CODE conditions
  cmp $0x77, %eax
  {disp32} je 1f
  ud2
1:jne 2f
  add $9, %eax
2:ret
END_CODE conditions

CODE relative
  lea 1f(%rip), %rbx
  mov 1f(%rip), %rax
  add $0x12345678, %rax
  addl $0x1234, %eax
  ret
1:.quad 0x1234567812345678
END_CODE relative

CODE vector
  vpxor %ymm3, %ymm3, %ymm3
  vpinsrq $1, 1f(%rip), %xmm3, %xmm3
  vpextrq $1, %xmm3, %rax
  vzeroupper
  ret
1:.quad 0x0123456789abcdef
END_CODE vector

CODE system_call
  mov $0xffff, %eax
  syscall
  ret
END_CODE system_call

CODE indirect
  lea 1f(%rip), %rcx
  jmp *%rcx
  ud2
1:push %rcx
  call *6f(%rip)
  pop %rcx
  ret
6:.quad page_edges_leaf
END_CODE indirect

  .globl page_edges_leaf
page_edges_leaf:
  add $0x100, %rax
  ret

# Calls rbx; the handler comes back to page_edges_resume with the stack as it was.
page_edges_call:
  mov %rsp, page_edges_stack(%rip)
  call *%rbx
  .globl page_edges_resume
  .hidden page_edges_resume
page_edges_resume:
  mov page_edges_stack(%rip), %rsp
  ret

  .globl page_edges_stack
  .hidden page_edges_stack
  .comm page_edges_stack, 8, 8

# The bytes in the second page change, and then the whole second page does.
CASE second_page_rewritten, next_split
  mov $page_edges_executable, %edi
  call page_edges_protect
  lea immediate_code(%rip), %rdi
  mov $immediate_end-immediate_code, %esi
  mov $4, %edx
  call page_edges_place
  mov %rax, %rbx
  xor %r12d, %r12d; mov $100, %r13d
1:call page_edges_call
  add %rax, %r12
  rol $1, %r12
  addb $3, 7(%rbx)
  addb $5, 3(%rbx)
  dec %r13d
  jnz 1b
  ret

CASE second_page_replaced, next_split
  xor %r12d, %r12d; mov $20, %r13d
1:mov $page_edges_executable, %edi
  call page_edges_protect
  lea immediate_code(%rip), %rdi
  mov $immediate_end-immediate_code, %esi
  mov $4, %edx
  call page_edges_place
  mov %rax, %rbx
  mov %r13b, 6(%rbx)
  call page_edges_call
  add %rax, %r12
  rol $1, %r12
  call page_edges_remove_second
  call page_edges_call
  dec %r13d
  jnz 1b
  ret

# Straight code that runs to the very end of the last executable page: each instruction before the fault takes effect.
CASE runs_off_the_page, next_split
  mov $page_edges_absent, %edi
  call page_edges_protect
  lea immediate_code(%rip), %rdi
  mov $10, %esi
  mov $10, %edx
  call page_edges_place
  mov %rax, %rbx
  call page_edges_call
  ret

CASE loop_at_the_end_of_the_page, next_split
  mov $page_edges_absent, %edi
  call page_edges_protect
  lea 1f(%rip), %rdi
  mov $2f-1f, %esi
  mov $2f-1f, %edx
  call page_edges_place
  mov %rax, %rbx
  mov $30, %ecx
  xor %eax, %eax
  call page_edges_call
  ret
1:add %rcx, %rax
  dec %ecx
  jnz 1b
2:
