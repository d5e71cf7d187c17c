// The threads of one threadgroup as fibers of one CPU thread, switched where they meet.
#include "plugin/host/msl/fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

#include "plugin/host/host.h"
#include "plugin/host/msl/kernel.h"

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define HOST_TSAN 1
#endif
#if __has_feature(address_sanitizer)
#define HOST_ASAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define HOST_TSAN 1
#endif
#if defined(__SANITIZE_ADDRESS__)
#define HOST_ASAN 1
#endif

#ifdef HOST_TSAN
extern "C" {
void* __tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void* fiber);
void* __tsan_get_current_fiber();
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_acquire(void* address);
void __tsan_release(void* address);
}
// The bookkeeping below is ordered by the switches themselves, which ThreadSanitizer is told not to
// take for synchronisation: it shall see the shader's threads as concurrent.
#define UNCHECKED __attribute__((no_sanitize("thread")))
#else
#define UNCHECKED
#endif
#ifdef HOST_ASAN
extern "C" {
void __asan_unpoison_memory_region(const volatile void* address, size_t size);
void __sanitizer_start_switch_fiber(void** save, const void* bottom, size_t size);
void __sanitizer_finish_switch_fiber(void* save, const void** bottom, size_t* size);
}
#endif

// Saves the callee-saved registers and the stack pointer to *save, continues at `load`.
extern "C" void host_msl_switch(void** save, void* load);
#if defined(__x86_64__)
asm(R"(.text
.globl host_msl_switch
.hidden host_msl_switch
.type host_msl_switch, @function
host_msl_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size host_msl_switch, .-host_msl_switch
)");
#elif defined(__aarch64__)
asm(R"(.text
.globl host_msl_switch
.hidden host_msl_switch
.type host_msl_switch, %function
host_msl_switch:
  sub sp, sp, #160
  stp x19, x20, [sp]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
.size host_msl_switch, .-host_msl_switch
)");
#endif

