// Buffers filled with one value: the answer to operations on nothing, ZerosLike, OnesLike.
#include <metal_stdlib>
using namespace metal;

template <typename T>
kernel void fill_value(device T* out [[buffer(0)]], constant float& value [[buffer(1)]],
                       uint i [[thread_position_in_grid]]) {
  out[i] = T(value);
}

template [[host_name("fill_value_float")]] kernel void fill_value<float>(device float*,
                                                                         constant float&, uint);
template [[host_name("fill_value_half")]] kernel void fill_value<half>(device half*,
                                                                       constant float&, uint);
template [[host_name("fill_value_bfloat")]] kernel void fill_value<bfloat>(device bfloat*,
                                                                           constant float&, uint);
template [[host_name("fill_value_char")]] kernel void fill_value<char>(device char*,
                                                                       constant float&, uint);
template [[host_name("fill_value_short")]] kernel void fill_value<short>(device short*,
                                                                         constant float&, uint);
template [[host_name("fill_value_int")]] kernel void fill_value<int>(device int*, constant float&,
                                                                     uint);
template [[host_name("fill_value_long")]] kernel void fill_value<long>(device long*,
                                                                       constant float&, uint);
template [[host_name("fill_value_uchar")]] kernel void fill_value<uchar>(device uchar*,
                                                                         constant float&, uint);
template [[host_name("fill_value_ushort")]] kernel void fill_value<ushort>(device ushort*,
                                                                           constant float&, uint);
template [[host_name("fill_value_uint")]] kernel void fill_value<uint>(device uint*,
                                                                       constant float&, uint);
template [[host_name("fill_value_ulong")]] kernel void fill_value<ulong>(device ulong*,
                                                                         constant float&, uint);
template [[host_name("fill_value_bool")]] kernel void fill_value<bool>(device bool*,
                                                                       constant float&, uint);

kernel void fill_value_float2(device float2* out [[buffer(0)]], constant float& value [[buffer(1)]],
                              uint i [[thread_position_in_grid]]) {
  out[i] = float2(value, 0.0f);  // a complex number
}
