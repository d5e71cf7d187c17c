// Rows chosen by indices. Rows that do not exist read as zeros, as with TensorFlow's kernels for
// GPUs. Rows move as unsigned integers of the largest size that divides them.
#include <metal_stdlib>

#include "kernels/msl/row_index.h"
using namespace metal;

template <typename T>
kernel void gather_rows(device const T* in [[buffer(0)]], device const uchar* indices [[buffer(1)]],
                        device T* out [[buffer(2)]], constant GatherArguments& a [[buffer(3)]],
                        uint i [[thread_position_in_grid]]) {
  const uint r = i / a.parts;
  const uint begin = (i % a.parts) * GATHER_PART;
  const uint end = min(begin + GATHER_PART, a.width);
  const uint block = r / a.tuples;
  const ulong tuple = ulong(block / a.outer) * a.tuples + r % a.tuples;
  const long row = row_of(indices, tuple, a.index);
  device T* to = out + ulong(r) * a.width;
  if (row < 0) {
    for (uint c = begin; c < end; ++c) to[c] = T(0);
  } else {
    device const T* from = in + (ulong(block) * ulong(a.rows) + ulong(row)) * a.width;
    for (uint c = begin; c < end; ++c) to[c] = from[c];
  }
}

template [[host_name("gather_rows_uchar")]] kernel decltype(gather_rows<uchar>) gather_rows<uchar>;
template
    [[host_name("gather_rows_ushort")]] kernel decltype(gather_rows<ushort>) gather_rows<ushort>;
template [[host_name("gather_rows_uint")]] kernel decltype(gather_rows<uint>) gather_rows<uint>;
template [[host_name("gather_rows_ulong")]] kernel decltype(gather_rows<ulong>) gather_rows<ulong>;
