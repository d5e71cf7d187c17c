// Arithmetic on complex numbers, with broadcasting.
#include <metal_stdlib>

#include "kernels/msl/complex_arguments.h"
using namespace metal;
#include "kernels/msl/complex.h"

inline ComplexFloat complex_exp(ComplexFloat x) {
  const float size = precise::exp(x.re);
  if (x.im == 0.0f) return complex_of(size, x.im);
  return complex_of(size * precise::cos(x.im), size * precise::sin(x.im));
}

inline ComplexFloat complex_sqrt(ComplexFloat x) {
  const float size = magnitude(x);
  if (size == 0.0f) return complex_of(0.0f, x.im);
  const float half_sum = precise::sqrt((fabs(x.re) + size) * 0.5f);
  const float other = fabs(x.im) / (2.0f * half_sum);
  if (x.re >= 0.0f) return complex_of(half_sum, copysign(other, x.im));
  return complex_of(other, copysign(half_sum, x.im));
}

inline ComplexFloat complex_log(ComplexFloat x) {
  return complex_of(precise::log(magnitude(x)), precise::atan2(x.im, x.re));
}

inline ComplexFloat complex_sinh(ComplexFloat x) {
  return complex_of(precise::sinh(x.re) * precise::cos(x.im),
                    precise::cosh(x.re) * precise::sin(x.im));
}
inline ComplexFloat complex_cosh(ComplexFloat x) {
  return complex_of(precise::cosh(x.re) * precise::cos(x.im),
                    precise::sinh(x.re) * precise::sin(x.im));
}

// Kahan's formula, which neither overflows nor cancels.
inline ComplexFloat complex_tanh(ComplexFloat x) {
  if (fabs(x.re) > 11.0f) {
    const float rest = 4.0f * precise::exp(-2.0f * fabs(x.re));
    return complex_of(copysign(1.0f, x.re), rest * precise::sin(x.im) * precise::cos(x.im));
  }
  const float t = precise::tan(x.im), sine = precise::sinh(x.re);
  const float beta = 1.0f + t * t, divisor = 1.0f + beta * sine * sine;
  return complex_of(beta * precise::sqrt(1.0f + sine * sine) * sine / divisor, t / divisor);
}

// f(x) by way of the hyperbolic function of i x.
inline ComplexFloat times_i(ComplexFloat x) { return complex_of(-x.im, x.re); }
inline ComplexFloat divided_by_i(ComplexFloat x) { return complex_of(x.im, -x.re); }

inline ComplexFloat complex_sign(ComplexFloat x) {
  const float size = magnitude(x);
  return size == 0.0f ? complex_of(0.0f, 0.0f) : complex_of(x.re / size, x.im / size);
}

inline ComplexFloat complex_pow(ComplexFloat x, ComplexFloat y) {
  const ComplexFloat power = y * complex_log(x);
  if (power.re == -INFINITY) return complex_of(0.0f, 0.0f);
  return complex_exp(power);
}

inline ComplexFloat complex_unary_result(uint op, ComplexFloat x) {
  switch (op) {
    case kComplexNeg:
      return -x;
    case kComplexConj:
      return conjugate(x);
    case kComplexSquare:
      return x * x;
    case kComplexExp:
      return complex_exp(x);
    case kComplexLog:
      return complex_log(x);
    case kComplexSqrt:
      return complex_sqrt(x);
    case kComplexSin:
      return divided_by_i(complex_sinh(times_i(x)));
    case kComplexCos:
      return complex_cosh(times_i(x));
    case kComplexTan:
      return divided_by_i(complex_tanh(times_i(x)));
    case kComplexSinh:
      return complex_sinh(x);
    case kComplexCosh:
      return complex_cosh(x);
    case kComplexSign:
      return complex_sign(x);
    default:
      return complex_of(1.0f, 0.0f) / x;
  }
}

kernel void complex_unary(device const ComplexFloat* in [[buffer(0)]],
                          device ComplexFloat* out [[buffer(1)]], constant uint& op [[buffer(2)]],
                          uint i [[thread_position_in_grid]]) {
  out[i] = complex_unary_result(op, in[i]);
}

kernel void complex_to_float(device const ComplexFloat* in [[buffer(0)]],
                             device float* out [[buffer(1)]], constant uint& op [[buffer(2)]],
                             uint i [[thread_position_in_grid]]) {
  const ComplexFloat x = in[i];
  if (op == kComplexReal) {
    out[i] = x.re;
  } else if (op == kComplexImag) {
    out[i] = x.im;
  } else {
    out[i] = op == kComplexAbs ? magnitude(x) : precise::atan2(x.im, x.re);
  }
}

inline uint complex_locate(uint i, constant BroadcastArguments& s, bool second) {
  uint at = 0;
  for (uint axis = s.rank; axis > 0; --axis) {
    const uint k = axis - 1;
    at += i % s.extents[k] * (second ? s.b_strides[k] : s.a_strides[k]);
    i /= s.extents[k];
  }
  return at;
}

