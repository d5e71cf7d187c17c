// Systems and products of tridiagonal matrices. `diagonals` of a matrix are three rows: what is
// above the diagonal (the last element stands for nothing), it, and what is below (nor the first).
#include <metal_stdlib>

#include "kernels/msl/linalg_arguments.h"
using namespace metal;
#include "kernels/msl/complex.h"

// Whether the rows of pivots `head` and `low` change places. To perturb singular matrices, as
// LAPACK's xLAGTF, takes pivots in proportion to their rows.
template <typename C>
inline bool exchanges_rows(C head, C low, float head_row, float low_row,
                           constant TridiagonalArguments& s) {
  const float a = magnitude(head), b = magnitude(low);
  if (s.perturb == 0) return s.pivot != 0 && a < b;
  return b != 0.0f && !(b / low_row <= (a == 0.0f ? 0.0f : a / head_row));
}

// Gaussian elimination, a thread per matrix. Of each row the factors keep three elements of the
// upper triangle and the multiple of it that the next row loses; `exchanged` if the two changed
// places. Behind the last pivot is by how much pivots may be perturbed.
template <typename C>
kernel void tridiagonal_factor(device const C* matrices [[buffer(0)]],
                               device C* factors [[buffer(1)]],
                               device uchar* exchanged [[buffer(2)]],
                               device LinalgStatus* status [[buffer(3)]],
                               constant TridiagonalArguments& s [[buffer(4)]],
                               uint matrix [[thread_position_in_grid]]) {
  const uint n = s.rows;
  device const C* above = matrices + ulong(matrix) * 3 * n;
  device const C* diagonal = above + n;
  device const C* below = diagonal + n;
  device C* u = factors + ulong(matrix) * 4 * n;
  device uchar* swaps = exchanged + ulong(matrix) * n;
  const C zero = from_real<C>(0.0f);
  C head = diagonal[0], next = n > 1 ? C(above[0]) : zero;
  float row = magnitude(head) + magnitude(next), largest = max(magnitude(head), magnitude(next));
  int failed = 0;
  for (uint i = 0; i + 1 < n; ++i) {
    const C low = below[i + 1], middle = diagonal[i + 1];
    const C upper = i + 2 < n ? C(above[i + 1]) : zero;
    const float low_row = magnitude(low) + magnitude(middle) + magnitude(upper);
    const bool exchange = exchanges_rows(head, low, row, low_row, s);
    if (!exchange) row = low_row;
    const C pivot = exchange ? low : head;
    if (magnitude(pivot) == 0.0f) failed = LINALG_SINGULAR;
    const C factor = magnitude(low) == 0.0f ? zero : (exchange ? head : low) / pivot;
    u[4 * i] = pivot;
    u[4 * i + 1] = exchange ? middle : next;
    u[4 * i + 2] = exchange ? upper : zero;
    u[4 * i + 3] = factor;
    swaps[i] = exchange ? 1 : 0;
    if (i + 2 < n) {
      largest = max(largest, max(magnitude(pivot), magnitude(u[4 * i + 1])));
      largest = max(largest, magnitude(u[4 * i + 2]));
    }
    head = exchange ? next - factor * middle : middle - factor * next;
    next = exchange ? -(factor * upper) : upper;
  }
  device C* last = u + 4 * (n - 1);
  if (magnitude(head) == 0.0f) failed = LINALG_SINGULAR;
  last[0] = head;
  last[1] = from_real<C>(1.1920929e-7f * max(largest, magnitude(head)));
  last[3] = zero;
  swaps[n - 1] = 0;
  status[matrix].failed = s.perturb != 0 ? 0 : failed;
}

// The pivot, or one near it by which `dividend` can be divided: the loop of LAPACK's xLAGTS.
template <typename C>
inline C perturbed(C pivot, float dividend, float tolerance) {
  const float least = 1.17549435e-38f;
  float step = copysign(max(tolerance, least), real_part(pivot));
  for (float size = magnitude(pivot); size < 1.0f; size = magnitude(pivot)) {
    if (size >= least && dividend * least <= size) break;
    pivot = pivot + from_real<C>(step);
    step *= 2.0f;
  }
  return pivot;
}

