// <metal_stdlib> for shaders compiled as C++: the functions, atomics and synchronisation that the
// shaders use. Metal Shading Language Specification, chapter 6.
//
// Everything is correctly rounded or as good as the C library: more precise than a GPU is.
#pragma once

#include <algorithm>
#include <atomic>
#include <concepts>

#include "plugin/host/msl/fiber.h"
#include "plugin/host/msl/kernel.h"
#include "plugin/host/msl/types.h"

namespace metal {

// ---- math
// -----------------------------------------------------------------------------------------

// A function of floats for float, 16-bit floats and vectors of them.
#define MSL_FLOAT_FUNCTION1(name, expression)       \
  inline float name(float x) { return expression; } \
  template <class F>                                \
  Float16<F> name(Float16<F> x) {                   \
    return Float16<F>(name(float(x)));              \
  }                                                 \
  template <Floating T, unsigned N>                 \
  vec<T, N> name(const vec<T, N>& v) {              \
    return map([](T x) { return name(x); }, v);     \
  }
#define MSL_FLOAT_FUNCTION2(name, expression)                \
  inline float name(float x, float y) { return expression; } \
  template <class F>                                         \
  Float16<F> name(Float16<F> x, Float16<F> y) {              \
    return Float16<F>(name(float(x), float(y)));             \
  }                                                          \
  template <Floating T, unsigned N>                          \
  vec<T, N> name(const vec<T, N>& a, const vec<T, N>& b) {   \
    return map([](T x, T y) { return name(x, y); }, a, b);   \
  }
// Those that <metal_math> has in a precise:: version, too.
#define MSL_PRECISE_FUNCTIONS(M)                        \
  M(acos, std::acos(x))                                 \
  M(acosh, std::acosh(x))                               \
  M(asin, std::asin(x))                                 \
  M(asinh, std::asinh(x))                               \
  M(atan, std::atan(x))                                 \
  M(atanh, std::atanh(x))                               \
  M(ceil, std::ceil(x))                                 \
  M(cos, std::cos(x))                                   \
  M(cosh, std::cosh(x))                                 \
  M(cospi, float(std::cos(M_PI * x)))                   \
  M(exp, std::exp(x))                                   \
  M(exp2, std::exp2(x))                                 \
  M(exp10, float(std::pow(10.0, x)))                    \
  M(fabs, std::fabs(x))                                 \
  M(floor, __builtin_floorf(x))                         \
  M(fract, std::min(x - std::floor(x), 0x1.fffffep-1f)) \
  M(log, std::log(x))                                   \
  M(log2, std::log2(x))                                 \
  M(log10, std::log10(x))                               \
  M(rint, std::rint(x))                                 \
  M(round, std::round(x))                               \
  M(rsqrt, float(1 / std::sqrt(double(x))))             \
  M(sin, std::sin(x))                                   \
  M(sinh, std::sinh(x))                                 \
  M(sinpi, float(std::sin(M_PI * x)))                   \
  M(sqrt, std::sqrt(x))                                 \
  M(tan, std::tan(x))                                   \
  M(tanh, std::tanh(x))                                 \
  M(trunc, std::trunc(x))
#define MSL_PRECISE_FUNCTIONS2(M)    \
  M(atan2, std::atan2(x, y))         \
  M(copysign, std::copysign(x, y))   \
  M(fdim, std::fdim(x, y))           \
  M(fmax, std::fmax(x, y))           \
  M(fmin, std::fmin(x, y))           \
  M(fmod, std::fmod(x, y))           \
  M(nextafter, std::nextafter(x, y)) \
  M(pow, std::pow(x, y))             \
  M(powr, std::pow(x, y))
MSL_PRECISE_FUNCTIONS(MSL_FLOAT_FUNCTION1)
MSL_PRECISE_FUNCTIONS2(MSL_FLOAT_FUNCTION2)
MSL_FLOAT_FUNCTION1(saturate, std::fmin(std::fmax(x, 0.0f), 1.0f))
MSL_FLOAT_FUNCTION1(sign, x > 0 ? 1.0f : x < 0 ? -1.0f : x == 0 ? x : 0.0f)
MSL_FLOAT_FUNCTION2(step, y < x ? 0.0f : 1.0f)
#undef MSL_FLOAT_FUNCTION1
#undef MSL_FLOAT_FUNCTION2

namespace precise {
#define MSL_USING(name, expression) using metal::name;
MSL_PRECISE_FUNCTIONS(MSL_USING)
MSL_PRECISE_FUNCTIONS2(MSL_USING)
#undef MSL_USING
}  // namespace precise
namespace fast {
using namespace precise;
}
#undef MSL_PRECISE_FUNCTIONS
#undef MSL_PRECISE_FUNCTIONS2

inline float fma(float a, float b, float c) { return std::fma(a, b, c); }
template <class F>
Float16<F> fma(Float16<F> a, Float16<F> b, Float16<F> c) {
  return Float16<F>(std::fma(float(a), float(b), float(c)));
}
template <Floating T, unsigned N>
vec<T, N> fma(const vec<T, N>& a, const vec<T, N>& b, const vec<T, N>& c) {
  return map([](T x, T y, T z) { return fma(x, y, z); }, a, b, c);
}
inline float ldexp(float x, int e) { return std::ldexp(x, e); }
inline int ilogb(float x) { return std::ilogb(x); }
inline float frexp(float x, int& e) { return std::frexp(x, &e); }
inline float modf(float x, float& whole) { return std::modf(x, &whole); }
inline float sincos(float x, float& cosine) {
  cosine = std::cos(x);
  return std::sin(x);
}

#define MSL_CLASSIFICATION(name)                \
  template <Floating T>                         \
  bool name(T x) {                              \
    return std::name(static_cast<float>(x));    \
  }                                             \
  template <Floating T, unsigned N>             \
  vec<bool, N> name(const vec<T, N>& v) {       \
    return map([](T x) { return name(x); }, v); \
  }
MSL_CLASSIFICATION(isnan)
MSL_CLASSIFICATION(isinf)
MSL_CLASSIFICATION(isfinite)
MSL_CLASSIFICATION(isnormal)
MSL_CLASSIFICATION(signbit)
#undef MSL_CLASSIFICATION

// Both arguments of one type, or of types that C++ would promote.
template <Scalar A, Scalar B>
using Common = std::conditional_t<
    std::is_same_v<A, B>, A,
    std::conditional_t<is_float16<A> && Integer<B>, A,
                       std::conditional_t<is_float16<B> && Integer<A>, B,
                                          decltype(std::declval<A>() + std::declval<B>())>>>;

// Of a NaN and a number the number is the result, as fmin and fmax have it.
template <Scalar A, Scalar B>
Common<A, B> min(A a, B b) {
  using T = Common<A, B>;
  if constexpr (Floating<T>)
    return T(std::fmin(float(a), float(b)));
  else
    return static_cast<T>(b) < static_cast<T>(a) ? static_cast<T>(b) : static_cast<T>(a);
}
template <Scalar A, Scalar B>
Common<A, B> max(A a, B b) {
  using T = Common<A, B>;
  if constexpr (Floating<T>)
    return T(std::fmax(float(a), float(b)));
  else
    return static_cast<T>(a) < static_cast<T>(b) ? static_cast<T>(b) : static_cast<T>(a);
}
template <Scalar A, Scalar B, Scalar C>
auto clamp(A x, B low, C high) {
  return min(max(x, low), high);
}
template <Scalar T>
T abs(T x) {
  if constexpr (Floating<T>)
    return T(std::fabs(float(x)));
  else if constexpr (std::is_signed_v<T>)
    return x < 0 ? static_cast<T>(T(0) - x) : x;
  else
    return x;
}
template <Floating T>
T mix(T a, T b, T t) {
  return T(a + (b - a) * t);
}
template <Scalar T>
T select(T if_false, T if_true, bool condition) {
  return condition ? if_true : if_false;
}
template <class T, unsigned N>
vec<T, N> min(const vec<T, N>& a, const vec<T, N>& b) {
  return map([](T x, T y) { return min(x, y); }, a, b);
}
template <class T, unsigned N>
vec<T, N> max(const vec<T, N>& a, const vec<T, N>& b) {
  return map([](T x, T y) { return max(x, y); }, a, b);
}
template <class T, unsigned N>
vec<T, N> clamp(const vec<T, N>& v, const vec<T, N>& low, const vec<T, N>& high) {
  return min(max(v, low), high);
}
template <class T, unsigned N>
vec<T, N> abs(const vec<T, N>& v) {
  return map([](T x) { return abs(x); }, v);
}
template <class T, unsigned N>
vec<T, N> mix(const vec<T, N>& a, const vec<T, N>& b, const vec<T, N>& t) {
  return a + (b - a) * t;
}
template <class T, unsigned N>
vec<T, N> select(const vec<T, N>& a, const vec<T, N>& b, const vec<bool, N>& condition) {
  return map([](T x, T y, bool c) { return c ? y : x; }, a, b, condition);
}
template <class T, unsigned N>
T dot(const vec<T, N>& a, const vec<T, N>& b) {
  T sum = a[0] * b[0];
  for (unsigned i = 1; i < N; ++i) sum += a[i] * b[i];
  return sum;
}

// ---- integers
// -------------------------------------------------------------------------------------

template <Integer T>
T popcount(T x) {
  return static_cast<T>(std::popcount(static_cast<std::make_unsigned_t<T>>(x)));
}
template <Integer T>
T clz(T x) {
  return static_cast<T>(std::countl_zero(static_cast<std::make_unsigned_t<T>>(x)));
}
template <Integer T>
T ctz(T x) {
  return static_cast<T>(std::countr_zero(static_cast<std::make_unsigned_t<T>>(x)));
}
template <Integer T>
T rotate(T x, T bits) {
  return static_cast<T>(std::rotl(static_cast<std::make_unsigned_t<T>>(x), static_cast<int>(bits)));
}
template <Integer T>
T mulhi(T a, T b) {
  using Wide = std::conditional_t<std::is_signed_v<T>, __int128, unsigned __int128>;
  return static_cast<T>((static_cast<Wide>(a) * static_cast<Wide>(b)) >> (8 * sizeof(T)));
}
template <Integer T>
T reverse_bits(T x) {
  std::make_unsigned_t<T> in = x, out = 0;
  for (unsigned i = 0; i < 8 * sizeof(T); ++i, in >>= 1) out = (out << 1) | (in & 1);
  return static_cast<T>(out);
}
template <Integer T>
T addsat(T a, T b) {
  T sum;
  if (!__builtin_add_overflow(a, b, &sum)) return sum;
  return b < 0 ? std::numeric_limits<T>::min() : std::numeric_limits<T>::max();
}
template <Integer T>
T subsat(T a, T b) {
  T difference;
  if (!__builtin_sub_overflow(a, b, &difference)) return difference;
  return b > 0 ? std::numeric_limits<T>::min() : std::numeric_limits<T>::max();
}

// ---- atomics: relaxed is the only order that Metal has
// ---------------------------------------------

enum memory_order { memory_order_relaxed };

template <class T>
struct atomic {
  T value;
};
using atomic_int = atomic<int>;
using atomic_uint = atomic<uint>;
using atomic_ulong = atomic<ulong>;
using atomic_float = atomic<float>;
using atomic_bool = atomic<bool>;

template <class T>
std::atomic_ref<T> as_ref(const volatile atomic<T>* a) {
  return std::atomic_ref<T>(const_cast<T&>(a->value));
}
template <class T>
T atomic_load_explicit(const volatile atomic<T>* a, memory_order) {
  return as_ref(a).load(std::memory_order_relaxed);
}
template <class T>
void atomic_store_explicit(volatile atomic<T>* a, std::type_identity_t<T> v, memory_order) {
  as_ref(a).store(v, std::memory_order_relaxed);
}
template <class T>
T atomic_exchange_explicit(volatile atomic<T>* a, std::type_identity_t<T> v, memory_order) {
  return as_ref(a).exchange(v, std::memory_order_relaxed);
}
template <class T>
bool atomic_compare_exchange_weak_explicit(volatile atomic<T>* a, T* expected,
                                           std::type_identity_t<T> v, memory_order, memory_order) {
  return as_ref(a).compare_exchange_weak(*expected, v, std::memory_order_relaxed);
}
#define MSL_ATOMIC_FETCH(name, expression)                                           \
  template <class T>                                                                 \
  T atomic_fetch_##name##_explicit(volatile atomic<T>* a, std::type_identity_t<T> v, \
                                   memory_order) {                                   \
    T old = as_ref(a).load(std::memory_order_relaxed);                               \
    while (!as_ref(a).compare_exchange_weak(old, static_cast<T>(expression),         \
                                            std::memory_order_relaxed)) {            \
    }                                                                                \
    return old;                                                                      \
  }