inline ComplexFloat complex_binary_result(uint op, ComplexFloat x, ComplexFloat y) {
  switch (op) {
    case kComplexAdd:
      return x + y;
    case kComplexSub:
      return x - y;
    case kComplexMul:
      return x * y;
    case kComplexDivNoNan:
      return norm_squared(y) == 0.0f ? complex_of(0.0f, 0.0f) : x / y;
    case kComplexPow:
      return complex_pow(x, y);
    default:
      return x / y;
  }
}

kernel void complex_binary(device const ComplexFloat* a [[buffer(0)]],
                           device const ComplexFloat* b [[buffer(1)]],
                           device ComplexFloat* out [[buffer(2)]],
                           constant BroadcastArguments& s [[buffer(3)]],
                           uint i [[thread_position_in_grid]]) {
  out[i] =
      complex_binary_result(s.op, a[complex_locate(i, s, false)], b[complex_locate(i, s, true)]);
}

kernel void complex_compare(device const ComplexFloat* a [[buffer(0)]],
                            device const ComplexFloat* b [[buffer(1)]],
                            device bool* out [[buffer(2)]],
                            constant BroadcastArguments& s [[buffer(3)]],
                            uint i [[thread_position_in_grid]]) {
  const ComplexFloat x = a[complex_locate(i, s, false)], y = b[complex_locate(i, s, true)];
  const bool same = x.re == y.re && x.im == y.im;
  out[i] = same == (s.op == kComplexEqual);
}

// From a real and an imaginary part.
kernel void complex_join(device const float* real [[buffer(0)]],
                         device const float* imaginary [[buffer(1)]],
                         device ComplexFloat* out [[buffer(2)]],
                         constant BroadcastArguments& s [[buffer(3)]],
                         uint i [[thread_position_in_grid]]) {
  out[i] = complex_of(real[complex_locate(i, s, false)], imaginary[complex_locate(i, s, true)]);
}

// ---- Fourier transforms ------------------------------------------------------------------------

kernel void fft_from_real(device const float* in [[buffer(0)]],
                          device ComplexFloat* out [[buffer(1)]],
                          constant float& scale [[buffer(2)]], uint i [[thread_position_in_grid]]) {
  out[i] = complex_of(in[i] * scale, 0.0f);
}

// Roots of unity: e^(-2 pi i k / n), or their conjugates. The angle is reduced to an eighth of the
// circle, so that sine and cosine are as good as they get.
kernel void fft_roots(device ComplexFloat* out [[buffer(0)]],
                      constant FftArguments& f [[buffer(1)]], uint k [[thread_position_in_grid]]) {
  const ulong eighths = ulong(k) * 8u;
  const uint octant = uint(eighths / f.length);
  const uint rest = uint(eighths % f.length);
  const bool mirrored = octant % 2 == 1;
  const float part = float(mirrored ? f.length - rest : rest) / float(f.length);
  const float angle = 0.7853981634f * part;
  const float small_cos = precise::cos(angle), small_sin = precise::sin(angle);
  const uint quarter = (octant + 1) / 2 % 4;  // nearest multiple of a right angle
  const float along = small_cos, across = mirrored ? -small_sin : small_sin;
  const float c = quarter == 0 ? along : quarter == 1 ? -across : quarter == 2 ? -along : across;
  const float s = quarter == 0 ? across : quarter == 1 ? along : quarter == 2 ? -across : -along;
  out[k] = complex_of(c, f.inverse ? s : -s);
}

// Stockham's algorithm: transforms of `done` elements, of which sequences p + m q (q < radix) are
// neighbours, become transforms of done * radix elements, in order. A thread per element.
kernel void fft_pass(device const ComplexFloat* in [[buffer(0)]],
                     device const ComplexFloat* roots [[buffer(1)]],
                     device ComplexFloat* out [[buffer(2)]], constant FftArguments& f [[buffer(3)]],
                     uint e [[thread_position_in_grid]]) {
  const uint at = e / f.inner % f.length;
  const uint grown = f.done * f.radix, m = f.length / grown;
  const uint p = at / grown, k = at % grown;
  const ulong base = ulong(e / f.inner / f.length) * f.length * f.inner + e % f.inner;
  const uint step = k * m;  // of the root, for each q
  uint from = p * f.done + k % f.done, root = 0;
  ComplexFloat sum = in[base + ulong(from) * f.inner];
  for (uint q = 1; q < f.radix; ++q) {
    root += step;
    if (root >= f.length) root -= f.length;
    from += m * f.done;
    sum = sum + in[base + ulong(from) * f.inner] * roots[root];
  }
  out[e] = sum * f.scale;
}

// The whole of a spectrum of a real signal along the last axis, from its first half.
kernel void fft_complete(device const ComplexFloat* in [[buffer(0)]],
                         device ComplexFloat* out [[buffer(1)]],
                         constant FftArguments& f [[buffer(2)]],
                         uint e [[thread_position_in_grid]]) {
  const uint half_length = f.length / 2 + 1;
  const uint at = e % f.length;
  const ulong row = ulong(e / f.length) * half_length;
  out[e] = at < half_length ? ComplexFloat(in[row + at]) : conjugate(in[row + f.length - at]);
}
