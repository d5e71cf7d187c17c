// Linear algebra on batches of row-major matrices in device memory. A factorization is the work of
// one threadgroup per matrix; what follows it has a thread per column.
#include <metal_stdlib>

#include "kernels/msl/linalg_arguments.h"
using namespace metal;
#include "kernels/msl/complex.h"

// ---- LU ----------------------------------------------------------------------------------------

// In place, with row exchanges; `order` tells which row of the input each row is.
template <typename C>
kernel void linalg_lu(device C* matrices [[buffer(0)]], device int* orders [[buffer(1)]],
                      device LinalgStatus* status [[buffer(2)]],
                      constant LinalgArguments& s [[buffer(3)]],
                      uint matrix [[threadgroup_position_in_grid]],
                      uint t [[thread_index_in_threadgroup]]) {
  const uint n = s.rows;
  device C* a = matrices + ulong(matrix) * n * n;
  device int* order = orders + ulong(matrix) * n;
  threadgroup float best[LINALG_THREADS];
  threadgroup uint best_row[LINALG_THREADS];
  for (uint i = t; i < n; i += LINALG_THREADS) order[i] = int(i);
  int failed = 0, exchanges = 0;
  threadgroup_barrier(mem_flags::mem_device);
  for (uint k = 0; k < n; ++k) {
    float largest = -1.0f;
    uint row = k;
    for (uint i = k + t; i < n; i += LINALG_THREADS) {
      const float size = norm_squared(a[i * n + k]);
      if (size > largest) {
        largest = size;
        row = i;
      }
    }
    best[t] = largest;
    best_row[t] = row;
    threadgroup_barrier(mem_flags::mem_device | mem_flags::mem_threadgroup);
    uint pivot = k;
    largest = -1.0f;
    for (uint i = 0; i < LINALG_THREADS; ++i) {
      if (best[i] > largest || (best[i] == largest && best_row[i] < pivot)) {
        largest = best[i];
        pivot = best_row[i];
      }
    }
    if (pivot != k) {
      ++exchanges;
      for (uint j = t; j < n; j += LINALG_THREADS) {
        const C upper = a[k * n + j];
        a[k * n + j] = a[pivot * n + j];
        a[pivot * n + j] = upper;
      }
      if (t == 0) {
        const int upper = order[k];
        order[k] = order[pivot];
        order[pivot] = upper;
      }
    }
    threadgroup_barrier(mem_flags::mem_device | mem_flags::mem_threadgroup);
    const C diagonal = a[k * n + k];
    if (norm_squared(diagonal) == 0.0f) {
      failed |= LINALG_SINGULAR;
      continue;
    }
    if (isnan(norm_squared(diagonal))) failed |= LINALG_NOT_A_NUMBER;
    for (uint i = k + 1 + t; i < n; i += LINALG_THREADS) a[i * n + k] = a[i * n + k] / diagonal;
    threadgroup_barrier(mem_flags::mem_device);
    const uint width = n - k - 1;
    for (uint e = t; e < width * width; e += LINALG_THREADS) {
      const uint i = k + 1 + e / width, j = k + 1 + e % width;
      a[i * n + j] = a[i * n + j] - a[i * n + k] * a[k * n + j];
    }
    threadgroup_barrier(mem_flags::mem_device);
  }
  if (t == 0) {
    status[matrix].failed = failed;
    status[matrix].exchanges = exchanges;
  }
}

template <typename C>
kernel void linalg_determinant(device const C* matrices [[buffer(0)]],
                               device const LinalgStatus* status [[buffer(1)]],
                               device C* out [[buffer(2)]],
                               constant LinalgArguments& s [[buffer(3)]],
                               uint matrix [[thread_position_in_grid]]) {
  device const C* a = matrices + ulong(matrix) * s.rows * s.rows;
  C product = from_real<C>(status[matrix].exchanges % 2 ? -1.0f : 1.0f);
  for (uint k = 0; k < s.rows; ++k) product = product * a[k * s.rows + k];
  out[matrix] = product;
}

template <typename C>
kernel void linalg_log_determinant(device const C* matrices [[buffer(0)]],
                                   device const LinalgStatus* status [[buffer(1)]],
                                   device C* signs [[buffer(2)]], device C* logs [[buffer(3)]],
                                   constant LinalgArguments& s [[buffer(4)]],
                                   uint matrix [[thread_position_in_grid]]) {
  device const C* a = matrices + ulong(matrix) * s.rows * s.rows;
  C sign = from_real<C>(status[matrix].exchanges % 2 ? -1.0f : 1.0f);
  float sum = 0.0f;
  for (uint k = 0; k < s.rows; ++k) {
    const C d = a[k * s.rows + k];
    const float size = magnitude(d);
    sign = sign * (d * (1.0f / size));
    sum += precise::log(size);
  }
  const bool singular = (status[matrix].failed & LINALG_SINGULAR) != 0;
  signs[matrix] = singular ? from_real<C>(0.0f) : sign;
  logs[matrix] = from_real<C>(singular ? -INFINITY : sum);
}

