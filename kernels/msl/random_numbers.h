// Distributions drawn from Philox streams, the way TensorFlow's CPU kernels draw them. To be
// included in a shader behind `using namespace metal`.
#pragma once

#include "kernels/msl/philox.h"

inline Philox philox(constant ulong* counter, constant ulong* key) {
  return philox_of(counter[0], counter[1], key[0]);
}

// In [0, 1), of as many random bits as the mantissa holds: exact in the type.
template <typename T>
inline T uniform(uint bits) {
  return float(bits & 0x7fffffu) * 1.1920928955078125e-7f;  // 2^-23
}
template <>
inline half uniform<half>(uint bits) {
  return half(float(bits & 0x3ffu) * 0.0009765625f);
}
template <>
inline bfloat uniform<bfloat>(uint bits) {
  return bfloat(float(bits & 0x7fu) * 0.0078125f);
}

// Two standard normal numbers by the Box-Muller transform.
inline float2 normals(uint x, uint y) {
  const float kTwoPi = 6.2831855f, kTwoPiRest = -1.7484556e-7f;
  const float radius = precise::sqrt(-2.0f * precise::log(max(uniform<float>(x), 1.0e-7f)));
  // The angle is a product of doubles, rounded once: made of two floats here.
  const float turn = uniform<float>(y), product = turn * kTwoPi;
  const float angle = product + fma(turn, kTwoPiRest, fma(turn, kTwoPi, -product));
  return float2(precise::sin(angle) * radius, precise::cos(angle) * radius);
}