// A thread per column of the right hand sides, or for all of a matrix where they decide together by
// how much a pivot is perturbed. The solution with a singular matrix is NaN.
template <typename C>
kernel void tridiagonal_solve(device const C* factors [[buffer(0)]],
                              device const uchar* exchanged [[buffer(1)]],
                              device const LinalgStatus* status [[buffer(2)]],
                              device const C* b [[buffer(3)]], device C* out [[buffer(4)]],
                              constant TridiagonalArguments& s [[buffer(5)]],
                              uint e [[thread_position_in_grid]]) {
  const bool together = s.perturb != 0;
  const uint n = s.rows, columns = s.columns, matrix = together ? e : e / columns;
  const uint begin = together ? 0 : e % columns, end = together ? columns : begin + 1;
  device const C* u = factors + ulong(matrix) * 4 * n;
  device const uchar* swaps = exchanged + ulong(matrix) * n;
  device const C* y = b + ulong(matrix) * n * columns;
  device C* x = out + ulong(matrix) * n * columns;
  const bool failed = status[matrix].failed != 0;
  for (uint c = begin; c < end; ++c) {
    C carried = y[c];
    for (uint i = 0; i < n; ++i) {
      const C below = i + 1 < n ? C(y[ulong(i + 1) * columns + c]) : carried;
      const bool swap = swaps[i] != 0;
      const C mine = swap ? below : carried;
      x[ulong(i) * columns + c] = mine;
      carried = (swap ? carried : below) - u[4 * i + 3] * mine;
    }
  }
  for (uint k = n; k > 0; --k) {
    const uint i = k - 1;
    device C* row = x + ulong(i) * columns;
    C pivot = u[4 * i];
    float largest = 0.0f;
    for (uint c = begin; c < end; ++c) {
      C sum = row[c];
      if (i + 1 < n) sum = sum - u[4 * i + 1] * row[columns + c];
      if (i + 2 < n) sum = sum - u[4 * i + 2] * row[2 * columns + c];
      row[c] = sum;
      largest = max(largest, magnitude(sum));
    }
    if (together) pivot = perturbed(pivot, largest, real_part(u[4 * n - 3]));
    for (uint c = begin; c < end; ++c) row[c] = failed ? from_real<C>(NAN) : row[c] / pivot;
  }
}

template <typename C>
kernel void tridiagonal_product(device const C* above [[buffer(0)]],
                                device const C* diagonal [[buffer(1)]],
                                device const C* below [[buffer(2)]],
                                device const C* x [[buffer(3)]], device C* out [[buffer(4)]],
                                constant TridiagonalArguments& s [[buffer(5)]],
                                uint e [[thread_position_in_grid]]) {
  const uint row = e / s.columns % s.rows, at = e / s.columns;
  C sum = diagonal[at] * x[e];
  if (row + 1 < s.rows) sum = sum + above[at] * x[e + s.columns];
  if (row > 0) sum = sum + below[at] * x[e - s.columns];
  out[e] = sum;
}

// ---- the gradient of Cholesky -------------------------------------------------------------------

// The lower triangle of L^T G, of lower triangles, with half the diagonal.
kernel void cholesky_gradient_product(device const float* l [[buffer(0)]],
                                      device const float* g [[buffer(1)]],
                                      device float* out [[buffer(2)]],
                                      constant TridiagonalArguments& s [[buffer(3)]],
                                      uint e [[thread_position_in_grid]]) {
  const uint n = s.rows, column = e % n, row = e / n % n;
  const ulong matrix = ulong(e / n / n) * n * n;
  float sum = 0.0f;
  for (uint k = row; k < n && column <= row; ++k) {
    sum += l[matrix + k * n + row] * g[matrix + k * n + column];
  }
  out[e] = row == column ? 0.5f * sum : sum;
}

// The transposed matrices, or the mean of them and the matrices.
kernel void cholesky_gradient_transpose(device const float* in [[buffer(0)]],
                                        device float* out [[buffer(1)]],
                                        constant TridiagonalArguments& s [[buffer(2)]],
                                        uint e [[thread_position_in_grid]]) {
  const uint n = s.rows, column = e % n, row = e / n % n;
  const float other = in[ulong(e / n / n) * n * n + column * n + row];
  out[e] = s.mean != 0 ? 0.5f * (in[e] + other) : other;
}

template [[host_name("tridiagonal_factor_float")]] kernel decltype(tridiagonal_factor<float>)
    tridiagonal_factor<float>;
template
    [[host_name("tridiagonal_factor_float2")]] kernel decltype(tridiagonal_factor<ComplexFloat>)
        tridiagonal_factor<ComplexFloat>;
template [[host_name(
    "tridiagonal_solve_float")]] kernel decltype(tridiagonal_solve<float>) tridiagonal_solve<float>;
template [[host_name("tridiagonal_solve_float2")]] kernel decltype(tridiagonal_solve<ComplexFloat>)
    tridiagonal_solve<ComplexFloat>;
template [[host_name("tridiagonal_product_float")]] kernel decltype(tridiagonal_product<float>)
    tridiagonal_product<float>;
template
    [[host_name("tridiagonal_product_float2")]] kernel decltype(tridiagonal_product<ComplexFloat>)
        tridiagonal_product<ComplexFloat>;