// ---- triangular systems ------------------------------------------------------------------------

// Rows of the result are rows order[i] of the input, or the reverse.
template <typename C>
kernel void linalg_permute_rows(device const C* in [[buffer(0)]],
                                device const int* orders [[buffer(1)]], device C* out [[buffer(2)]],
                                constant LinalgArguments& s [[buffer(3)]],
                                uint e [[thread_position_in_grid]]) {
  const uint column = e % s.columns, row = e / s.columns % s.rows, matrix = e / s.columns / s.rows;
  const uint other = uint(orders[matrix * s.rows + row]);
  const ulong base = ulong(matrix) * s.rows * s.columns;
  const ulong mine = base + row * s.columns + column, its = base + other * s.columns + column;
  if (s.adjoint) {
    out[its] = in[mine];
  } else {
    out[mine] = in[its];
  }
}

template <typename C>
kernel void linalg_identity(device C* out [[buffer(0)]], constant LinalgArguments& s [[buffer(1)]],
                            uint e [[thread_position_in_grid]]) {
  const uint column = e % s.columns, row = e / s.columns % s.rows;
  out[e] = from_real<C>(row == column ? 1.0f : 0.0f);
}

// out := solution of A x = b or A^H x = b, a thread per column; only one triangle of A is looked
// at. `b` may be `out`.
template <typename C>
kernel void linalg_triangular(device const C* matrices [[buffer(0)]],
                              device const C* b [[buffer(1)]], device C* out [[buffer(2)]],
                              constant LinalgArguments& s [[buffer(3)]],
                              uint e [[thread_position_in_grid]]) {
  const uint n = s.rows, columns = s.columns;
  const uint column = e % columns, matrix = e / columns;
  uint at_a = 0, at_b = 0, rest = matrix;
  for (uint axis = s.batch.rank; axis > 0; --axis) {
    const uint k = axis - 1, index = rest % s.batch.extents[k];
    rest /= s.batch.extents[k];
    at_a += index * s.batch.a_strides[k];
    at_b += index * s.batch.b_strides[k];
  }
  device const C* a = matrices + ulong(at_a) * n * n;
  device const C* y = b + ulong(at_b) * n * columns + column;
  device C* x = out + ulong(matrix) * n * columns + column;
  const bool forward = (s.lower != 0) != (s.adjoint != 0);
  for (uint step = 0; step < n; ++step) {
    const uint i = forward ? step : n - 1 - step;
    const uint begin = forward ? 0 : i + 1, end = forward ? i : n;
    C sum = y[i * columns];
    if (s.adjoint) {
      for (uint j = begin; j < end; ++j) sum = sum - conjugate(a[j * n + i]) * x[j * columns];
    } else {
      for (uint j = begin; j < end; ++j) sum = sum - a[i * n + j] * x[j * columns];
    }
    if (!s.unit) {
      const C d = a[i * n + i];
      sum = sum / (s.adjoint ? conjugate(d) : d);
    }
    x[i * columns] = sum;
  }
}

// ---- Cholesky ----------------------------------------------------------------------------------

// Column by column; reads the lower triangle, clears the upper one. The factor of a matrix that is
// not positive definite is NaN, as TensorFlow's CPU kernel has it.
template <typename C>
kernel void linalg_cholesky(device const C* in [[buffer(0)]], device C* out [[buffer(1)]],
                            constant LinalgArguments& s [[buffer(2)]],
                            uint matrix [[threadgroup_position_in_grid]],
                            uint t [[thread_index_in_threadgroup]]) {
  const uint n = s.rows;
  device const C* a = in + ulong(matrix) * n * n;
  device C* l = out + ulong(matrix) * n * n;
  bool failed = false;
  for (uint j = 0; j < n; ++j) {
    for (uint i = j + t; i < n; i += LINALG_THREADS) {
      C sum = a[i * n + j];
      for (uint k = 0; k < j; ++k) sum = sum - l[i * n + k] * conjugate(l[j * n + k]);
      l[i * n + j] = sum;
    }
    threadgroup_barrier(mem_flags::mem_device);
    const float square = real_part(l[j * n + j]);
    failed = failed || !(square > 0.0f);
    threadgroup_barrier(mem_flags::mem_device);
    const float root = precise::sqrt(square);
    for (uint i = t; i < n; i += LINALG_THREADS) {
      if (i == j) {
        l[i * n + j] = from_real<C>(root);
      } else {
        l[i * n + j] = i < j ? from_real<C>(0.0f) : l[i * n + j] * (1.0f / root);
      }
    }
    threadgroup_barrier(mem_flags::mem_device);
  }
  if (!failed) return;
  for (uint e = t; e < n * n; e += LINALG_THREADS) {
    if (e / n >= e % n) l[e] = from_real<C>(NAN);
  }
}

