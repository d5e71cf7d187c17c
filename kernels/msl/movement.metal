// Rearrangements of elements: padding, reversal, rolling, blocks and patches. Elements of all types
// move as unsigned integers of their size.
#include <metal_stdlib>

#include "kernels/msl/elements.h"
#include "kernels/msl/lane.h"
#include "kernels/msl/movement_arguments.h"
using namespace metal;

// Where a position lies within `size`, -1 for outside.
inline int map_position(int at, int size, uint edge) {
  if (uint(at) < uint(size)) return at;
  switch (edge) {
    case kEdgeReflect:
      return at < 0 ? -at : 2 * size - 2 - at;
    case kEdgeSymmetric:
      return at < 0 ? -at - 1 : 2 * size - 1 - at;
    case kEdgeWrap:
      return at < 0 ? at + size : at - size;
    default:
      return -1;
  }
}

// A thread's run of elements: dense from `first`; on the tensor the last factor moves `axis`.
struct MapRun {
  uint first, count;
  bool inside;  // as to all axes but that of the last factor
  long offset;  // of the other axes
  int at;       // position on the last factor's axis
  bool plain;   // all of it is inside, `stride` apart
  long stride;
};

inline MapRun map_run(uint i, constant MapArguments& m) {
  const uint last = m.rank - 1, per_row = (m.extents[last] + m.chunk - 1) / m.chunk;
  const uint row = i / per_row, begin = (i % per_row) * m.chunk;
  int at[MAX_SHADER_RANK];
  for (uint k = 0; k < m.mapped; ++k) at[k] = m.starts[k];
  uint rest = row;
  for (uint f = last; f > 0; --f) {
    at[m.axes[f - 1]] += int(rest % m.extents[f - 1]) * m.steps[f - 1];
    rest /= m.extents[f - 1];
  }
  MapRun run;
  run.first = row * m.extents[last] + begin;
  run.count = min(m.chunk, m.extents[last] - begin);
  run.at = at[m.axes[last]] + int(begin) * m.steps[last];
  run.offset = 0;
  run.inside = true;
  for (uint k = 0; k < m.mapped; ++k) {
    if (k == m.axes[last]) continue;
    const int position = map_position(at[k], m.sizes[k], m.edge);
    run.inside = run.inside && position >= 0;
    run.offset += position * m.strides[k];
  }
  const uint size = uint(m.sizes[m.axes[last]]);
  const int end = run.at + int(run.count - 1) * m.steps[last];
  run.plain = run.inside && uint(run.at) < size && uint(end) < size;
  run.stride = m.steps[last] * m.strides[m.axes[last]];
  return run;
}

// out[i] = in[map(i)], or `outside`.
template <typename T>
kernel void map_load(device const T* in [[buffer(0)]], device const T* outside [[buffer(1)]],
                     device T* out [[buffer(2)]], constant MapArguments& m [[buffer(3)]],
                     uint i [[thread_position_in_grid]]) {
  const MapRun run = map_run(i, m);
  const uint last = m.rank - 1, axis = m.axes[last];
  if (run.plain) {
    const long from = run.offset + run.at * m.strides[axis];
    for (uint j = 0; j < run.count; ++j) out[run.first + j] = in[from + j * run.stride];
    return;
  }
  for (uint j = 0; j < run.count; ++j) {
    const int at = map_position(run.at + int(j) * m.steps[last], m.sizes[axis], m.edge);
    const bool inside = run.inside && at >= 0;
    out[run.first + j] = inside ? in[run.offset + at * m.strides[axis]] : outside[0];
  }
}

// The same where the factors are the axes, three at most. Grid: element, row, block.
template <typename T>
kernel void map_load_rows(device const T* in [[buffer(0)]], device const T* outside [[buffer(1)]],
                          device T* out [[buffer(2)]], constant MapRowsArguments& m [[buffer(3)]],
                          uint3 p [[thread_position_in_grid]]) {
  const long at = lane(p.x), element = at + m.starts[2];
  const int row = int(p.y) + m.starts[1], block = int(p.z) + m.starts[0];
  const bool has_row = row >= 0 && row < m.sizes[1] && block >= 0 && block < m.sizes[0];
  const bool inside = has_row && element >= 0 && element < m.sizes[2];
  const long from = (long(block) * m.sizes[1] + row) * m.sizes[2];
  const T value = outside[0];
  out[(long(p.z) * m.rows + p.y) * m.length + at] = inside ? in[from + element] : value;
}

// out[map(i)] = in[i] where that is inside.
template <typename T>
kernel void map_store(device const T* in [[buffer(0)]], device T* out [[buffer(1)]],
                      constant MapArguments& m [[buffer(2)]], uint i [[thread_position_in_grid]]) {
  const MapRun run = map_run(i, m);
  const uint last = m.rank - 1, axis = m.axes[last];
  if (run.plain) {
    const long to = run.offset + run.at * m.strides[axis];
    for (uint j = 0; j < run.count; ++j) out[to + j * run.stride] = in[run.first + j];
    return;
  }
  for (uint j = 0; j < run.count; ++j) {
    const int at = map_position(run.at + int(j) * m.steps[last], m.sizes[axis], m.edge);
    if (run.inside && at >= 0) out[run.offset + at * m.strides[axis]] = in[run.first + j];
  }
}

