// Complex numbers, and the functions that let shaders be written for them and for floats at once.
#pragma once

struct ComplexFloat {
  float re, im;
};

inline ComplexFloat complex_of(float re, float im) {
  ComplexFloat z;
  z.re = re;
  z.im = im;
  return z;
}

inline ComplexFloat operator+(ComplexFloat a, ComplexFloat b) {
  return complex_of(a.re + b.re, a.im + b.im);
}
inline ComplexFloat operator-(ComplexFloat a, ComplexFloat b) {
  return complex_of(a.re - b.re, a.im - b.im);
}
inline ComplexFloat operator-(ComplexFloat a) { return complex_of(-a.re, -a.im); }
inline ComplexFloat operator*(ComplexFloat a, ComplexFloat b) {
  return complex_of(a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re);
}
inline ComplexFloat operator*(ComplexFloat a, float b) { return complex_of(a.re * b, a.im * b); }
// Scaled by the larger part of the divisor, so that its square does not overflow (Smith).
inline ComplexFloat operator/(ComplexFloat a, ComplexFloat b) {
  if (fabs(b.re) >= fabs(b.im)) {
    const float r = b.im / b.re, d = b.re + b.im * r;
    return complex_of((a.re + a.im * r) / d, (a.im - a.re * r) / d);
  }
  const float r = b.re / b.im, d = b.re * r + b.im;
  return complex_of((a.re * r + a.im) / d, (a.im * r - a.re) / d);
}

inline float conjugate(float x) { return x; }
inline ComplexFloat conjugate(ComplexFloat x) { return complex_of(x.re, -x.im); }
inline float real_part(float x) { return x; }
inline float real_part(ComplexFloat x) { return x.re; }
inline float norm_squared(float x) { return x * x; }
inline float norm_squared(ComplexFloat x) { return x.re * x.re + x.im * x.im; }
inline float magnitude(float x) { return fabs(x); }
inline float magnitude(ComplexFloat x) {
  const float a = max(fabs(x.re), fabs(x.im)), b = min(fabs(x.re), fabs(x.im));
  if (a == 0.0f || isinf(a)) return a;
  return a * precise::sqrt(1.0f + (b / a) * (b / a));
}
template <typename C>
inline C from_real(float x);
template <>
inline float from_real<float>(float x) {
  return x;
}
template <>
inline ComplexFloat from_real<ComplexFloat>(float x) {
  return complex_of(x, 0.0f);
}
