// Places of numbers among sorted ones.
#include <metal_stdlib>

#include "kernels/msl/scan_arguments.h"
using namespace metal;

// How many of `count` sorted elements come before x; with `upper` also those that equal it. NaN
// comes after all with `upper`, and before all without.
template <typename Sorted, typename X>
inline uint place(Sorted sorted, uint count, X x, bool upper) {
  uint begin = 0;
  while (count > 0) {
    const uint half_count = count / 2;
    const X e = X(sorted[begin + half_count]);
    const bool after = upper ? !(x < e) : e < x;
    begin = after ? begin + half_count + 1 : begin;
    count = after ? count - half_count - 1 : half_count;
  }
  return begin;
}

template <typename T, typename Index>
kernel void search_sorted(device const T* sorted [[buffer(0)]],
                          device const T* values [[buffer(1)]], device Index* out [[buffer(2)]],
                          constant SearchArguments& a [[buffer(3)]],
                          uint i [[thread_position_in_grid]]) {
  device const T* row = sorted + ulong(i / a.values) * a.sorted;
  out[i] = Index(place(row, a.sorted, values[i], a.upper != 0));
}

template <typename T>
kernel void bucketize(device const T* in [[buffer(0)]], device int* out [[buffer(1)]],
                      constant Boundaries& b [[buffer(2)]], uint i [[thread_position_in_grid]]) {
  const int n = int(place(b.at, b.count, float(in[i]), true));
  out[i] = b.add ? out[i] + n : n;
}

// Whether the target's prediction is among the first k. Nothing is with numbers that are not
// finite.
template <typename T>
kernel void in_top_k(device const float* predictions [[buffer(0)]],
                     device const T* targets [[buffer(1)]], device bool* out [[buffer(2)]],
                     constant InTopArguments& a [[buffer(3)]], uint i [[thread_position_in_grid]]) {
  device const float* row = predictions + ulong(i) * a.classes;
  const long target = long(targets[i]);
  bool known = target >= 0 && target < long(a.classes);
  long better = 0;
  if (known) {
    const float wanted = row[target];
    known = isfinite(wanted);
    for (uint c = 0; c < a.classes && known && better <= a.k; ++c) {
      known = isfinite(row[c]);
      better += row[c] > wanted ? 1 : 0;
    }
  }
  out[i] = known && better < a.k;
}

template [[host_name("search_sorted_float_int")]] kernel void search_sorted<float, int>(
    device const float*, device const float*, device int*, constant SearchArguments&, uint);
template [[host_name("search_sorted_float_long")]] kernel void search_sorted<float, long>(
    device const float*, device const float*, device long*, constant SearchArguments&, uint);
template [[host_name("search_sorted_half_int")]] kernel void search_sorted<half, int>(
    device const half*, device const half*, device int*, constant SearchArguments&, uint);
template [[host_name("search_sorted_half_long")]] kernel void search_sorted<half, long>(
    device const half*, device const half*, device long*, constant SearchArguments&, uint);
template [[host_name("search_sorted_bfloat_int")]] kernel void search_sorted<bfloat, int>(
    device const bfloat*, device const bfloat*, device int*, constant SearchArguments&, uint);
template [[host_name("search_sorted_bfloat_long")]] kernel void search_sorted<bfloat, long>(
    device const bfloat*, device const bfloat*, device long*, constant SearchArguments&, uint);
template [[host_name("search_sorted_char_int")]] kernel void search_sorted<char, int>(
    device const char*, device const char*, device int*, constant SearchArguments&, uint);
template [[host_name("search_sorted_char_long")]] kernel void search_sorted<char, long>(
    device const char*, device const char*, device long*, constant SearchArguments&, uint);
template [[host_name("search_sorted_short_int")]] kernel void search_sorted<short, int>(
    device const short*, device const short*, device int*, constant SearchArguments&, uint);
template [[host_name("search_sorted_short_long")]] kernel void search_sorted<short, long>(
    device const short*, device const short*, device long*, constant SearchArguments&, uint);
template [[host_name("search_sorted_int_int")]] kernel void search_sorted<int, int>(
    device const int*, device const int*, device int*, constant SearchArguments&, uint);
template [[host_name("search_sorted_int_long")]] kernel void search_sorted<int, long>(
    device const int*, device const int*, device long*, constant SearchArguments&, uint);
template [[host_name("search_sorted_long_int")]] kernel void search_sorted<long, int>(
    device const long*, device const long*, device int*, constant SearchArguments&, uint);
template [[host_name("search_sorted_long_long")]] kernel void search_sorted<long, long>(
    device const long*, device const long*, device long*, constant SearchArguments&, uint);
template [[host_name("search_sorted_uchar_int")]] kernel void search_sorted<uchar, int>(
    device const uchar*, device const uchar*, device int*, constant SearchArguments&, uint);
template [[host_name("search_sorted_uchar_long")]] kernel void search_sorted<uchar, long>(
    device const uchar*, device const uchar*, device long*, constant SearchArguments&, uint);
template [[host_name("search_sorted_ushort_int")]] kernel void search_sorted<ushort, int>(
    device const ushort*, device const ushort*, device int*, constant SearchArguments&, uint);
template [[host_name("search_sorted_ushort_long")]] kernel void search_sorted<ushort, long>(
    device const ushort*, device const ushort*, device long*, constant SearchArguments&, uint);
template [[host_name("search_sorted_uint_int")]] kernel void search_sorted<uint, int>(
    device const uint*, device const uint*, device int*, constant SearchArguments&, uint);
template [[host_name("search_sorted_uint_long")]] kernel void search_sorted<uint, long>(
    device const uint*, device const uint*, device long*, constant SearchArguments&, uint);
template [[host_name("search_sorted_ulong_int")]] kernel void search_sorted<ulong, int>(
    device const ulong*, device const ulong*, device int*, constant SearchArguments&, uint);
template [[host_name("search_sorted_ulong_long")]] kernel void search_sorted<ulong, long>(
    device const ulong*, device const ulong*, device long*, constant SearchArguments&, uint);
template [[host_name("bucketize_float")]] kernel void bucketize<float>(device const float*,
                                                                       device int*,
                                                                       constant Boundaries&, uint);
template [[host_name("bucketize_half")]] kernel void bucketize<half>(device const half*,
                                                                     device int*,
                                                                     constant Boundaries&, uint);
template [[host_name("bucketize_bfloat")]] kernel void bucketize<bfloat>(device const bfloat*,
                                                                         device int*,
                                                                         constant Boundaries&,
                                                                         uint);
template [[host_name("bucketize_int")]] kernel void bucketize<int>(device const int*, device int*,
                                                                   constant Boundaries&, uint);
template [[host_name("bucketize_long")]] kernel void bucketize<long>(device const long*,
                                                                     device int*,
                                                                     constant Boundaries&, uint);
template [[host_name("in_top_k_int")]] kernel void in_top_k<int>(device const float*,
                                                                 device const int*, device bool*,
                                                                 constant InTopArguments&, uint);
template [[host_name("in_top_k_long")]] kernel void in_top_k<long>(device const float*,
                                                                   device const long*, device bool*,
                                                                   constant InTopArguments&, uint);
