// Counts in bins. Each thread counts in bins of its own, which are then added up in order, so that
// sums of floats are the same in every run. Values outside of the bins are not counted.
#include <metal_stdlib>

#include "kernels/msl/scan_arguments.h"
using namespace metal;

template <typename Index, typename T>
kernel void count_values(device const Index* values [[buffer(0)]],
                         device const T* weights [[buffer(1)]], device T* bins [[buffer(2)]],
                         constant CountArguments& a [[buffer(3)]],
                         uint i [[thread_position_in_grid]]) {
  const uint row = i / a.parts, part = i % a.parts;
  const uint begin = uint(ulong(part) * a.columns / a.parts);
  const uint end = uint(ulong(part + 1) * a.columns / a.parts);
  device T* mine = bins + ulong(i) * a.bins;
  for (uint bin = 0; bin < a.bins; ++bin) mine[bin] = T(0);
  const ulong base = ulong(row) * a.columns;
  for (uint c = begin; c < end; ++c) {
    const long value = long(values[base + c]);
    if (value < 0 || value >= long(a.bins)) continue;
    if (a.binary) {
      mine[value] = T(1);
    } else {
      mine[value] += a.weighted ? weights[base + c] : T(1);
    }
  }
}

template <typename T>
kernel void add_counts(device const T* bins [[buffer(0)]], device T* out [[buffer(1)]],
                       constant CountArguments& a [[buffer(2)]],
                       uint i [[thread_position_in_grid]]) {
  device const T* first = bins + ulong(i / a.bins) * a.parts * a.bins + i % a.bins;
  T sum = T(0);
  for (uint part = 0; part < a.parts; ++part) sum += first[ulong(part) * a.bins];
  out[i] = a.binary && sum > T(1) ? T(1) : sum;
}

// The rounding error of sum = a + b.
inline float error_of_sum(float a, float b, float sum) {
  const float part = sum - a;
  return (a - (sum - part)) + (b - part);
}

// Which bin a value falls into. TensorFlow subtracts and divides doubles; where that quotient
// rounds up to a whole number, so does this.
inline long bin_of(float value, constant HistogramArguments& h, uint bins) {
  const float distance = value - h.low;
  const float quotient = min(distance / h.step[0], float(bins));
  const float next = rint(quotient);
  // 2^-20: a few times the error of the quotient.
  if (next < 1.0f || fabs(quotient - next) > next * 9.5367431640625e-7f) {
    return min(long(quotient), long(bins) - 1);
  }
  // Close to a whole number: next * step - (value - low), in parts that cancel exactly.
  const float rest = error_of_sum(value, -h.low, distance);
  const float large = fma(next, h.step[0], -distance), sum = large - rest;
  const float missing =
      fma(next, h.step[1], sum) + fma(next, h.step[2], error_of_sum(large, -rest, sum));
  // Half of the distance between doubles just below `next`: 2^-53 of its power of two.
  const float power = as_type<float>(as_type<uint>(next) & 0x7f800000u);
  const float rounding = (power == next ? power / 2 : power) * 1.1102230246251565e-16f;
  return min(missing <= h.step[0] * rounding ? long(next) : long(next) - 1, long(bins) - 1);
}

kernel void histogram_bins(device const float* values [[buffer(0)]], device int* bins [[buffer(1)]],
                           constant HistogramArguments& h [[buffer(2)]],
                           constant CountArguments& a [[buffer(3)]],
                           uint i [[thread_position_in_grid]]) {
  const float value = values[i];
  bins[i] = isnan(value) ? -1 : int(bin_of(max(value, h.low), h, a.bins));
}

template [[host_name("count_values_int_float")]] kernel void count_values<int, float>(
    device const int*, device const float*, device float*, constant CountArguments&, uint);
template [[host_name("count_values_long_float")]] kernel void count_values<long, float>(
    device const long*, device const float*, device float*, constant CountArguments&, uint);
template [[host_name("add_counts_float")]] kernel void add_counts<float>(device const float*,
                                                                         device float*,
                                                                         constant CountArguments&,
                                                                         uint);
template [[host_name("count_values_int_int")]] kernel void count_values<int, int>(
    device const int*, device const int*, device int*, constant CountArguments&, uint);
template [[host_name("count_values_long_int")]] kernel void count_values<long, int>(
    device const long*, device const int*, device int*, constant CountArguments&, uint);
template [[host_name("add_counts_int")]] kernel void add_counts<int>(device const int*, device int*,
                                                                     constant CountArguments&,
                                                                     uint);
template [[host_name("count_values_int_long")]] kernel void count_values<int, long>(
    device const int*, device const long*, device long*, constant CountArguments&, uint);
template [[host_name("count_values_long_long")]] kernel void count_values<long, long>(
    device const long*, device const long*, device long*, constant CountArguments&, uint);
template [[host_name("add_counts_long")]] kernel void add_counts<long>(device const long*,
                                                                       device long*,
                                                                       constant CountArguments&,
                                                                       uint);
