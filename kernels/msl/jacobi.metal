// Singular values and symmetric eigenvalues by Jacobi's rotations: pairs of vectors that have no
// vector in common are rotated at the same time, in the order of a round-robin tournament, so that
// the result does not depend on timing.
#include <metal_stdlib>

#include "kernels/msl/linalg_arguments.h"
using namespace metal;

#include "kernels/msl/complex.h"

#define JACOBI_SWEEPS 30

struct JacobiPair {
  uint p, q;
  bool exists;
};

// Pair `i` of round `round` among `n` players.
inline JacobiPair jacobi_pair(uint i, uint round, uint n) {
  const uint players = n + n % 2, circle = players - 1;
  const uint a = i == 0 ? 0 : 1 + (i - 1 + round) % circle;
  const uint b = 1 + (circle - 1 - i + round) % circle;
  JacobiPair pair;
  pair.p = min(a, b);
  pair.q = max(a, b);
  pair.exists = pair.q < n;
  return pair;
}

// x' = x - s (y + tau x), y' = y + s (x - tau y): the usual rotation in a form whose rounding does
// not add up over many of them (Rutishauser).
struct JacobiRotation {
  float s, tau;
};

// Makes the symmetric matrix [[a, d], [d, b]] diagonal.
inline JacobiRotation jacobi_rotation(float a, float b, float d) {
  const float zeta = (b - a) / (2.0f * d);
  const float root = fabs(zeta) > 1e18f ? fabs(zeta) : precise::sqrt(1.0f + zeta * zeta);
  const float t = (zeta >= 0.0f ? 1.0f : -1.0f) / (fabs(zeta) + root);
  JacobiRotation r;
  const float c = 1.0f / precise::sqrt(1.0f + t * t);
  r.s = c * t;
  r.tau = r.s / (1.0f + c);
  return r;
}

inline float jacobi_dot(device const float* x, device const float* y, uint n) {
  float a = 0.0f, b = 0.0f, c = 0.0f, d = 0.0f;
  uint i = 0;
  for (; i + 4 <= n; i += 4) {
    a += x[i] * y[i];
    b += x[i + 1] * y[i + 1];
    c += x[i + 2] * y[i + 2];
    d += x[i + 3] * y[i + 3];
  }
  for (; i < n; ++i) a += x[i] * y[i];
  return (a + b) + (c + d);
}

inline void jacobi_rotate(device float* x, device float* y, uint n, JacobiRotation r) {
  for (uint i = 0; i < n; ++i) {
    const float u = x[i], v = y[i];
    x[i] = u - r.s * (v + r.tau * u);
    y[i] = v + r.s * (u - r.tau * v);
  }
}

// A NaN is larger than all numbers.
inline float jacobi_larger(float a, float b) { return b > a || (isnan(b) && !isnan(a)) ? b : a; }

// The largest value that any thread brings.
inline float jacobi_max(float mine, threadgroup float* part, uint t) {
  part[t] = mine;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  float largest = 0.0f;
  for (uint i = 0; i < LINALG_THREADS; ++i) largest = jacobi_larger(largest, part[i]);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  return largest;
}

// ---- singular values ---------------------------------------------------------------------------

// Rotates `count` vectors of length `size` until they are orthogonal, and `right` along.
inline void jacobi_orthogonalize(device float* vectors, device float* right, uint count, uint size,
                                 threadgroup float* part, uint t) {
  const uint rounds = count + count % 2 - 1, pairs = (count + 1) / 2;
  const float tolerance = 1e-7f * max(1.0f, precise::sqrt(float(size)) * 0.25f);
  for (uint sweep = 0; sweep < JACOBI_SWEEPS && count > 1; ++sweep) {
    float rotated = 0.0f;
    for (uint round = 0; round < rounds; ++round) {
      for (uint i = t; i < pairs; i += LINALG_THREADS) {
        const JacobiPair pair = jacobi_pair(i, round, count);
        if (!pair.exists) continue;
        device float *x = vectors + pair.p * size, *y = vectors + pair.q * size;
        const float a = jacobi_dot(x, x, size), b = jacobi_dot(y, y, size);
        const float d = jacobi_dot(x, y, size);
        if (!(fabs(d) > tolerance * precise::sqrt(a) * precise::sqrt(b)) || d == 0.0f) continue;
        const JacobiRotation r = jacobi_rotation(a, b, d);
        jacobi_rotate(x, y, size, r);
        jacobi_rotate(right + pair.p * count, right + pair.q * count, count, r);
        rotated = 1.0f;
      }
      threadgroup_barrier(mem_flags::mem_device);
    }
    if (jacobi_max(rotated, part, t) == 0.0f) break;
  }
}

