// Rows of a tensor changed by items that are sorted by row: scatters, segment sums. The items of a
// row are taken in their order, by the threads that stand at the first of them; 16-bit floats are
// summed up in float32.
#include <metal_stdlib>

#include "kernels/msl/row_index.h"
#include "kernels/msl/update.h"
using namespace metal;

template <typename T>
struct Accumulator {
  typedef T type;
};
template <>
struct Accumulator<half> {
  typedef float type;
};
template <>
struct Accumulator<bfloat> {
  typedef float type;
};

inline float divided(float sum, uint n, uint scale) {
  return scale == kRowScaleMean ? sum / float(n) : sum / sqrt(float(n));
}
template <typename A>
inline A divided(A sum, uint n, uint) {
  return A(sum / A(n));
}

struct CombineBuffers {
  device const uint* keys;
  device const uint* items;
  device const uchar* sources;
  device const float* weights;
};

// Which row of the values item p of the sorted order stands for; -1 when there is none.
inline long source_of(CombineBuffers b, constant CombineArguments& a, uint p) {
  const ulong item = a.sorted != 0 ? p : b.items[p];
  if (a.has_source == 0) return long(item);
  const long row = index_at(b.sources, item, a.source);
  return row < 0 || row >= a.source_rows ? -1 : row;
}

template <typename T, uint op>
inline void combine_part(device T* out, device const T* values, CombineBuffers b,
                         constant CombineArguments& a, uint p, uint begin) {
  typedef typename Accumulator<T>::type A;
  const uint key = b.keys[p];
  const uint n = min(uint(COMBINE_PART), a.width - begin);
  device T* to = out + ulong(key) * a.width + begin;
  A sums[COMBINE_PART];
  const bool from_first = a.keep == 0 && op != kUpdateAdd;
  for (uint c = 0; c < n; ++c) sums[c] = a.keep != 0 ? A(to[c]) : A(0);
  uint k = p;
  for (; k < a.count && b.keys[k] == key; ++k) {
    const long source = source_of(b, a, k);
    if (source < 0) continue;
    device const T* from = a.scalar != 0 ? values : values + ulong(source) * a.width + begin;
    if (from_first && k == p) {
      for (uint c = 0; c < n; ++c) sums[c] = A(from[c]);
    } else if (a.scalar != 0) {
      for (uint c = 0; c < n; ++c) sums[c] = updated(sums[c], A(*from), op);
    } else if (a.has_weights != 0) {
      const float weight = b.weights[source];
      for (uint c = 0; c < n; ++c) sums[c] = updated(sums[c], A(float(from[c]) * weight), op);
    } else if (n == COMBINE_PART) {
      for (uint c = 0; c < COMBINE_PART; ++c) sums[c] = updated(sums[c], A(from[c]), op);
    } else {
      for (uint c = 0; c < n; ++c) sums[c] = updated(sums[c], A(from[c]), op);
    }
  }
  if (a.scale != kRowScaleNone) {
    for (uint c = 0; c < n; ++c) sums[c] = divided(sums[c], k - p, a.scale);
  }
  for (uint c = 0; c < n; ++c) to[c] = T(sums[c]);
}

// The last item of a row wins.
template <typename T>
inline void assign_part(device T* out, device const T* values, CombineBuffers b,
                        constant CombineArguments& a, uint p, uint begin) {
  if (p + 1 < a.count && b.keys[p + 1] == b.keys[p]) return;
  const uint end = min(begin + COMBINE_PART, a.width);
  device T* to = out + ulong(b.keys[p]) * a.width;
  device const T* from = values + (a.scalar != 0 ? 0 : ulong(source_of(b, a, p)) * a.width);
  for (uint c = begin; c < end; ++c) to[c] = from[a.scalar != 0 ? 0 : c];
}

template <typename T>
kernel void combine_rows(device T* out [[buffer(0)]], device const T* values [[buffer(1)]],
                         device const uint* keys [[buffer(2)]],
                         device const uint* items [[buffer(3)]],
                         device const uchar* sources [[buffer(4)]],
                         device const float* weights [[buffer(5)]],
                         constant CombineArguments& a [[buffer(6)]],
                         uint i [[thread_position_in_grid]]) {
  const uint p = i / a.parts;
  const uint begin = (i % a.parts) * COMBINE_PART;
  if (keys[p] >= a.rows) return;
  const CombineBuffers b = {keys, items, sources, weights};
  if (a.op == kUpdateAssign) return assign_part(out, values, b, a, p, begin);
  if (p > 0 && keys[p - 1] == keys[p]) return;
  switch (a.op) {
    case kUpdateAdd:
      return combine_part<T, kUpdateAdd>(out, values, b, a, p, begin);
    case kUpdateSub:
      return combine_part<T, kUpdateSub>(out, values, b, a, p, begin);
    case kUpdateMul:
      return combine_part<T, kUpdateMul>(out, values, b, a, p, begin);
    case kUpdateDiv:
      return combine_part<T, kUpdateDiv>(out, values, b, a, p, begin);
    case kUpdateMin:
      return combine_part<T, kUpdateMin>(out, values, b, a, p, begin);
    case kUpdateMax:
      return combine_part<T, kUpdateMax>(out, values, b, a, p, begin);
  }
}

// 1 / n or 1 / sqrt(n) for each row that has n items, which are sorted.
kernel void row_weights(device const uint* keys [[buffer(0)]], device float* weights [[buffer(1)]],
                        constant CombineArguments& a [[buffer(2)]],
                        uint p [[thread_position_in_grid]]) {
  if (keys[p] >= a.rows || (p > 0 && keys[p - 1] == keys[p])) return;
  uint k = p;
  while (k < a.count && keys[k] == keys[p]) ++k;
  weights[keys[p]] = divided(1.0f, k - p, a.scale);
}

template
    [[host_name("combine_rows_float")]] kernel decltype(combine_rows<float>) combine_rows<float>;
template [[host_name("combine_rows_half")]] kernel decltype(combine_rows<half>) combine_rows<half>;
template
    [[host_name("combine_rows_bfloat")]] kernel decltype(combine_rows<bfloat>) combine_rows<bfloat>;
template [[host_name("combine_rows_char")]] kernel decltype(combine_rows<char>) combine_rows<char>;
template
    [[host_name("combine_rows_short")]] kernel decltype(combine_rows<short>) combine_rows<short>;
template [[host_name("combine_rows_int")]] kernel decltype(combine_rows<int>) combine_rows<int>;
template [[host_name("combine_rows_long")]] kernel decltype(combine_rows<long>) combine_rows<long>;
template
    [[host_name("combine_rows_uchar")]] kernel decltype(combine_rows<uchar>) combine_rows<uchar>;
template
    [[host_name("combine_rows_ushort")]] kernel decltype(combine_rows<ushort>) combine_rows<ushort>;
template [[host_name("combine_rows_uint")]] kernel decltype(combine_rows<uint>) combine_rows<uint>;
template
    [[host_name("combine_rows_ulong")]] kernel decltype(combine_rows<ulong>) combine_rows<ulong>;