MSL_ATOMIC_FETCH(add, old + v)
MSL_ATOMIC_FETCH(sub, old - v)
MSL_ATOMIC_FETCH(min, v < old ? v : old)
MSL_ATOMIC_FETCH(max, old < v ? v : old)
MSL_ATOMIC_FETCH(and, old& v)
MSL_ATOMIC_FETCH(or, old | v)
MSL_ATOMIC_FETCH(xor, old ^ v)
#undef MSL_ATOMIC_FETCH

// ---- threads of a threadgroup ------------------------------------------------------------------

enum class mem_flags {
  mem_none = host::msl::kNoMemory,
  mem_device = host::msl::kDeviceMemory,
  mem_threadgroup = host::msl::kThreadgroupMemory,
};
constexpr mem_flags operator|(mem_flags a, mem_flags b) {
  return static_cast<mem_flags>(static_cast<unsigned>(a) | static_cast<unsigned>(b));
}

inline void threadgroup_barrier(mem_flags flags, int line = __builtin_LINE()) {
  host::msl::barrier(static_cast<host::msl::Memory>(flags), line);
}
inline void simdgroup_barrier(mem_flags, int line = __builtin_LINE()) {
  host::msl::exchange("", 0, line);
}

// What the lanes of a SIMD group brought, as values of type T.
template <class T>
class LaneValues {
 public:
  LaneValues(T mine, int line)
      : mine_(mine), lanes_(host::msl::exchange(&mine, sizeof mine, line)) {
    static_assert(sizeof(T) <= host::msl::kMaxLaneBytes);
  }
  unsigned lane() const { return lanes_.lane; }
  bool active(unsigned i) const { return i < host::msl::kSimdWidth && (lanes_.active >> i & 1); }
  uint mask() const { return lanes_.active; }
  // Undefined by Metal for a lane that takes no part; here it is the caller's own value.
  T operator[](unsigned i) const {
    if (!active(i)) return mine_;
    T value;
    std::memcpy(static_cast<void*>(&value), lanes_.values[i], sizeof value);
    return value;
  }
  template <class F>
  T reduce(F f, unsigned end = host::msl::kSimdWidth) const {  // of lanes below `end`
    T result{};
    bool first = true;
    for (unsigned i = 0; i < end; ++i) {
      if (!active(i)) continue;
      result = first ? (*this)[i] : T(f(result, (*this)[i]));
      first = false;
    }
    return result;
  }