// Vector `j` := a unit vector orthogonal to vectors 0 to j - 1, by Gram and Schmidt from the axis
// that is farthest from them.
inline void jacobi_complete(device float* vectors, device float* scratch, uint j, uint size,
                            threadgroup float* part, uint t) {
  device float* w = vectors + j * size;
  float best = -1.0f;
  uint axis = 0;
  for (uint i = t; i < size; i += LINALG_THREADS) {
    float rest = 1.0f;
    for (uint k = 0; k < j; ++k) rest -= vectors[k * size + i] * vectors[k * size + i];
    if (rest > best) {
      best = rest;
      axis = i;
    }
  }
  part[t] = best;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  uint winner = 0;
  for (uint i = 1; i < LINALG_THREADS; ++i) winner = part[i] > part[winner] ? i : winner;
  if (t == winner) scratch[0] = float(axis);
  threadgroup_barrier(mem_flags::mem_device | mem_flags::mem_threadgroup);
  const uint chosen = uint(scratch[0]);
  for (uint i = t; i < size; i += LINALG_THREADS) w[i] = i == chosen ? 1.0f : 0.0f;
  threadgroup_barrier(mem_flags::mem_device);
  for (uint pass = 0; pass < 2; ++pass) {
    for (uint k = t; k < j; k += LINALG_THREADS) {
      scratch[k] = jacobi_dot(vectors + k * size, w, size);
    }
    threadgroup_barrier(mem_flags::mem_device);
    for (uint i = t; i < size; i += LINALG_THREADS) {
      float value = w[i];
      for (uint k = 0; k < j; ++k) value -= scratch[k] * vectors[k * size + i];
      w[i] = value;
    }
    threadgroup_barrier(mem_flags::mem_device);
  }
  const float scale = precise::rsqrt(jacobi_dot(w, w, size));
  threadgroup_barrier(mem_flags::mem_device);
  for (uint i = t; i < size; i += LINALG_THREADS) w[i] *= scale;
  threadgroup_barrier(mem_flags::mem_device);
}

