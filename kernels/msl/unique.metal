// Unique: rows are sorted, equal ones become neighbours; the first of each group in the tensor's
// order stands for it, and groups are numbered in the order of their first rows.
#include <metal_stdlib>

#include "kernels/msl/unique_arguments.h"
using namespace metal;

// heads[p]: the sorted row p begins a group. firsts[r]: row r is the first of its group, because
// the sort keeps the order of equal rows. NaN differs from itself.
template <typename T>
kernel void unique_mark(device const T* in [[buffer(0)]], device const uint* order [[buffer(1)]],
                        device uchar* heads [[buffer(2)]], device uchar* firsts [[buffer(3)]],
                        constant UniqueArguments& a [[buffer(4)]],
                        uint p [[thread_position_in_grid]]) {
  bool differs = p == 0;
  const ulong mine = ulong(order[p]) * a.inner, other = ulong(order[p > 0 ? p - 1 : 0]) * a.inner;
  for (uint o = 0; o < a.outer && !differs; ++o) {
    device const T* plane = in + ulong(o) * a.rows * a.inner;
    for (uint i = 0; i < a.inner; ++i) differs = differs || !(plane[mine + i] == plane[other + i]);
  }
  heads[p] = differs ? 1 : 0;
  firsts[order[p]] = differs ? 1 : 0;
}

kernel void unique_count(device const uchar* heads [[buffer(0)]],
                         device const uchar* firsts [[buffer(1)]],
                         device uint* head_counts [[buffer(2)]],
                         device uint* first_counts [[buffer(3)]],
                         constant UniqueArguments& a [[buffer(4)]],
                         uint chunk [[thread_position_in_grid]]) {
  const uint end = min((chunk + 1) * a.chunk, a.rows);
  uint head_count = 0, first_count = 0;
  for (uint r = chunk * a.chunk; r < end; ++r) {
    head_count += heads[r];
    first_count += firsts[r];
  }
  head_counts[chunk] = head_count;
  first_counts[chunk] = first_count;
}

// The number of each first row among the first rows; with counts before each chunk. starts[g]:
// where group g begins among the sorted rows.
kernel void unique_number(device const uchar* heads [[buffer(0)]],
                          device const uchar* firsts [[buffer(1)]],
                          device const uint* head_counts [[buffer(2)]],
                          device const uint* first_counts [[buffer(3)]],
                          device uint* numbers [[buffer(4)]], device uint* rows [[buffer(5)]],
                          device uint* starts [[buffer(6)]],
                          constant UniqueArguments& a [[buffer(7)]],
                          uint chunk [[thread_position_in_grid]]) {
  const uint end = min((chunk + 1) * a.chunk, a.rows);
  uint group = head_counts[chunk], number = first_counts[chunk];
  for (uint r = chunk * a.chunk; r < end; ++r) {
    if (heads[r]) starts[group++] = r;
    if (firsts[r]) {
      rows[number] = r;
      numbers[r] = number++;
    }
  }
}

// Which group each row is in, and with `counts` how many rows each has.
template <typename Index>
kernel void unique_groups(device const uint* order [[buffer(0)]],
                          device const uint* numbers [[buffer(1)]],
                          device const uint* starts [[buffer(2)]], device Index* out [[buffer(3)]],
                          device Index* counts [[buffer(4)]],
                          constant UniqueArguments& a [[buffer(5)]],
                          uint group [[thread_position_in_grid]]) {
  const uint begin = starts[group], end = group + 1 < a.groups ? starts[group + 1] : a.rows;
  const uint number = numbers[order[begin]];
  for (uint p = begin; p < end; ++p) out[order[p]] = Index(number);
  counts[number] = Index(end - begin);
}

template <typename T>
kernel void unique_rows(device const T* in [[buffer(0)]], device const uint* rows [[buffer(1)]],
                        device T* out [[buffer(2)]], constant UniqueArguments& a [[buffer(3)]],
                        uint i [[thread_position_in_grid]]) {
  const uint inner = i % a.inner, number = i / a.inner % a.groups, outer = i / a.inner / a.groups;
  out[i] = in[(ulong(outer) * a.rows + rows[number]) * a.inner + inner];
}

template [[host_name("unique_mark_float")]] kernel void unique_mark<float>(
    device const float*, device const uint*, device uchar*, device uchar*,
    constant UniqueArguments&, uint);
template [[host_name("unique_mark_half")]] kernel void unique_mark<half>(
    device const half*, device const uint*, device uchar*, device uchar*, constant UniqueArguments&,
    uint);
template [[host_name("unique_mark_bfloat")]] kernel void unique_mark<bfloat>(
    device const bfloat*, device const uint*, device uchar*, device uchar*,
    constant UniqueArguments&, uint);
template [[host_name("unique_mark_char")]] kernel void unique_mark<char>(
    device const char*, device const uint*, device uchar*, device uchar*, constant UniqueArguments&,
    uint);
template [[host_name("unique_mark_short")]] kernel void unique_mark<short>(
    device const short*, device const uint*, device uchar*, device uchar*,
    constant UniqueArguments&, uint);
template [[host_name("unique_mark_int")]] kernel void unique_mark<int>(device const int*,
                                                                       device const uint*,
                                                                       device uchar*, device uchar*,
                                                                       constant UniqueArguments&,
                                                                       uint);
template [[host_name("unique_mark_long")]] kernel void unique_mark<long>(
    device const long*, device const uint*, device uchar*, device uchar*, constant UniqueArguments&,
    uint);
template [[host_name("unique_mark_uchar")]] kernel void unique_mark<uchar>(
    device const uchar*, device const uint*, device uchar*, device uchar*,
    constant UniqueArguments&, uint);
template [[host_name("unique_mark_ushort")]] kernel void unique_mark<ushort>(
    device const ushort*, device const uint*, device uchar*, device uchar*,
    constant UniqueArguments&, uint);
template [[host_name("unique_mark_uint")]] kernel void unique_mark<uint>(
    device const uint*, device const uint*, device uchar*, device uchar*, constant UniqueArguments&,
    uint);
template [[host_name("unique_mark_ulong")]] kernel void unique_mark<ulong>(
    device const ulong*, device const uint*, device uchar*, device uchar*,
    constant UniqueArguments&, uint);
template [[host_name("unique_mark_bool")]] kernel void unique_mark<bool>(
    device const bool*, device const uint*, device uchar*, device uchar*, constant UniqueArguments&,
    uint);
template [[host_name("unique_rows_uchar")]] kernel void unique_rows<uchar>(
    device const uchar*, device const uint*, device uchar*, constant UniqueArguments&, uint);
template [[host_name("unique_rows_ushort")]] kernel void unique_rows<ushort>(
    device const ushort*, device const uint*, device ushort*, constant UniqueArguments&, uint);
template [[host_name("unique_rows_uint")]] kernel void unique_rows<uint>(
    device const uint*, device const uint*, device uint*, constant UniqueArguments&, uint);
template [[host_name("unique_rows_ulong")]] kernel void unique_rows<ulong>(
    device const ulong*, device const uint*, device ulong*, constant UniqueArguments&, uint);
template [[host_name("unique_groups_int")]] kernel void unique_groups<int>(
    device const uint*, device const uint*, device const uint*, device int*, device int*,
    constant UniqueArguments&, uint);
template [[host_name("unique_groups_long")]] kernel void unique_groups<long>(
    device const uint*, device const uint*, device const uint*, device long*, device long*,
    constant UniqueArguments&, uint);
