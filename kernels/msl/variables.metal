// Changing variables: elementwise updates in place, assignment to a slice.
#include <metal_stdlib>

#include "kernels/msl/update.h"
using namespace metal;

template <typename T>
kernel void variable_update(device T* variable [[buffer(0)]], device const T* value [[buffer(1)]],
                            constant uint& op [[buffer(2)]], uint i [[thread_position_in_grid]]) {
  variable[i] = updated(variable[i], value[i], op);
}

template <typename T>
kernel void assign_slice(device T* variable [[buffer(0)]], device const T* value [[buffer(1)]],
                         constant SliceAssignArguments& s [[buffer(2)]],
                         uint i [[thread_position_in_grid]]) {
  long to = s.offset, from = 0;
  uint rest = i;
  for (uint axis = s.rank; axis > 0; --axis) {
    const uint k = axis - 1;
    const long index = rest % s.extents[k];
    to += index * s.to_strides[k];
    from += index * s.from_strides[k];
    rest /= s.extents[k];
  }
  variable[to] = value[from];
}

template [[host_name("variable_update_float")]] kernel void variable_update<float>(
    device float*, device const float*, constant uint&, uint);
template [[host_name("variable_update_half")]] kernel void variable_update<half>(device half*,
                                                                                 device const half*,
                                                                                 constant uint&,
                                                                                 uint);
template [[host_name("variable_update_bfloat")]] kernel void variable_update<bfloat>(
    device bfloat*, device const bfloat*, constant uint&, uint);
template [[host_name("variable_update_char")]] kernel void variable_update<char>(device char*,
                                                                                 device const char*,
                                                                                 constant uint&,
                                                                                 uint);
template [[host_name("variable_update_short")]] kernel void variable_update<short>(
    device short*, device const short*, constant uint&, uint);
template [[host_name("variable_update_int")]] kernel void variable_update<int>(device int*,
                                                                               device const int*,
                                                                               constant uint&,
                                                                               uint);
template [[host_name("variable_update_long")]] kernel void variable_update<long>(device long*,
                                                                                 device const long*,
                                                                                 constant uint&,
                                                                                 uint);
template [[host_name("variable_update_uchar")]] kernel void variable_update<uchar>(
    device uchar*, device const uchar*, constant uint&, uint);
template [[host_name("variable_update_ushort")]] kernel void variable_update<ushort>(
    device ushort*, device const ushort*, constant uint&, uint);
template [[host_name("variable_update_uint")]] kernel void variable_update<uint>(device uint*,
                                                                                 device const uint*,
                                                                                 constant uint&,
                                                                                 uint);
template [[host_name("variable_update_ulong")]] kernel void variable_update<ulong>(
    device ulong*, device const ulong*, constant uint&, uint);
template [[host_name("assign_slice_uchar")]] kernel void assign_slice<uchar>(
    device uchar*, device const uchar*, constant SliceAssignArguments&, uint);
template [[host_name("assign_slice_ushort")]] kernel void assign_slice<ushort>(
    device ushort*, device const ushort*, constant SliceAssignArguments&, uint);
template [[host_name("assign_slice_uint")]] kernel void assign_slice<uint>(
    device uint*, device const uint*, constant SliceAssignArguments&, uint);
template [[host_name("assign_slice_ulong")]] kernel void assign_slice<ulong>(
    device ulong*, device const ulong*, constant SliceAssignArguments&, uint);