// Scratch of a matrix, in floats, by the larger and the smaller extent and the number of left
// vectors: vectors (count x size), right (count x count), values (count), left (wanted x size),
// coefficients (wanted + 1).
kernel void linalg_svd_float(device const float* matrices [[buffer(0)]],
                             device float* scratch [[buffer(1)]],
                             device float* values [[buffer(2)]], device float* lefts [[buffer(3)]],
                             device float* rights [[buffer(4)]],
                             constant LinalgArguments& s [[buffer(5)]],
                             uint matrix [[threadgroup_position_in_grid]],
                             uint t [[thread_index_in_threadgroup]]) {
  threadgroup float part[LINALG_THREADS];
  const bool wide = s.rows < s.columns;
  const uint size = max(s.rows, s.columns), count = min(s.rows, s.columns), wanted = s.inner;
  device const float* a = matrices + ulong(matrix) * size * count;
  device float* vectors =
      scratch + ulong(matrix) * (count * size + count * count + count + wanted * (size + 1) + 1);
  device float* right = vectors + count * size;
  device float* norms = right + count * count;
  device float* left = norms + count;
  device float* coefficients = left + wanted * size;
  float largest = 0.0f;
  for (uint e = t; e < size * count; e += LINALG_THREADS) {
    largest = jacobi_larger(largest, fabs(a[e]));
  }
  largest = jacobi_max(largest, part, t);
  const bool finite = isfinite(largest);
  const float scale = largest > 0.0f && finite ? 1.0f / largest : 1.0f;
  for (uint e = t; e < size * count; e += LINALG_THREADS) {
    const uint j = e / size, i = e % size;
    vectors[e] = (wide ? a[e] : a[i * count + j]) * scale;
  }
  for (uint e = t; e < count * count; e += LINALG_THREADS) {
    right[e] = e / count == e % count ? 1.0f : 0.0f;
  }
  threadgroup_barrier(mem_flags::mem_device);
  if (finite) jacobi_orthogonalize(vectors, right, count, size, part, t);
  float most = 0.0f;
  for (uint j = t; j < count; j += LINALG_THREADS) {
    norms[j] = precise::sqrt(jacobi_dot(vectors + j * size, vectors + j * size, size));
    most = max(most, norms[j]);
  }
  most = jacobi_max(most, part, t);
  threadgroup_barrier(mem_flags::mem_device);
  // Sorted: vector j goes to place `rank`.
  for (uint j = 0; j < count; ++j) {
    uint rank = 0;
    for (uint k = 0; k < count; ++k) {
      rank += norms[k] > norms[j] || (norms[k] == norms[j] && k < j) ? 1 : 0;
    }
    rank = finite ? rank : j;
    if (t == 0) values[ulong(matrix) * count + rank] = finite ? norms[j] * largest : NAN;
    if (wanted == 0) continue;
    const float inverse = 1.0f / norms[j];
    for (uint i = t; i < size; i += LINALG_THREADS) {
      left[rank * size + i] = finite ? vectors[j * size + i] * inverse : NAN;
    }
    for (uint i = t; i < count; i += LINALG_THREADS) {
      device float* v = wide ? lefts : rights;
      v[ulong(matrix) * count * count + i * count + rank] = finite ? right[j * count + i] : NAN;
    }
  }
  if (wanted == 0) return;
  threadgroup_barrier(mem_flags::mem_device);
  // Left vectors of values that are zero but for rounding, and beyond them.
  const float least = 1e-7f * most * precise::sqrt(float(size));
  uint known = 0;
  for (uint j = 0; j < count; ++j) known += norms[j] > least ? 1 : 0;
  for (uint j = finite ? known : wanted; j < wanted; ++j) {
    jacobi_complete(left, coefficients, j, size, part, t);
  }
  device float* u = wide ? rights : lefts;
  for (uint e = t; e < wanted * size; e += LINALG_THREADS) {
    u[ulong(matrix) * size * wanted + e] = left[e % wanted * size + e / wanted];
  }
}

// ---- eigenvalues -------------------------------------------------------------------------------

// A rotation of two rows, the second of which is multiplied by `phase` first: that makes their
// common element real.
template <typename C>
struct EighRotation {
  float s, tau;
  C phase;
};

inline EighRotation<float> eigh_rotation(float a, float b, float d) {
  const JacobiRotation r = jacobi_rotation(a, b, d);
  EighRotation<float> out;
  out.s = r.s;
  out.tau = r.tau;
  out.phase = 1.0f;
  return out;
}
inline EighRotation<ComplexFloat> eigh_rotation(float a, float b, ComplexFloat d) {
  const float size = magnitude(d);
  const JacobiRotation r = jacobi_rotation(a, b, size);
  EighRotation<ComplexFloat> out;
  out.s = r.s;
  out.tau = r.tau;
  out.phase = complex_of(d.re / size, d.im / size);
  return out;
}

inline void eigh_rotate(device float& x, device float& y, float s, float tau, float) {
  const float u = x, v = y;
  x = u - s * (v + tau * u);
  y = v + s * (u - tau * v);
}
inline void eigh_rotate(device ComplexFloat& x, device ComplexFloat& y, float s, float tau,
                        ComplexFloat phase) {
  const ComplexFloat u = x, v = y * phase;
  x = u - (v + u * tau) * s;
  y = v + (u - v * tau) * s;
}