 private:
  T mine_;
  host::msl::Lanes lanes_;
};

#define MSL_SIMD_REDUCTION(name, expression)                                       \
  template <class T>                                                               \
  T name(T value, int line = __builtin_LINE()) {                                   \
    return LaneValues<T>(value, line).reduce([](T a, T b) { return expression; }); \
  }
MSL_SIMD_REDUCTION(simd_sum, a + b)
MSL_SIMD_REDUCTION(simd_product, a* b)
MSL_SIMD_REDUCTION(simd_min, min(a, b))
MSL_SIMD_REDUCTION(simd_max, max(a, b))
MSL_SIMD_REDUCTION(simd_and, a& b)
MSL_SIMD_REDUCTION(simd_or, a | b)
MSL_SIMD_REDUCTION(simd_xor, a ^ b)
#undef MSL_SIMD_REDUCTION

inline bool simd_all(bool value, int line = __builtin_LINE()) {
  return LaneValues<bool>(value, line).reduce([](bool a, bool b) { return a && b; });
}
inline bool simd_any(bool value, int line = __builtin_LINE()) {
  return LaneValues<bool>(value, line).reduce([](bool a, bool b) { return a || b; });
}
template <class T>
T simd_prefix_inclusive_sum(T value, int line = __builtin_LINE()) {
  const LaneValues<T> lanes(value, line);
  return lanes.reduce([](T a, T b) { return a + b; }, lanes.lane() + 1);
}
template <class T>
T simd_prefix_exclusive_sum(T value, int line = __builtin_LINE()) {
  const LaneValues<T> lanes(value, line);
  return lanes.reduce([](T a, T b) { return a + b; }, lanes.lane());
}
template <class T>
T simd_shuffle(T value, ushort lane, int line = __builtin_LINE()) {
  return LaneValues<T>(value, line)[lane];
}
template <class T>
T simd_broadcast(T value, ushort lane, int line = __builtin_LINE()) {
  return LaneValues<T>(value, line)[lane];
}
template <class T>
T simd_broadcast_first(T value, int line = __builtin_LINE()) {
  const LaneValues<T> lanes(value, line);
  return lanes[static_cast<unsigned>(std::countr_zero(lanes.mask()))];
}
template <class T>
T simd_shuffle_xor(T value, ushort mask, int line = __builtin_LINE()) {
  const LaneValues<T> lanes(value, line);
  return lanes[lanes.lane() ^ mask];
}
template <class T>
T simd_shuffle_up(T value, ushort delta, int line = __builtin_LINE()) {
  const LaneValues<T> lanes(value, line);
  return lanes[lanes.lane() - delta];
}
template <class T>
T simd_shuffle_down(T value, ushort delta, int line = __builtin_LINE()) {
  const LaneValues<T> lanes(value, line);
  return lanes[lanes.lane() + delta];
}
inline bool simd_is_first(int line = __builtin_LINE()) {
  const LaneValues<bool> lanes(true, line);
  return lanes.lane() == static_cast<unsigned>(std::countr_zero(lanes.mask()));
}

// ---- values of kernel parameters, for generated code
// -----------------------------------------------

template <class T>
T attribute(uint32_t scalar) {
  return static_cast<T>(scalar);
}
template <class T>
T attribute(host::msl::Size3 size) {
  if constexpr (!Vector<T>) {
    return static_cast<T>(size.x);
  } else if constexpr (T::kSize == 2) {
    return T(size.x, size.y);
  } else {
    return T(size.x, size.y, size.z);
  }
}

}  // namespace metal

// Address spaces and qualifiers; last, because the words mean other things in other headers.
// Threads of a threadgroup are fibers of one CPU thread, so that their shared variables are
// thread_local statics; the generator marks those declarations.
#define kernel
#define device
#define constant const
#define thread
#define threadgroup
#define MSL_THREADGROUP_VARIABLE static thread_local
