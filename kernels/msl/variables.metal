// Reading and changing variables: elementwise updates in place, gathers and scatters of rows,
// assignment to a slice.
#include <metal_stdlib>

#include "kernels/msl/arguments.h"
using namespace metal;

// NaN wins over numbers in minimum and maximum.
inline float updated(float x, float y, uint op) {
  switch (op) {
    case kUpdateAdd:
      return x + y;
    case kUpdateSub:
      return x - y;
    case kUpdateMul:
      return x * y;
    case kUpdateDiv:
      return x / y;
    case kUpdateMin:
      return x < y || x != x ? x : y;
    case kUpdateMax:
      return x > y || x != x ? x : y;
    default:
      return y;
  }
}
inline half updated(half x, half y, uint op) { return half(updated(float(x), float(y), op)); }
inline bfloat updated(bfloat x, bfloat y, uint op) {
  return bfloat(updated(float(x), float(y), op));
}

// Integers wrap around: computed modulo 2^64, then cut to their width. x / 0 is 0.
template <typename T>
inline T updated(T x, T y, uint op) {
  switch (op) {
    case kUpdateAdd:
      return T(ulong(x) + ulong(y));
    case kUpdateSub:
      return T(ulong(x) - ulong(y));
    case kUpdateMul:
      return T(ulong(x) * ulong(y));
    case kUpdateDiv:
      if (y == T(0)) return T(0);
      if (T(-1) < T(0) && y == T(-1)) return T(ulong(0) - ulong(x));  // the lowest number / -1
      return T(x / y);
    case kUpdateMin:
      return x < y ? x : y;
    case kUpdateMax:
      return x > y ? x : y;
    default:
      return y;
  }
}

template <typename T>
kernel void variable_update(device T* variable [[buffer(0)]], device const T* value [[buffer(1)]],
                            constant uint& op [[buffer(2)]], uint i [[thread_position_in_grid]]) {
  variable[i] = updated(variable[i], value[i], op);
}

// The row that tuple t chooses; -1 when an index is out of range. An int64 is two ints, low first.
inline long chosen_row(device const int* indices, ulong t, constant RowArguments& a) {
  long row = 0;
  for (uint k = 0; k < a.depth; ++k) {
    const ulong at = t * a.depth + k;
    const long index = a.long_indices != 0
                           ? (long(indices[2 * at + 1]) * 4294967296L) + long(uint(indices[2 * at]))
                           : long(indices[at]);
    if (index < 0 || index >= a.extents[k]) return -1;
    row = row * a.extents[k] + index;
  }
  return row;
}

// Elements move as unsigned integers of their size. Rows that do not exist read as zeros, as with
// TensorFlow's kernels for GPUs.
template <typename T>
kernel void gather_rows(device const T* tensor [[buffer(0)]],
                        device const int* indices [[buffer(1)]], device T* out [[buffer(2)]],
                        constant RowArguments& a [[buffer(3)]],
                        uint i [[thread_position_in_grid]]) {
  const uint t = i / a.width;
  const long row = chosen_row(indices, t, a);
  const long first = long(t / a.tuples_per_batch) * a.rows_per_batch;
  out[i] = row < 0 ? T(0) : tensor[(first + row) * a.width + i % a.width];
}

// A thread owns one set of rows and goes through all tuples in order: deterministic, and a row that
// is chosen twice is updated twice, first tuple first. Rows that do not exist are skipped.
template <typename T>
kernel void scatter_rows(device T* tensor [[buffer(0)]], device const int* indices [[buffer(1)]],
                         device const T* updates [[buffer(2)]],
                         constant RowArguments& a [[buffer(3)]],
                         uint i [[thread_position_in_grid]]) {
  const uint lane = i % a.lanes;
  const uint bucket = i / a.lanes;
  for (uint t = 0; t < a.count; ++t) {
    const long row = chosen_row(indices, t, a);
    if (row < 0 || uint(row % a.buckets) != bucket) continue;
    for (uint column = lane; column < a.width; column += a.lanes) {
      const ulong to = ulong(row) * a.width + column;
      const ulong from = a.scalar != 0 ? ulong(0) : ulong(t) * a.width + column;
      tensor[to] = updated(tensor[to], updates[from], a.op);
    }
  }
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
template [[host_name("gather_rows_uchar")]] kernel void gather_rows<uchar>(
    device const uchar*, device const int*, device uchar*, constant RowArguments&, uint);
template [[host_name("gather_rows_ushort")]] kernel void gather_rows<ushort>(
    device const ushort*, device const int*, device ushort*, constant RowArguments&, uint);
template [[host_name("gather_rows_uint")]] kernel void gather_rows<uint>(
    device const uint*, device const int*, device uint*, constant RowArguments&, uint);
template [[host_name("gather_rows_ulong")]] kernel void gather_rows<ulong>(
    device const ulong*, device const int*, device ulong*, constant RowArguments&, uint);
template [[host_name("scatter_rows_float")]] kernel void scatter_rows<float>(
    device float*, device const int*, device const float*, constant RowArguments&, uint);
template [[host_name("scatter_rows_half")]] kernel void scatter_rows<half>(
    device half*, device const int*, device const half*, constant RowArguments&, uint);
template [[host_name("scatter_rows_bfloat")]] kernel void scatter_rows<bfloat>(
    device bfloat*, device const int*, device const bfloat*, constant RowArguments&, uint);
template [[host_name("scatter_rows_char")]] kernel void scatter_rows<char>(
    device char*, device const int*, device const char*, constant RowArguments&, uint);
template [[host_name("scatter_rows_short")]] kernel void scatter_rows<short>(
    device short*, device const int*, device const short*, constant RowArguments&, uint);
template [[host_name("scatter_rows_int")]] kernel void scatter_rows<int>(
    device int*, device const int*, device const int*, constant RowArguments&, uint);
template [[host_name("scatter_rows_long")]] kernel void scatter_rows<long>(
    device long*, device const int*, device const long*, constant RowArguments&, uint);
template [[host_name("scatter_rows_uchar")]] kernel void scatter_rows<uchar>(
    device uchar*, device const int*, device const uchar*, constant RowArguments&, uint);
template [[host_name("scatter_rows_ushort")]] kernel void scatter_rows<ushort>(
    device ushort*, device const int*, device const ushort*, constant RowArguments&, uint);
template [[host_name("scatter_rows_uint")]] kernel void scatter_rows<uint>(
    device uint*, device const int*, device const uint*, constant RowArguments&, uint);
template [[host_name("scatter_rows_ulong")]] kernel void scatter_rows<ulong>(
    device ulong*, device const int*, device const ulong*, constant RowArguments&, uint);
template [[host_name("assign_slice_uchar")]] kernel void assign_slice<uchar>(
    device uchar*, device const uchar*, constant SliceAssignArguments&, uint);
template [[host_name("assign_slice_ushort")]] kernel void assign_slice<ushort>(
    device ushort*, device const ushort*, constant SliceAssignArguments&, uint);
template [[host_name("assign_slice_uint")]] kernel void assign_slice<uint>(
    device uint*, device const uint*, constant SliceAssignArguments&, uint);
template [[host_name("assign_slice_ulong")]] kernel void assign_slice<ulong>(
    device ulong*, device const ulong*, constant SliceAssignArguments&, uint);