// ---- QR ----------------------------------------------------------------------------------------

// Householder reflections H_k = 1 - tau_k v v^H with v[k] = 1. In place: R on and above the
// diagonal, the rest of each v below it. A column that is already zero below keeps its sign.
template <typename C>
kernel void linalg_qr(device C* matrices [[buffer(0)]], device C* taus [[buffer(1)]],
                      constant LinalgArguments& s [[buffer(2)]],
                      uint matrix [[threadgroup_position_in_grid]],
                      uint t [[thread_index_in_threadgroup]]) {
  const uint m = s.rows, n = s.columns, steps = min(m, n);
  device C* a = matrices + ulong(matrix) * m * n;
  device C* tau = taus + ulong(matrix) * steps;
  threadgroup float part[LINALG_THREADS];
  for (uint k = 0; k < steps; ++k) {
    float sum = 0.0f;
    for (uint i = k + 1 + t; i < m; i += LINALG_THREADS) sum += norm_squared(a[i * n + k]);
    part[t] = sum;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    sum = 0.0f;
    for (uint i = 0; i < LINALG_THREADS; ++i) sum += part[i];
    const C head = a[k * n + k];
    threadgroup_barrier(mem_flags::mem_device | mem_flags::mem_threadgroup);
    const float imaginary = norm_squared(head) - real_part(head) * real_part(head);
    if (sum <= 1.17549435e-38f && imaginary <= 1.17549435e-38f) {
      if (t == 0) tau[k] = from_real<C>(0.0f);
      continue;
    }
    const float size = precise::sqrt(norm_squared(head) + sum);
    const float beta = real_part(head) >= 0.0f ? -size : size;
    const C scale = head - from_real<C>(beta);
    const C factor = conjugate((from_real<C>(beta) - head) * (1.0f / beta));
    for (uint i = k + 1 + t; i < m; i += LINALG_THREADS) a[i * n + k] = a[i * n + k] / scale;
    if (t == 0) {
      a[k * n + k] = from_real<C>(beta);
      tau[k] = factor;
    }
    threadgroup_barrier(mem_flags::mem_device);
    for (uint j = k + 1 + t; j < n; j += LINALG_THREADS) {
      C dot = a[k * n + j];
      for (uint i = k + 1; i < m; ++i) dot = dot + conjugate(a[i * n + k]) * a[i * n + j];
      dot = dot * factor;
      a[k * n + j] = a[k * n + j] - dot;
      for (uint i = k + 1; i < m; ++i) a[i * n + j] = a[i * n + j] - a[i * n + k] * dot;
    }
    threadgroup_barrier(mem_flags::mem_device);
  }
}

// Columns of Q = H_0^H H_1^H ... (s.inner of them), a thread each.
template <typename C>
kernel void linalg_qr_columns(device const C* matrices [[buffer(0)]],
                              device const C* taus [[buffer(1)]], device C* out [[buffer(2)]],
                              constant LinalgArguments& s [[buffer(3)]],
                              uint e [[thread_position_in_grid]]) {
  const uint m = s.rows, n = s.columns, p = s.inner, steps = min(m, n);
  const uint column = e % p, matrix = e / p;
  device const C* a = matrices + ulong(matrix) * m * n;
  device const C* tau = taus + ulong(matrix) * steps;
  device C* q = out + ulong(matrix) * m * p + column;
  for (uint i = 0; i < m; ++i) q[i * p] = from_real<C>(i == column ? 1.0f : 0.0f);
  for (uint k = steps; k > 0; --k) {
    const uint r = k - 1;
    C dot = q[r * p];
    for (uint i = k; i < m; ++i) dot = dot + conjugate(a[i * n + r]) * q[i * p];
    dot = dot * conjugate(tau[r]);
    q[r * p] = q[r * p] - dot;
    for (uint i = k; i < m; ++i) q[i * p] = q[i * p] - a[i * n + r] * dot;
  }
}