namespace host::msl {
namespace {

#if defined(HOST_ASAN) || defined(HOST_TSAN)
constexpr size_t kStackBytes = 256 << 10;  // instrumented frames are large
#else
constexpr size_t kStackBytes = 64 << 10;
#endif
constexpr size_t kGuardBytes = 4096;  // below each stack, not accessible

unsigned looked_at = kDeviceMemory | kThreadgroupMemory;

enum class State { kReady, kAtBarrier, kAtExchange, kLeft };

struct Fiber {
  void* stack_pointer;
  char* stack;  // lowest address, above the guard
  State state;
  int line;  // where it waits
#ifdef HOST_TSAN
  void* tsan;
#endif
};

struct SimdGroup {
  alignas(16) char values[2][kSimdWidth][kMaxLaneBytes];  // of this and of the previous exchange
  unsigned turn;                                          // which of the two is being filled
  uint32_t active;                                        // lanes of the last exchange
  char sync[2];                                           // like Group::sync
};

// The fibers of one CPU thread; used for one threadgroup after another.
struct Group {
  Fiber fibers[kMaxThreadsPerGroup];
  SimdGroup simd[kMaxThreadsPerGroup / kSimdWidth];
  unsigned made = 0;  // fibers that have a stack
  unsigned count;     // threads of the current threadgroup
  unsigned current;
  void* scheduler;  // its stack pointer
  ThreadFunction function;
  void* const* buffers;
  const Thread* first;
  // Addresses that stand for synchronisation towards ThreadSanitizer. Barriers alternate between
  // two: a thread that goes on must not take over what another did since the barrier.
  char sync[2], start_sync, end_sync;
  unsigned turn;  // of `sync`
#ifdef HOST_TSAN
  void* tsan_scheduler;
#endif
#ifdef HOST_ASAN
  void* asan_scheduler;
  const void* scheduler_bottom;
  size_t scheduler_size;
#endif
  ~Group() {
    for (unsigned i = 0; i < made; ++i) {
      munmap(fibers[i].stack - kGuardBytes, kGuardBytes + kStackBytes);
#ifdef HOST_TSAN
      __tsan_destroy_fiber(fibers[i].tsan);
#endif
    }
  }
};

thread_local Group* this_group = nullptr;  // while it runs

Group& group_of_thread() {
  thread_local std::unique_ptr<Group> group = std::make_unique<Group>();
  return *group;
}

// Back to the scheduler; returns when it continues this fiber. `sync` is where it meets others.
UNCHECKED void suspend(Group& g, [[maybe_unused]] char* sync) {
  Fiber& f = g.fibers[g.current];
#ifdef HOST_TSAN
  if (sync) __tsan_release(sync);
  __tsan_switch_to_fiber(g.tsan_scheduler, 1);
#endif
#ifdef HOST_ASAN
  void* fake_stack = nullptr;
  __sanitizer_start_switch_fiber(f.state == State::kLeft ? nullptr : &fake_stack,
                                 g.scheduler_bottom, g.scheduler_size);
#endif
  host_msl_switch(&f.stack_pointer, g.scheduler);
#ifdef HOST_ASAN
  __sanitizer_finish_switch_fiber(fake_stack, &g.scheduler_bottom, &g.scheduler_size);
#endif
#ifdef HOST_TSAN
  if (sync) __tsan_acquire(sync);
#endif
}

UNCHECKED void fiber_main() {
  Group& g = *this_group;
#ifdef HOST_ASAN
  __sanitizer_finish_switch_fiber(nullptr, &g.scheduler_bottom, &g.scheduler_size);
#endif
#ifdef HOST_TSAN
  __tsan_acquire(&g.start_sync);
#endif
  g.function(g.buffers, thread_of(*g.first, g.current));
  g.fibers[g.current].state = State::kLeft;
  suspend(g, &g.end_sync);
  std::abort();  // nobody continues a fiber that has left
}

UNCHECKED void continue_fiber(Group& g, unsigned i) {
  Fiber& f = g.fibers[i];
  g.current = i;
  f.state = State::kReady;
#ifdef HOST_TSAN
  __tsan_switch_to_fiber(f.tsan, 1);
#endif
#ifdef HOST_ASAN
  __sanitizer_start_switch_fiber(&g.asan_scheduler, f.stack, kStackBytes);
#endif
  host_msl_switch(&g.scheduler, f.stack_pointer);
#ifdef HOST_ASAN
  __sanitizer_finish_switch_fiber(g.asan_scheduler, nullptr, nullptr);
#endif
}

void make_stack(Fiber& f) {
  void* memory = mmap(nullptr, kGuardBytes + kStackBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) abort_like_apple("no memory for the stack of a shader thread");
  mprotect(memory, kGuardBytes, PROT_NONE);
  f.stack = static_cast<char*>(memory) + kGuardBytes;
#ifdef HOST_TSAN
  f.tsan = __tsan_create_fiber(0);
#endif
}

// A stack on which host_msl_switch finds zeros for the saved registers and fiber_main to return to.
UNCHECKED void prepare(Fiber& f) {
#ifdef HOST_ASAN
  __asan_unpoison_memory_region(f.stack, kStackBytes);  // frames of a thread that has left
#endif
  void** top = reinterpret_cast<void**>(f.stack + kStackBytes);
#if defined(__x86_64__)
  constexpr int kSaved = 6;
  *--top = nullptr;  // fiber_main's own return address, which also aligns its frame
  *--top = reinterpret_cast<void*>(&fiber_main);
  for (int i = 0; i < kSaved; ++i) *--top = nullptr;
#else
  constexpr int kSaved = 20, kLinkRegister = 11;
  for (int i = 0; i < kSaved; ++i) *--top = nullptr;
  top[kLinkRegister] = reinterpret_cast<void*>(&fiber_main);
#endif
  f.stack_pointer = top;
  f.state = State::kReady;
}

[[noreturn]] void abort_divergent(const char* what, int line, int other) {
  abort_like_apple("shader: divergent " + std::string(what) + ", threads wait at lines " +
                   std::to_string(line) + " and " + std::to_string(other));
}

// Lets the lanes of a SIMD group go on that all wait for an exchange. False when there are none.
UNCHECKED bool complete_exchange(Group& g, unsigned begin) {
  const unsigned end = begin + kSimdWidth < g.count ? begin + kSimdWidth : g.count;
  SimdGroup& simd = g.simd[begin / kSimdWidth];
  const Fiber* waiting = nullptr;
  for (unsigned i = begin; i < end; ++i) {
    if (g.fibers[i].state == State::kAtExchange) waiting = &g.fibers[i];
  }
  if (!waiting) return false;
  simd.active = 0;
  for (unsigned i = begin; i < end; ++i) {
    const Fiber& f = g.fibers[i];
    if (f.state == State::kLeft) continue;
    if (f.state != State::kAtExchange || f.line != waiting->line) {
      abort_divergent("SIMD operation", waiting->line, f.line);
    }
    simd.active |= 1u << (i - begin);
  }
  simd.turn ^= 1;
  for (unsigned i = begin; i < end; ++i) {
    if (g.fibers[i].state == State::kAtExchange) g.fibers[i].state = State::kReady;
  }
  return true;
}

// Lets all threads go on that wait at a barrier. False when all have left the kernel.
UNCHECKED bool complete_barrier(Group& g) {
  unsigned waiting = 0, left = 0;
  int line = 0;
  for (unsigned i = 0; i < g.count; ++i) {
    const Fiber& f = g.fibers[i];
    if (f.state == State::kLeft) {
      ++left;
      continue;
    }
    if (waiting++ && f.line != line) abort_divergent("barrier", line, f.line);
    line = f.line;
  }
  if (waiting && left) {
    abort_like_apple("shader: " + std::to_string(left) + " threads left the kernel while " +
                     std::to_string(waiting) + " wait at the barrier in line " +
                     std::to_string(line));
  }
  for (unsigned i = 0; i < g.count; ++i) {
    if (g.fibers[i].state == State::kAtBarrier) g.fibers[i].state = State::kReady;
  }
  g.turn ^= 1;
  return waiting != 0;
}

UNCHECKED void run_until_all_have_left(Group& g) {
  for (;;) {
    bool exchanged = true;
    while (exchanged) {
      for (unsigned i = 0; i < g.count; ++i) {
        if (g.fibers[i].state == State::kReady) continue_fiber(g, i);
      }
      exchanged = false;
      for (unsigned i = 0; i < g.count; i += kSimdWidth) exchanged |= complete_exchange(g, i);
    }
    if (!complete_barrier(g)) return;
  }
}

UNCHECKED void wait_as(Group& g, State state, int line, char* sync) {
  Fiber& f = g.fibers[g.current];
  f.state = state;
  f.line = line;
  suspend(g, sync);
}

Group& running_group() {
  if (!this_group) abort_like_apple("shader: a barrier in a kernel that was taken for one without");
  return *this_group;
}

}  // namespace

UNCHECKED void barrier(Memory ordered, int line) {
  Group& g = running_group();
  wait_as(g, State::kAtBarrier, line, (ordered & looked_at) != 0 ? &g.sync[g.turn] : nullptr);
}

void look_at(Memory memory) { looked_at = memory; }

UNCHECKED Lanes exchange(const void* value, size_t size, int line) {
  Group& g = running_group();
  const unsigned i = g.current, lane = i % kSimdWidth;
  SimdGroup& simd = g.simd[i / kSimdWidth];
  const unsigned turn = simd.turn;
  const char* bytes = static_cast<const char*>(value);
  for (size_t b = 0; b < size; ++b) simd.values[turn][lane][b] = bytes[b];
  wait_as(g, State::kAtExchange, line, &simd.sync[turn]);
  return {simd.values[turn], simd.active, lane};
}

UNCHECKED void run_fibers(ThreadFunction function, void* const* buffers, const Thread& first) {
  Group& g = group_of_thread();
  g.count = first.group_size.count();
  for (; g.made < g.count; ++g.made) make_stack(g.fibers[g.made]);
  for (unsigned i = 0; i < g.count; ++i) prepare(g.fibers[i]);
  g.function = function, g.buffers = buffers, g.first = &first;
#ifdef HOST_TSAN
  g.tsan_scheduler = __tsan_get_current_fiber();
  __tsan_release(&g.start_sync);
#endif
  this_group = &g;
  run_until_all_have_left(g);
  this_group = nullptr;
#ifdef HOST_TSAN
  __tsan_acquire(&g.end_sync);
#endif
}

}  // namespace host::msl
