// The scalar and vector types of the Metal Shading Language, for shaders compiled as C++.
//
// Metal Shading Language Specification, chapter 2. Vectors have .x .y .z .w and indexing; the other
// swizzles are not part of the dialect that the shaders keep to.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

namespace metal {

using uchar = unsigned char;
using ushort = unsigned short;
using uint = unsigned int;
using ulong = unsigned long;

// ---- 16-bit floats: every operation is computed in float32 and rounded to nearest even
// -----------

// Without branches and without the compiler's library calls, so that loops over them vectorise.
struct HalfFormat {
  static uint16_t encode(float v) {
    const uint32_t bits = std::bit_cast<uint32_t>(v), magnitude = bits & 0x7fffffff;
    const uint32_t nan = 0x7e00 | (magnitude >> 13 & 0x3ff);
    // A denormal result: adding 0.5 leaves the rounded mantissa in the low bits.
    const uint32_t small =
        std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
    uint32_t half = (magnitude + 0xc8000fffu + (magnitude >> 13 & 1)) >> 13;
    half = magnitude < 0x38800000 ? small : half;
    half = magnitude >= 0x477ff000 ? 0x7c00 : half;
    half = magnitude > 0x7f800000 ? nan : half;
    return static_cast<uint16_t>(half | (bits >> 16 & 0x8000));
  }
  static float decode(uint16_t half) {
    constexpr uint32_t kExponent = 0x0f800000;  // of a half, where float32 has its own
    const uint32_t magnitude = uint32_t{half & 0x7fffu} << 13;
    const uint32_t normal = magnitude + (112u << 23);
    // Denormal: 2^-14 * (1 + m) - 2^-14 is normalised by the hardware.
    const float denormal =
        std::bit_cast<float>(magnitude + (113u << 23)) - std::bit_cast<float>(113u << 23);
    uint32_t bits = (magnitude & kExponent) == kExponent ? normal + (112u << 23) : normal;
    bits = (magnitude & kExponent) == 0 ? std::bit_cast<uint32_t>(denormal) : bits;
    return std::bit_cast<float>(bits | uint32_t{half & 0x8000u} << 16);
  }
};
struct BfloatFormat {
  static uint16_t encode(float v) {
    const uint32_t bits = std::bit_cast<uint32_t>(v);
    if (v != v) return static_cast<uint16_t>((bits >> 16) | 0x40);  // stays a (quiet) NaN
    return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
  }
  static float decode(uint16_t bits) { return std::bit_cast<float>(uint32_t{bits} << 16); }
};

template <class T>
concept Arithmetic = std::is_arithmetic_v<T>;

template <class Format>
class Float16 {
 public:
  Float16() = default;
  template <Arithmetic T>
  Float16(T v) : bits_(Format::encode(static_cast<float>(v))) {}
  template <class Other>
  explicit Float16(Float16<Other> v) : Float16(static_cast<float>(v)) {}
  operator float() const { return Format::decode(bits_); }
  Float16 operator-() const { return -float(*this); }
  Float16 operator+() const { return *this; }

 private:
  uint16_t bits_;
};
using half = Float16<HalfFormat>;
using bfloat = Float16<BfloatFormat>;

// With a 16-bit float or an integer the result is a 16-bit float, with a float it is a float.
#define MSL_FLOAT16_OPERATOR(op)                       \
  template <class F>                                   \
  Float16<F> operator op(Float16<F> a, Float16<F> b) { \
    return Float16<F>(float(a) op float(b));           \
  }                                                    \
  template <class F, Arithmetic T>                     \
  auto operator op(Float16<F> a, T b) {                \
    if constexpr (std::is_integral_v<T>) {             \
      return a op Float16<F>(b);                       \
    } else {                                           \
      return float(a) op b;                            \
    }                                                  \
  }                                                    \
  template <class F, Arithmetic T>                     \
  auto operator op(T a, Float16<F> b) {                \
    if constexpr (std::is_integral_v<T>) {             \
      return Float16<F>(a) op b;                       \
    } else {                                           \
      return a op float(b);                            \
    }                                                  \
  }                                                    \
  template <class F, class T>                          \
  Float16<F>& operator op## = (Float16<F> & a, T b) {  \
    return a = Float16<F>(a op b);                     \
  }
MSL_FLOAT16_OPERATOR(+)
MSL_FLOAT16_OPERATOR(-)
MSL_FLOAT16_OPERATOR(*)
MSL_FLOAT16_OPERATOR(/)
#undef MSL_FLOAT16_OPERATOR

#define MSL_FLOAT16_COMPARISON(op)               \
  template <class F>                             \
  bool operator op(Float16<F> a, Float16<F> b) { \
    return float(a) op float(b);                 \
  }                                              \
  template <class F, Arithmetic T>               \
  bool operator op(Float16<F> a, T b) {          \
    return float(a) op static_cast<float>(b);    \
  }                                              \
  template <class F, Arithmetic T>               \
  bool operator op(T a, Float16<F> b) {          \
    return static_cast<float>(a) op float(b);    \
  }