// The upper triangle, s.inner rows of it.
template <typename C>
kernel void linalg_upper(device const C* matrices [[buffer(0)]], device C* out [[buffer(1)]],
                         constant LinalgArguments& s [[buffer(2)]],
                         uint e [[thread_position_in_grid]]) {
  const uint column = e % s.columns, row = e / s.columns % s.inner,
             matrix = e / s.columns / s.inner;
  out[e] = row > column
               ? from_real<C>(0.0f)
               : C(matrices[ulong(matrix) * s.rows * s.columns + row * s.columns + column]);
}

template [[host_name("linalg_lu_float")]] kernel void linalg_lu<float>(device float*, device int*,
                                                                       device LinalgStatus*,
                                                                       constant LinalgArguments&,
                                                                       uint, uint);
template [[host_name("linalg_lu_float2")]] kernel void linalg_lu<ComplexFloat>(
    device ComplexFloat*, device int*, device LinalgStatus*, constant LinalgArguments&, uint, uint);
template [[host_name("linalg_determinant_float")]] kernel void linalg_determinant<float>(
    device const float*, device const LinalgStatus*, device float*, constant LinalgArguments&,
    uint);
template [[host_name("linalg_determinant_float2")]] kernel void linalg_determinant<ComplexFloat>(
    device const ComplexFloat*, device const LinalgStatus*, device ComplexFloat*,
    constant LinalgArguments&, uint);
template [[host_name("linalg_log_determinant_float")]] kernel void linalg_log_determinant<float>(
    device const float*, device const LinalgStatus*, device float*, device float*,
    constant LinalgArguments&, uint);
template [[host_name("linalg_log_determinant_float2")]] kernel void
linalg_log_determinant<ComplexFloat>(device const ComplexFloat*, device const LinalgStatus*,
                                     device ComplexFloat*, device ComplexFloat*,
                                     constant LinalgArguments&, uint);
template [[host_name("linalg_permute_rows_float")]] kernel void linalg_permute_rows<float>(
    device const float*, device const int*, device float*, constant LinalgArguments&, uint);
template [[host_name("linalg_permute_rows_float2")]] kernel void linalg_permute_rows<ComplexFloat>(
    device const ComplexFloat*, device const int*, device ComplexFloat*, constant LinalgArguments&,
    uint);
template [[host_name("linalg_identity_float")]] kernel void linalg_identity<float>(
    device float*, constant LinalgArguments&, uint);
template [[host_name("linalg_identity_float2")]] kernel void linalg_identity<ComplexFloat>(
    device ComplexFloat*, constant LinalgArguments&, uint);
template [[host_name("linalg_triangular_float")]] kernel void linalg_triangular<float>(
    device const float*, device const float*, device float*, constant LinalgArguments&, uint);
template [[host_name("linalg_triangular_float2")]] kernel void linalg_triangular<ComplexFloat>(
    device const ComplexFloat*, device const ComplexFloat*, device ComplexFloat*,
    constant LinalgArguments&, uint);
template [[host_name("linalg_qr_float")]] kernel void linalg_qr<float>(device float*, device float*,
                                                                       constant LinalgArguments&,
                                                                       uint, uint);
template [[host_name("linalg_qr_float2")]] kernel void linalg_qr<ComplexFloat>(
    device ComplexFloat*, device ComplexFloat*, constant LinalgArguments&, uint, uint);
template [[host_name("linalg_qr_columns_float")]] kernel void linalg_qr_columns<float>(
    device const float*, device const float*, device float*, constant LinalgArguments&, uint);
template [[host_name("linalg_qr_columns_float2")]] kernel void linalg_qr_columns<ComplexFloat>(
    device const ComplexFloat*, device const ComplexFloat*, device ComplexFloat*,
    constant LinalgArguments&, uint);
template [[host_name("linalg_upper_float")]] kernel void linalg_upper<float>(
    device const float*, device float*, constant LinalgArguments&, uint);
template [[host_name("linalg_upper_float2")]] kernel void linalg_upper<ComplexFloat>(
    device const ComplexFloat*, device ComplexFloat*, constant LinalgArguments&, uint);
template [[host_name("linalg_cholesky_float")]] kernel void linalg_cholesky<float>(
    device const float*, device float*, constant LinalgArguments&, uint, uint);
template [[host_name("linalg_cholesky_float2")]] kernel void linalg_cholesky<ComplexFloat>(
    device const ComplexFloat*, device ComplexFloat*, constant LinalgArguments&, uint, uint);
