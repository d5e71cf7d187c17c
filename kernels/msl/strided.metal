// Copies between a dense tensor and a strided view of another: slices, broadcasts of one element.
#include <metal_stdlib>

#include "kernels/msl/arguments.h"
using namespace metal;

template <typename T>
kernel void strided_copy(device const T* in [[buffer(0)]], device T* out [[buffer(1)]],
                         constant StridedCopyArguments& s [[buffer(2)]],
                         uint i [[thread_position_in_grid]]) {
  long from = s.offset;
  uint rest = i;
  for (uint axis = s.rank; axis > 0; --axis) {
    const uint k = axis - 1;
    from += long(rest % s.extents[k]) * s.strides[k];
    rest /= s.extents[k];
  }
  out[i] = in[from];
}

// The reverse: writes a dense tensor into the view.
template <typename T>
kernel void strided_store(device const T* in [[buffer(0)]], device T* out [[buffer(1)]],
                          constant StridedCopyArguments& s [[buffer(2)]],
                          uint i [[thread_position_in_grid]]) {
  long to = s.offset;
  uint rest = i;
  for (uint axis = s.rank; axis > 0; --axis) {
    const uint k = axis - 1;
    to += long(rest % s.extents[k]) * s.strides[k];
    rest /= s.extents[k];
  }
  out[to] = in[i];
}

template [[host_name("strided_copy_uchar")]] kernel void strided_copy<uchar>(
    device const uchar*, device uchar*, constant StridedCopyArguments&, uint);
template [[host_name("strided_copy_ushort")]] kernel void strided_copy<ushort>(
    device const ushort*, device ushort*, constant StridedCopyArguments&, uint);
template [[host_name("strided_copy_uint")]] kernel void strided_copy<uint>(
    device const uint*, device uint*, constant StridedCopyArguments&, uint);
template [[host_name("strided_copy_ulong")]] kernel void strided_copy<ulong>(
    device const ulong*, device ulong*, constant StridedCopyArguments&, uint);
template [[host_name("strided_store_uchar")]] kernel void strided_store<uchar>(
    device const uchar*, device uchar*, constant StridedCopyArguments&, uint);
template [[host_name("strided_store_ushort")]] kernel void strided_store<ushort>(
    device const ushort*, device ushort*, constant StridedCopyArguments&, uint);
template [[host_name("strided_store_uint")]] kernel void strided_store<uint>(
    device const uint*, device uint*, constant StridedCopyArguments&, uint);
template [[host_name("strided_store_ulong")]] kernel void strided_store<ulong>(
    device const ulong*, device ulong*, constant StridedCopyArguments&, uint);
