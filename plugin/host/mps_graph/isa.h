// Runs a loop in the best instruction set of this machine, chosen at run time.
//
//   isa::run([](const float* x, float* y, long n) { for (...) y[i] = f(x[i]); }, x, y, n);
//
// The lambda captures nothing and is compiled once per instruction set (`flatten` pulls everything
// it calls into the clone), so plain loops vectorise to the full register width.
#pragma once

namespace host::isa {

enum class Level { Baseline, Avx2, Avx512 };

inline Level detect() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    return Level::Avx512;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return Level::Avx2;
#endif
  return Level::Baseline;
}
inline Level level() {
  static const Level best = detect();
  return best;
}

#if defined(__x86_64__)
#define HOST_AVX2 __attribute__((target("avx2,fma")))
#if defined(__clang__)  // drops the whole attribute when it meets GCC's vector width
#define HOST_AVX512 __attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")))
#else
#define HOST_AVX512 \
  __attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")))
#endif

template <class F, class... A>
HOST_AVX2 __attribute__((flatten, noinline)) void run_avx2(F f, A... args) {
  f(args...);
}
template <class F, class... A>
HOST_AVX512 __attribute__((flatten, noinline)) void run_avx512(F f, A... args) {
  f(args...);
}
#endif

template <class F, class... A>
void run(F f, A... args) {
#if defined(__x86_64__)
  if (level() == Level::Avx512) return run_avx512(f, args...);
  if (level() == Level::Avx2) return run_avx2(f, args...);
#endif
  f(args...);
}

}  // namespace host::isa