MSL_FLOAT16_COMPARISON(==)
MSL_FLOAT16_COMPARISON(!=)
MSL_FLOAT16_COMPARISON(<)
MSL_FLOAT16_COMPARISON(<=)
MSL_FLOAT16_COMPARISON(>)
MSL_FLOAT16_COMPARISON(>=)
#undef MSL_FLOAT16_COMPARISON

template <class T>
constexpr bool is_float16 = std::is_same_v<T, half> || std::is_same_v<T, bfloat>;
template <class T>
concept Floating = std::is_floating_point_v<T> || is_float16<T>;
template <class T>
concept Integer = std::is_integral_v<T>;
template <class T>
concept Scalar = Floating<T> || Integer<T>;

// ---- vectors
// --------------------------------------------------------------------------------------

template <Scalar T, unsigned N>
struct Components;
template <Scalar T>
struct alignas(2 * sizeof(T)) Components<T, 2> {
  T x, y;
};
template <Scalar T>
struct alignas(4 * sizeof(T)) Components<T, 3> {  // as large as four
  T x, y, z;
};
template <Scalar T>
struct alignas(4 * sizeof(T)) Components<T, 4> {
  T x, y, z, w;
};

template <Scalar T, unsigned N>
struct vec : Components<T, N> {
  using Element = T;
  static constexpr unsigned kSize = N;

  vec() = default;
  vec(T all) {
    for (unsigned i = 0; i < N; ++i) (*this)[i] = all;
  }
  template <Scalar A>
    requires(!std::is_same_v<A, T>)
  vec(A all) : vec(static_cast<T>(all)) {}
  template <Scalar U>
    requires(!std::is_same_v<U, T>)
  explicit vec(const vec<U, N>& other) {
    for (unsigned i = 0; i < N; ++i) (*this)[i] = static_cast<T>(other[i]);
  }
  // Scalars and shorter vectors that make up N components.
  template <class A, class B, class... More>
  vec(const A& a, const B& b, const More&... more) {
    unsigned i = 0;
    append(i, a), append(i, b), (append(i, more), ...);
  }

  T& operator[](unsigned i) { return const_cast<T&>(static_cast<const vec&>(*this)[i]); }
  const T& operator[](unsigned i) const {
    if (i == 0) return this->x;
    if constexpr (N > 2) {
      if (i == 2) return this->z;
    }
    if constexpr (N > 3) {
      if (i == 3) return this->w;
    }
    return this->y;
  }

 private:
  template <Scalar A>
  void append(unsigned& i, A value) {
    (*this)[i++] = static_cast<T>(value);
  }
  template <class U, unsigned M>
  void append(unsigned& i, const vec<U, M>& part) {
    for (unsigned j = 0; j < M; ++j) append(i, part[j]);
  }
};

template <class V>
struct VectorTraits {
  static constexpr bool is_vector = false;
};
template <class T, unsigned N>
struct VectorTraits<vec<T, N>> {
  static constexpr bool is_vector = true;
};
template <class V>
concept Vector = VectorTraits<V>::is_vector;

// f applied to each component, of one to three vectors.
template <class T, unsigned N, class F, class... More>
auto map(F f, const vec<T, N>& v, const More&... more) {
  vec<decltype(f(v[0], more[0]...)), N> result;
  for (unsigned i = 0; i < N; ++i) result[i] = f(v[i], more[i]...);
  return result;
}

#define MSL_VECTOR_OPERATOR(op)                                           \
  template <class T, unsigned N>                                          \
  auto operator op(const vec<T, N>& a, const vec<T, N>& b) {              \
    vec<T, N> r;                                                          \
    for (unsigned i = 0; i < N; ++i) r[i] = static_cast<T>(a[i] op b[i]); \
    return r;                                                             \
  }                                                                       \
  template <class T, unsigned N, Scalar S>                                \
  auto operator op(const vec<T, N>& a, S b) {                             \
    return a op vec<T, N>(b);                                             \
  }                                                                       \
  template <class T, unsigned N, Scalar S>                                \
  auto operator op(S a, const vec<T, N>& b) {                             \
    return vec<T, N>(a) op b;                                             \
  }                                                                       \
  template <class T, unsigned N, class B>                                 \
  vec<T, N>& operator op## = (vec<T, N> & a, const B& b) {                \
    return a = a op b;                                                    \
  }
MSL_VECTOR_OPERATOR(+)
MSL_VECTOR_OPERATOR(-)
MSL_VECTOR_OPERATOR(*)
MSL_VECTOR_OPERATOR(/)
MSL_VECTOR_OPERATOR(%)
MSL_VECTOR_OPERATOR(&)
MSL_VECTOR_OPERATOR(|)
MSL_VECTOR_OPERATOR(^)
MSL_VECTOR_OPERATOR(<<)
MSL_VECTOR_OPERATOR(>>)
#undef MSL_VECTOR_OPERATOR

