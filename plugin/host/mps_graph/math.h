// Elementary functions in float32 that vectorise: branch-free, no calls. Errors stay within the
// bounds that Metal documents for its own (4 ulp, measured by tests/cc/test_mps_graph.cc).
#pragma once

#include <cmath>

#include "plugin/host/mps_graph/types.h"

namespace host::math {

inline float abs(float x) { return std::bit_cast<float>(std::bit_cast<uint32_t>(x) & 0x7fffffffu); }
inline float copysign(float x, float sign) {
  return std::bit_cast<float>((std::bit_cast<uint32_t>(x) & 0x7fffffffu) |
                              (std::bit_cast<uint32_t>(sign) & 0x80000000u));
}
inline float nan() { return std::bit_cast<float>(kCanonicalNan); }

// Rounds to the nearest integer, ties to even, for |x| < 2^22.
inline float round_small(float x) {
  constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23
  return (x + kMagic) - kMagic;
}

// e^x, in the tail multiplied by 2^n in two steps so that neither factor overflows.
inline float exp(float x) {
  constexpr float kLog2e = 1.44269504088896341f;
  constexpr float kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
  constexpr float kMost = 89.0f, kLeast = -104.0f;  // beyond: inf, 0
  float bounded = x < kMost ? x : kMost;
  bounded = bounded > kLeast ? bounded : kLeast;
  const float n = round_small(bounded * kLog2e);
  const float r = (bounded - n * kLn2High) - n * kLn2Low;
  // Taylor series of e^r to r^7, |r| <= ln(2) / 2.
  float p = 1.0f / 5040;
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * (r * r) + r + 1.0f;
  const int whole = int(n), half = whole >> 1;
  const float result = p * std::bit_cast<float>((half + 127) << 23) *
                       std::bit_cast<float>((whole - half + 127) << 23);
  return x == x ? result : x;
}

// Natural logarithm: x = m * 2^e with m in [sqrt(1/2), sqrt(2)), log m = 2 atanh((m-1)/(m+1)).
inline float log(float x) {
  constexpr float kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const int e = int(bits - 0x3f3504f3u) >> 23;
  const float m = std::bit_cast<float>(bits - (uint32_t(e) << 23));
  const float f = m - 1.0f, s = f / (2.0f + f), z = s * s;
  // log(1+f) = f - s*(f - R), R = 2s^2/3 + 2s^4/5 + ...
  float r = 2.0f / 11;
  r = r * z + 2.0f / 9;
  r = r * z + 2.0f / 7;
  r = r * z + 2.0f / 5;
  r = r * z + 2.0f / 3;
  r = r * z;
  const float n = float(e);
  float result = n * kLn2High + (f - (s * (f - r) - n * kLn2Low));
  result = x == 0 ? -std::numeric_limits<float>::infinity() : result;
  result = x == std::numeric_limits<float>::infinity() ? x : result;
  return x >= 0 ? result : nan();
}

inline float sigmoid(float x) { return 1.0f / (1.0f + exp(-x)); }

// Below 0.625 an odd polynomial, above 1 - 2 / (e^2x + 1). -0 and denormals give +0. M
inline float tanh(float x) {
  const float a = abs(x), z = x * x;
  float p = -5.70498872745e-3f;
  p = p * z + 2.06390887954e-2f;
  p = p * z - 5.37397155531e-2f;
  p = p * z + 1.33314422036e-1f;
  p = p * z - 3.33332819422e-1f;
  const float small = p * z * x + x;
  const float large = copysign(1.0f - 2.0f / (exp(2.0f * a) + 1.0f), x);
  const float result = a < 0.625f ? small : large;
  return x == 0 ? 0.0f : result;
}

}  // namespace host::math
