// objc_msgSend: find the method, then jump to it with every argument where the caller put it.
//
// Only registers that can carry arguments are saved around the look-up; arguments on the stack are
// not touched. A nil receiver answers zero in every register that can carry a result.
#include "plugin/metal/objc.h"

#if defined(__x86_64__)

// System V: integers in rdi rsi rdx rcx r8 r9, al = number of vector registers of a variadic call,
// floats in xmm0-7. A struct of more than two words is returned through the pointer in rdi, so that
// the receiver is in rsi.
#define HOST_TRAMPOLINE(NAME, SELF, COMMAND, NIL_ANSWER)    \
  asm(".text\n.p2align 4\n.globl " NAME "\n.hidden " NAME   \
      "\n"                                                  \
      ".type " NAME ",@function\n" NAME                     \
      ":\n"                                                 \
      ".cfi_startproc\n"                                    \
      "  testq %" SELF ", %" SELF                           \
      "\n"                                                  \
      "  je 1f\n"                                           \
      "  pushq %rbp\n"                                      \
      "  .cfi_def_cfa_offset 16\n  .cfi_offset %rbp, -16\n" \
      "  movq %rsp, %rbp\n"                                 \
      "  .cfi_def_cfa_register %rbp\n"                      \
      "  subq $192, %rsp\n"                                 \
      "  movq %rdi, -8(%rbp)\n"                             \
      "  movq %rsi, -16(%rbp)\n"                            \
      "  movq %rdx, -24(%rbp)\n"                            \
      "  movq %rcx, -32(%rbp)\n"                            \
      "  movq %r8, -40(%rbp)\n"                             \
      "  movq %r9, -48(%rbp)\n"                             \
      "  movq %rax, -56(%rbp)\n"                            \
      "  movaps %xmm0, -80(%rbp)\n"                         \
      "  movaps %xmm1, -96(%rbp)\n"                         \
      "  movaps %xmm2, -112(%rbp)\n"                        \
      "  movaps %xmm3, -128(%rbp)\n"                        \
      "  movaps %xmm4, -144(%rbp)\n"                        \
      "  movaps %xmm5, -160(%rbp)\n"                        \
      "  movaps %xmm6, -176(%rbp)\n"                        \
      "  movaps %xmm7, -192(%rbp)\n"                        \
      "  movq %" SELF                                       \
      ", %rax\n"                                            \
      "  movq %" COMMAND                                    \
      ", %rsi\n"                                            \
      "  movq %rax, %rdi\n"                                 \
      "  call objc_host_lookup\n"                           \
      "  movq %rax, %r11\n"                                 \
      "  movaps -80(%rbp), %xmm0\n"                         \
      "  movaps -96(%rbp), %xmm1\n"                         \
      "  movaps -112(%rbp), %xmm2\n"                        \
      "  movaps -128(%rbp), %xmm3\n"                        \
      "  movaps -144(%rbp), %xmm4\n"                        \
      "  movaps -160(%rbp), %xmm5\n"                        \
      "  movaps -176(%rbp), %xmm6\n"                        \
      "  movaps -192(%rbp), %xmm7\n"                        \
      "  movq -8(%rbp), %rdi\n"                             \
      "  movq -16(%rbp), %rsi\n"                            \
      "  movq -24(%rbp), %rdx\n"                            \
      "  movq -32(%rbp), %rcx\n"                            \
      "  movq -40(%rbp), %r8\n"                             \
      "  movq -48(%rbp), %r9\n"                             \
      "  movq -56(%rbp), %rax\n"                            \
      "  leave\n"                                           \
      "  .cfi_def_cfa %rsp, 8\n"                            \
      "  jmp *%r11\n"                                       \
      "1:\n" NIL_ANSWER                                     \
      "  ret\n"                                             \
      ".cfi_endproc\n"                                      \
      ".size " NAME ", .-" NAME "\n")

HOST_TRAMPOLINE("objc_msgSend", "rdi", "rsi",
                "  xorl %eax, %eax\n  xorl %edx, %edx\n"
                "  xorps %xmm0, %xmm0\n  xorps %xmm1, %xmm1\n");
HOST_TRAMPOLINE("objc_msgSend_stret", "rsi", "rdx", "  movq %rdi, %rax\n");

#elif defined(__aarch64__)

// AAPCS64: integers in x0-x7, x8 = where a large struct result goes, floats in q0-q7.
asm(R"(.text
.p2align 4
.globl objc_msgSend
.hidden objc_msgSend
.type objc_msgSend, %function
objc_msgSend:
  .cfi_startproc
  cbz x0, 1f
  stp x29, x30, [sp, #-224]!
  .cfi_def_cfa_offset 224
  .cfi_offset x29, -224
  .cfi_offset x30, -216
  mov x29, sp
  stp x0, x1, [sp, #16]
  stp x2, x3, [sp, #32]
  stp x4, x5, [sp, #48]
  stp x6, x7, [sp, #64]
  str x8, [sp, #80]
  stp q0, q1, [sp, #96]
  stp q2, q3, [sp, #128]
  stp q4, q5, [sp, #160]
  stp q6, q7, [sp, #192]
  bl objc_host_lookup
  mov x16, x0
  ldp q6, q7, [sp, #192]
  ldp q4, q5, [sp, #160]
  ldp q2, q3, [sp, #128]
  ldp q0, q1, [sp, #96]
  ldr x8, [sp, #80]
  ldp x6, x7, [sp, #64]
  ldp x4, x5, [sp, #48]
  ldp x2, x3, [sp, #32]
  ldp x0, x1, [sp, #16]
  ldp x29, x30, [sp], #224
  .cfi_def_cfa_offset 0
  .cfi_restore x29
  .cfi_restore x30
  br x16
1:
  mov x0, #0
  mov x1, #0
  movi d0, #0
  movi d1, #0
  movi d2, #0
  movi d3, #0
  ret
  .cfi_endproc
.size objc_msgSend, .-objc_msgSend
)");

#else
#error "objc_msgSend is written for x86-64 and aarch64"
#endif