#define MSL_VECTOR_COMPARISON(op)                                    \
  template <class T, unsigned N>                                     \
  vec<bool, N> operator op(const vec<T, N>& a, const vec<T, N>& b) { \
    vec<bool, N> r;                                                  \
    for (unsigned i = 0; i < N; ++i) r[i] = a[i] op b[i];            \
    return r;                                                        \
  }                                                                  \
  template <class T, unsigned N, Scalar S>                           \
  vec<bool, N> operator op(const vec<T, N>& a, S b) {                \
    return a op vec<T, N>(b);                                        \
  }                                                                  \
  template <class T, unsigned N, Scalar S>                           \
  vec<bool, N> operator op(S a, const vec<T, N>& b) {                \
    return vec<T, N>(a) op b;                                        \
  }
MSL_VECTOR_COMPARISON(==)
MSL_VECTOR_COMPARISON(!=)
MSL_VECTOR_COMPARISON(<)
MSL_VECTOR_COMPARISON(<=)
MSL_VECTOR_COMPARISON(>)
MSL_VECTOR_COMPARISON(>=)
MSL_VECTOR_COMPARISON(&&)
MSL_VECTOR_COMPARISON(||)
#undef MSL_VECTOR_COMPARISON

template <class T, unsigned N>
vec<T, N> operator-(const vec<T, N>& v) {
  return map([](T x) { return static_cast<T>(-x); }, v);
}
template <class T, unsigned N>
vec<T, N> operator~(const vec<T, N>& v) {
  return map([](T x) { return static_cast<T>(~x); }, v);
}
template <class T, unsigned N>
vec<bool, N> operator!(const vec<T, N>& v) {
  return map([](T x) { return !x; }, v);
}
template <unsigned N>
bool any(const vec<bool, N>& v) {
  bool r = false;
  for (unsigned i = 0; i < N; ++i) r |= v[i];
  return r;
}
template <unsigned N>
bool all(const vec<bool, N>& v) {
  bool r = true;
  for (unsigned i = 0; i < N; ++i) r &= v[i];
  return r;
}

// Vectors without the padding and alignment of vec.
template <Scalar T, unsigned N>
struct packed_vec {
  T elements[N];
  packed_vec() = default;
  packed_vec(const vec<T, N>& v) {
    for (unsigned i = 0; i < N; ++i) elements[i] = v[i];
  }
  operator vec<T, N>() const {
    vec<T, N> v;
    for (unsigned i = 0; i < N; ++i) v[i] = elements[i];
    return v;
  }
  T& operator[](unsigned i) { return elements[i]; }
  const T& operator[](unsigned i) const { return elements[i]; }
};

#define MSL_VECTOR_NAMES(T)               \
  using T##2 = vec<T, 2>;                 \
  using T##3 = vec<T, 3>;                 \
  using T##4 = vec<T, 4>;                 \
  using packed_##T##2 = packed_vec<T, 2>; \
  using packed_##T##3 = packed_vec<T, 3>; \
  using packed_##T##4 = packed_vec<T, 4>;
MSL_VECTOR_NAMES(bool)
MSL_VECTOR_NAMES(char)
MSL_VECTOR_NAMES(uchar)
MSL_VECTOR_NAMES(short)
MSL_VECTOR_NAMES(ushort)
MSL_VECTOR_NAMES(int)
MSL_VECTOR_NAMES(uint)
MSL_VECTOR_NAMES(long)
MSL_VECTOR_NAMES(ulong)
MSL_VECTOR_NAMES(half)
MSL_VECTOR_NAMES(bfloat)
MSL_VECTOR_NAMES(float)
#undef MSL_VECTOR_NAMES

// Reinterprets the bits.
template <class To, class From>
To as_type(From value) {
  static_assert(sizeof(To) == sizeof(From));
  To result;
  std::memcpy(static_cast<void*>(&result), &value, sizeof result);
  return result;
}

}  // namespace metal

// MSL's <metal_limits>.
template <>
struct std::numeric_limits<metal::half> {
  static constexpr bool is_specialized = true;
  static metal::half max() { return 65504.0f; }
  static metal::half lowest() { return -65504.0f; }
  static metal::half min() { return 0x1p-14f; }
  static metal::half epsilon() { return 0x1p-10f; }
  static metal::half infinity() { return INFINITY; }
  static metal::half quiet_NaN() { return NAN; }
};
template <>
struct std::numeric_limits<metal::bfloat> {
  static constexpr bool is_specialized = true;
  static metal::bfloat max() { return 0x1.fep127f; }
  static metal::bfloat lowest() { return -0x1.fep127f; }
  static metal::bfloat min() { return 0x1p-126f; }
  static metal::bfloat epsilon() { return 0x1p-7f; }
  static metal::bfloat infinity() { return INFINITY; }
  static metal::bfloat quiet_NaN() { return NAN; }
};
namespace metal {
using std::numeric_limits;
}