// Scratch of a matrix: n x n elements, n x n of vectors, and a rotation per pair in 2n + 2.
template <typename C>
kernel void linalg_eigh(device const C* matrices [[buffer(0)]], device C* scratch [[buffer(1)]],
                        device C* values [[buffer(2)]], device C* vectors [[buffer(3)]],
                        device LinalgStatus* status [[buffer(4)]],
                        constant LinalgArguments& s [[buffer(5)]],
                        uint matrix [[threadgroup_position_in_grid]],
                        uint t [[thread_index_in_threadgroup]]) {
  threadgroup float part[LINALG_THREADS];
  const uint n = s.rows, pairs = (n + 1) / 2, rounds = n + n % 2 - 1;
  device const C* in = matrices + ulong(matrix) * n * n;
  device C* a = scratch + ulong(matrix) * (2 * n * n + 2 * n + 2);
  device C* v = a + n * n;
  device EighRotation<C>* rotations = (device EighRotation<C>*)(v + n * n);
  float largest = 0.0f;
  for (uint e = t; e < n * n; e += LINALG_THREADS) {
    const uint row = e / n, column = e % n;
    const C x = row > column ? C(in[e]) : conjugate(in[column * n + row]);
    a[e] = row == column ? from_real<C>(real_part(x)) : x;
    v[e] = from_real<C>(row == column ? 1.0f : 0.0f);
    largest = jacobi_larger(largest, magnitude(a[e]));
  }
  largest = jacobi_max(largest, part, t);
  const bool finite = isfinite(largest);
  if (t == 0) status[matrix].failed = finite ? 0 : LINALG_NOT_A_NUMBER;
  threadgroup_barrier(mem_flags::mem_device);
  for (uint sweep = 0; sweep < JACOBI_SWEEPS && finite && n > 1; ++sweep) {
    float rotated = 0.0f;
    for (uint round = 0; round < rounds; ++round) {
      for (uint i = t; i < pairs; i += LINALG_THREADS) {
        const JacobiPair pair = jacobi_pair(i, round, n);
        rotations[i].s = rotations[i].tau = 0.0f;
        if (!pair.exists) continue;
        const C d = a[pair.p * n + pair.q];
        if (!(magnitude(d) > 1e-8f * largest)) continue;
        rotations[i] =
            eigh_rotation(real_part(a[pair.p * n + pair.p]), real_part(a[pair.q * n + pair.q]), d);
        rotated = 1.0f;
      }
      threadgroup_barrier(mem_flags::mem_device);
      for (uint e = t; e < pairs * n; e += LINALG_THREADS) {  // rows, and the vectors
        const uint i = e / n, k = e % n;
        const JacobiPair pair = jacobi_pair(i, round, n);
        const EighRotation<C> r = rotations[i];
        if (!pair.exists || r.s == 0.0f) continue;
        const uint p = pair.p * n + k, q = pair.q * n + k;
        eigh_rotate(a[p], a[q], r.s, r.tau, r.phase);
        eigh_rotate(v[p], v[q], r.s, r.tau, conjugate(r.phase));
      }
      threadgroup_barrier(mem_flags::mem_device);
      for (uint e = t; e < pairs * n; e += LINALG_THREADS) {  // columns
        const uint i = e % pairs, k = e / pairs;
        const JacobiPair pair = jacobi_pair(i, round, n);
        const EighRotation<C> r = rotations[i];
        if (!pair.exists || r.s == 0.0f) continue;
        const uint p = k * n + pair.p, q = k * n + pair.q;
        eigh_rotate(a[p], a[q], r.s, r.tau, conjugate(r.phase));
        if (k == pair.q) a[p] = from_real<C>(0.0f);
        if (k == pair.p) a[q] = from_real<C>(0.0f);
      }
      threadgroup_barrier(mem_flags::mem_device);
    }
    if (jacobi_max(rotated, part, t) == 0.0f) break;
  }
  for (uint j = t; j < n; j += LINALG_THREADS) {
    const float value = real_part(a[j * n + j]);
    uint rank = 0;
    for (uint k = 0; k < n; ++k) {
      const float other = real_part(a[k * n + k]);
      rank += other < value || (other == value && k < j) ? 1 : 0;
    }
    rank = finite ? rank : j;
    values[ulong(matrix) * n + rank] = from_real<C>(finite ? value : NAN);
    if (s.inner == 0) continue;
    for (uint i = 0; i < n; ++i) {
      vectors[ulong(matrix) * n * n + i * n + rank] = finite ? C(v[j * n + i]) : from_real<C>(NAN);
    }
  }
}

template [[host_name("linalg_eigh_float")]] kernel void linalg_eigh<float>(
    device const float*, device float*, device float*, device float*, device LinalgStatus*,
    constant LinalgArguments&, uint, uint);
template [[host_name("linalg_eigh_float2")]] kernel void linalg_eigh<ComplexFloat>(
    device const ComplexFloat*, device ComplexFloat*, device ComplexFloat*, device ComplexFloat*,
    device LinalgStatus*, constant LinalgArguments&, uint, uint);
