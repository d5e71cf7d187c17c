// The activations of recurrent cells: like lane_math.h, which goes before this, without branches or
// calls, so that a host runs them in vectors.
#pragma once

inline float rnn_sigmoid(float x) { return 1.0f / (1.0f + lane_exp(-x)); }

// Below 0.625 an odd polynomial, above 1 - 2 / (e^2x + 1).
inline float rnn_tanh(float x) {
  const float a = x < 0.0f ? -x : x, z = x * x;
  float p = -5.70498872745e-3f;
  p = p * z + 2.06390887954e-2f;
  p = p * z - 5.37397155531e-2f;
  p = p * z + 1.33314422036e-1f;
  p = p * z - 3.33332819422e-1f;
  const float small = p * z * x + x;
  const float large = 1.0f - 2.0f / (lane_exp(2.0f * a) + 1.0f);
  return a < 0.625f ? small : x < 0.0f ? -large : large;
}
