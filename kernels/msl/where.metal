// Where: the coordinates of the elements that differ from zero, in row-major order. A first pass
// counts per chunk, the host sums the counts up, a second pass writes.
#include <metal_stdlib>

#include "kernels/msl/arguments.h"
using namespace metal;

template <typename T>
inline bool is_set(T x) {
  return x != T(0);
}

template <typename T>
kernel void where_count(device const T* in [[buffer(0)]], device uint* counts [[buffer(1)]],
                        constant WhereArguments& a [[buffer(2)]],
                        uint chunk [[thread_position_in_grid]]) {
  const uint begin = chunk * a.chunk;
  const uint end = min(begin + a.chunk, a.count);
  uint n = 0;
  for (uint i = begin; i < end; ++i) n += is_set(in[i]) ? 1 : 0;
  counts[chunk] = n;
}

template <typename T>
kernel void where_write(device const T* in [[buffer(0)]], device const uint* offsets [[buffer(1)]],
                        device long* out [[buffer(2)]], constant WhereArguments& a [[buffer(3)]],
                        uint chunk [[thread_position_in_grid]]) {
  const uint begin = chunk * a.chunk;
  const uint end = min(begin + a.chunk, a.count);
  ulong row = offsets[chunk];
  for (uint i = begin; i < end; ++i) {
    if (!is_set(in[i])) continue;
    uint rest = i;
    for (uint axis = a.rank; axis > 0; --axis) {
      out[row * a.rank + axis - 1] = long(rest % a.extents[axis - 1]);
      rest /= a.extents[axis - 1];
    }
    ++row;
  }
}

template [[host_name("where_count_float")]] kernel void where_count<float>(device const float*,
                                                                           device uint*,
                                                                           constant WhereArguments&,
                                                                           uint);
template [[host_name("where_count_half")]] kernel void where_count<half>(device const half*,
                                                                         device uint*,
                                                                         constant WhereArguments&,
                                                                         uint);
template [[host_name("where_count_bfloat")]] kernel void where_count<bfloat>(
    device const bfloat*, device uint*, constant WhereArguments&, uint);
template [[host_name("where_count_char")]] kernel void where_count<char>(device const char*,
                                                                         device uint*,
                                                                         constant WhereArguments&,
                                                                         uint);
template [[host_name("where_count_short")]] kernel void where_count<short>(device const short*,
                                                                           device uint*,
                                                                           constant WhereArguments&,
                                                                           uint);
template [[host_name("where_count_int")]] kernel void where_count<int>(device const int*,
                                                                       device uint*,
                                                                       constant WhereArguments&,
                                                                       uint);
template [[host_name("where_count_long")]] kernel void where_count<long>(device const long*,
                                                                         device uint*,
                                                                         constant WhereArguments&,
                                                                         uint);
template [[host_name("where_count_uchar")]] kernel void where_count<uchar>(device const uchar*,
                                                                           device uint*,
                                                                           constant WhereArguments&,
                                                                           uint);
template [[host_name("where_count_ushort")]] kernel void where_count<ushort>(
    device const ushort*, device uint*, constant WhereArguments&, uint);
template [[host_name("where_count_uint")]] kernel void where_count<uint>(device const uint*,
                                                                         device uint*,
                                                                         constant WhereArguments&,
                                                                         uint);
template [[host_name("where_count_ulong")]] kernel void where_count<ulong>(device const ulong*,
                                                                           device uint*,
                                                                           constant WhereArguments&,
                                                                           uint);
template [[host_name("where_count_bool")]] kernel void where_count<bool>(device const bool*,
                                                                         device uint*,
                                                                         constant WhereArguments&,
                                                                         uint);
template [[host_name("where_write_float")]] kernel void where_write<float>(
    device const float*, device const uint*, device long*, constant WhereArguments&, uint);
template [[host_name("where_write_half")]] kernel void where_write<half>(
    device const half*, device const uint*, device long*, constant WhereArguments&, uint);
template [[host_name("where_write_bfloat")]] kernel void where_write<bfloat>(
    device const bfloat*, device const uint*, device long*, constant WhereArguments&, uint);
template [[host_name("where_write_char")]] kernel void where_write<char>(
    device const char*, device const uint*, device long*, constant WhereArguments&, uint);
template [[host_name("where_write_short")]] kernel void where_write<short>(
    device const short*, device const uint*, device long*, constant WhereArguments&, uint);
template [[host_name("where_write_int")]] kernel void where_write<int>(
    device const int*, device const uint*, device long*, constant WhereArguments&, uint);
template [[host_name("where_write_long")]] kernel void where_write<long>(
    device const long*, device const uint*, device long*, constant WhereArguments&, uint);
template [[host_name("where_write_uchar")]] kernel void where_write<uchar>(
    device const uchar*, device const uint*, device long*, constant WhereArguments&, uint);
template [[host_name("where_write_ushort")]] kernel void where_write<ushort>(
    device const ushort*, device const uint*, device long*, constant WhereArguments&, uint);
template [[host_name("where_write_uint")]] kernel void where_write<uint>(
    device const uint*, device const uint*, device long*, constant WhereArguments&, uint);
template [[host_name("where_write_ulong")]] kernel void where_write<ulong>(
    device const ulong*, device const uint*, device long*, constant WhereArguments&, uint);
template [[host_name("where_write_bool")]] kernel void where_write<bool>(
    device const bool*, device const uint*, device long*, constant WhereArguments&, uint);