// Sums what each element was copied to: on each axis its own place and up to two mirror images.
kernel void mirror_pad_grad(device const uchar* gradient [[buffer(0)]],
                            device uchar* out [[buffer(1)]],
                            constant MirrorGradArguments& m [[buffer(2)]],
                            uint i [[thread_position_in_grid]]) {
  long places[MAX_SHADER_RANK][3];
  uint counts[MAX_SHADER_RANK];
  uint combinations = 1, rest = i;
  long stride = 1;
  for (uint axis = m.rank; axis > 0; --axis) {
    const uint k = axis - 1;
    const int size = m.sizes[k], at = int(rest % uint(size)), left = m.left[k];
    rest /= uint(size);
    uint n = 0;
    places[k][n++] = (left + at) * stride;
    const int before = left - at - m.repeats_edge;
    if (before >= 0 && before < left) places[k][n++] = before * stride;
    const int after = left + 2 * size - 2 + m.repeats_edge - at;
    if (after >= left + size && after < m.padded[k]) places[k][n++] = after * stride;
    counts[k] = n;
    combinations *= n;
    stride *= m.padded[k];
  }
  float sum = 0.0f;
  for (uint c = 0; c < combinations; ++c) {
    uint choice = c;
    long from = 0;
    for (uint k = 0; k < m.rank; ++k) {
      from += places[k][choice % counts[k]];
      choice /= counts[k];
    }
    sum += load_float(gradient, m.type, ulong(from));
  }
  store_float(out, m.type, i, sum);
}

template <typename T>
kernel void reverse_sequence(device const T* in [[buffer(0)]],
                             device const int* lengths [[buffer(1)]], device T* out [[buffer(2)]],
                             constant ReverseSequenceArguments& r [[buffer(3)]],
                             uint i [[thread_position_in_grid]]) {
  uint rest = i, batch = 0, time = 0, stride = 1, time_stride = 1;
  for (uint axis = r.rank; axis > 0; --axis) {
    const uint k = axis - 1, at = rest % r.extents[k];
    rest /= r.extents[k];
    if (k == r.batch_axis) batch = at;
    if (k == r.sequence_axis) {
      time = at;
      time_stride = stride;
    }
    stride *= r.extents[k];
  }
  const long length = r.long_lengths ? ((device const long*)lengths)[batch] : lengths[batch];
  const uint end = uint(clamp(length, 0l, long(r.extents[r.sequence_axis])));
  const uint from = time < end ? end - 1 - time : time;
  out[i] = in[i - time * time_stride + from * time_stride];
}

template [[host_name("map_load_uchar")]] kernel void map_load<uchar>(device const uchar*,
                                                                     device const uchar*,
                                                                     device uchar*,
                                                                     constant MapArguments&, uint);
template [[host_name("map_store_uchar")]] kernel void map_store<uchar>(device const uchar*,
                                                                       device uchar*,
                                                                       constant MapArguments&,
                                                                       uint);
template [[host_name("reverse_sequence_uchar")]] kernel void reverse_sequence<uchar>(
    device const uchar*, device const int*, device uchar*, constant ReverseSequenceArguments&,
    uint);
template [[host_name("map_load_ushort")]] kernel void map_load<ushort>(
    device const ushort*, device const ushort*, device ushort*, constant MapArguments&, uint);
template [[host_name("map_store_ushort")]] kernel void map_store<ushort>(device const ushort*,
                                                                         device ushort*,
                                                                         constant MapArguments&,
                                                                         uint);
template [[host_name("reverse_sequence_ushort")]] kernel void reverse_sequence<ushort>(
    device const ushort*, device const int*, device ushort*, constant ReverseSequenceArguments&,
    uint);
template [[host_name("map_load_uint")]] kernel void map_load<uint>(device const uint*,
                                                                   device const uint*, device uint*,
                                                                   constant MapArguments&, uint);
template [[host_name("map_store_uint")]] kernel void map_store<uint>(device const uint*,
                                                                     device uint*,
                                                                     constant MapArguments&, uint);
template [[host_name("reverse_sequence_uint")]] kernel void reverse_sequence<uint>(
    device const uint*, device const int*, device uint*, constant ReverseSequenceArguments&, uint);
template [[host_name("map_load_ulong")]] kernel void map_load<ulong>(device const ulong*,
                                                                     device const ulong*,
                                                                     device ulong*,
                                                                     constant MapArguments&, uint);
template [[host_name("map_store_ulong")]] kernel void map_store<ulong>(device const ulong*,
                                                                       device ulong*,
                                                                       constant MapArguments&,
                                                                       uint);
template [[host_name("reverse_sequence_ulong")]] kernel void reverse_sequence<ulong>(
    device const ulong*, device const int*, device ulong*, constant ReverseSequenceArguments&,
    uint);
template [[host_name("map_load_rows_uchar")]] kernel void map_load_rows<uchar>(
    device const uchar*, device const uchar*, device uchar*, constant MapRowsArguments&, uint3);
template [[host_name("map_load_rows_ushort")]] kernel void map_load_rows<ushort>(
    device const ushort*, device const ushort*, device ushort*, constant MapRowsArguments&, uint3);
template [[host_name("map_load_rows_uint")]] kernel void map_load_rows<uint>(
    device const uint*, device const uint*, device uint*, constant MapRowsArguments&, uint3);
template [[host_name("map_load_rows_ulong")]] kernel void map_load_rows<ulong>(
    device const ulong*, device const ulong*, device ulong*, constant MapRowsArguments&, uint3);
