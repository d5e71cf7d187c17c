// Diagonals of matrices, bands, one-hot vectors, ranges.
#include <metal_stdlib>

#include "kernels/msl/matrix_arguments.h"
#include "kernels/msl/row_index.h"
using namespace metal;

inline int diagonal_length(constant DiagonalArguments& a, int k) {
  return min(int(a.rows) + min(k, 0), int(a.columns) - max(k, 0));
}

// Where the elements of diagonal k begin in their `length` elements.
inline int diagonal_start(constant DiagonalArguments& a, int k) {
  const bool left = (k >= 0 && a.left_super != 0) || (k <= 0 && a.left_sub != 0);
  return left ? 0 : int(a.length) - diagonal_length(a, k);
}

template <typename T>
kernel void diagonal_part(device const T* in [[buffer(0)]], device const T* padding [[buffer(1)]],
                          device T* out [[buffer(2)]], constant DiagonalArguments& a [[buffer(3)]],
                          uint i [[thread_position_in_grid]]) {
  const uint diagonals = uint(a.high - a.low + 1);
  const int k = a.high - int(i / a.length % diagonals);
  const int at = int(i % a.length) - diagonal_start(a, k);
  if (at < 0 || at >= diagonal_length(a, k)) {
    out[i] = *padding;
    return;
  }
  const uint row = uint(at + max(0, -k)), column = uint(at + max(0, k));
  out[i] = in[(ulong(i / a.length / diagonals) * a.rows + row) * a.columns + column];
}

template <typename T>
kernel void diagonal_set(device const T* elsewhere [[buffer(0)]],
                         device const T* diagonals [[buffer(1)]], device T* out [[buffer(2)]],
                         constant DiagonalArguments& a [[buffer(3)]],
                         uint i [[thread_position_in_grid]]) {
  const int row = int(i / a.columns % a.rows), column = int(i % a.columns);
  const int k = column - row;
  if (k < a.low || k > a.high) {
    out[i] = elsewhere[a.keep != 0 ? i : 0];
    return;
  }
  const uint at = uint(column - max(0, k) + diagonal_start(a, k));
  const ulong matrix = i / a.columns / a.rows;
  out[i] = diagonals[(matrix * uint(a.high - a.low + 1) + uint(a.high - k)) * a.length + at];
}

template <typename T>
kernel void band_part(device const T* in [[buffer(0)]], device T* out [[buffer(1)]],
                      constant BandArguments& a [[buffer(2)]], uint i [[thread_position_in_grid]]) {
  const long k = long(i % a.columns) - long(i / a.columns % a.rows);
  const bool kept = (a.lower < 0 || -k <= a.lower) && (a.upper < 0 || k <= a.upper);
  out[i] = kept ? in[i] : T(0);
}

template <typename T>
kernel void one_hot(device const uchar* indices [[buffer(0)]], device const T* on [[buffer(1)]],
                    device const T* off [[buffer(2)]], device T* out [[buffer(3)]],
                    constant OneHotArguments& a [[buffer(4)]], uint i [[thread_position_in_grid]]) {
  const uint inner = i % a.inner, row = i / a.inner;
  const long index = index_at(indices, ulong(row / a.depth) * a.inner + inner, a.type);
  out[i] = index == long(row % a.depth) ? *on : *off;
}

template <typename T>
kernel void float_range(device T* out [[buffer(0)]], constant RangeArguments& a [[buffer(1)]],
                        uint i [[thread_position_in_grid]]) {
  out[i] = T(a.start + a.delta * float(i));
}

template <typename T>
kernel void integer_range(device T* out [[buffer(0)]], constant RangeArguments& a [[buffer(1)]],
                          uint i [[thread_position_in_grid]]) {
  out[i] = T(ulong(a.whole_start) + ulong(a.whole_delta) * i);
}

template
    [[host_name("diagonal_part_uchar")]] kernel decltype(diagonal_part<uchar>) diagonal_part<uchar>;
template [[host_name(
    "diagonal_part_ushort")]] kernel decltype(diagonal_part<ushort>) diagonal_part<ushort>;
template
    [[host_name("diagonal_part_uint")]] kernel decltype(diagonal_part<uint>) diagonal_part<uint>;
template
    [[host_name("diagonal_part_ulong")]] kernel decltype(diagonal_part<ulong>) diagonal_part<ulong>;
template
    [[host_name("diagonal_set_uchar")]] kernel decltype(diagonal_set<uchar>) diagonal_set<uchar>;
template
    [[host_name("diagonal_set_ushort")]] kernel decltype(diagonal_set<ushort>) diagonal_set<ushort>;
template [[host_name("diagonal_set_uint")]] kernel decltype(diagonal_set<uint>) diagonal_set<uint>;
template
    [[host_name("diagonal_set_ulong")]] kernel decltype(diagonal_set<ulong>) diagonal_set<ulong>;
template [[host_name("band_part_uchar")]] kernel decltype(band_part<uchar>) band_part<uchar>;
template [[host_name("band_part_ushort")]] kernel decltype(band_part<ushort>) band_part<ushort>;
template [[host_name("band_part_uint")]] kernel decltype(band_part<uint>) band_part<uint>;
template [[host_name("band_part_ulong")]] kernel decltype(band_part<ulong>) band_part<ulong>;
template [[host_name("one_hot_uchar")]] kernel decltype(one_hot<uchar>) one_hot<uchar>;
template [[host_name("one_hot_ushort")]] kernel decltype(one_hot<ushort>) one_hot<ushort>;
template [[host_name("one_hot_uint")]] kernel decltype(one_hot<uint>) one_hot<uint>;
template [[host_name("one_hot_ulong")]] kernel decltype(one_hot<ulong>) one_hot<ulong>;
template [[host_name("float_range_float")]] kernel decltype(float_range<float>) float_range<float>;
template
    [[host_name("float_range_bfloat")]] kernel decltype(float_range<bfloat>) float_range<bfloat>;
template
    [[host_name("integer_range_long")]] kernel decltype(integer_range<long>) integer_range<long>;
