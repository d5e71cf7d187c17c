// Shaders of test_msl.cc: every feature of the dialect that the host has to imitate.
#include <metal_stdlib>
using namespace metal;

constant constexpr uint kSimd = 32;

// Sums of rows: a SIMD reduction, then one of the SIMD groups' sums by the first SIMD group only.
inline float group_sum(float value, threadgroup float* partial, uint lane, uint simd_group,
                       uint simd_groups) {
  value = simd_sum(value);
  if (lane == 0) partial[simd_group] = value;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (simd_group == 0) {
    value = simd_sum(lane < simd_groups ? partial[lane] : 0.0f);
    if (lane == 0) partial[0] = value;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  return partial[0];
}

template <typename T>
kernel void row_sum(device const T* x [[buffer(0)]], device float* sums [[buffer(1)]],
                    constant uint& columns [[buffer(2)]], uint row [[threadgroup_position_in_grid]],
                    uint thread_index [[thread_index_in_threadgroup]],
                    uint threads [[threads_per_threadgroup]],
                    uint lane [[thread_index_in_simdgroup]],
                    uint simd_group [[simdgroup_index_in_threadgroup]],
                    uint simd_groups [[simdgroups_per_threadgroup]]) {
  threadgroup float partial[kSimd];
  float sum = 0.0f;
  for (uint i = thread_index; i < columns; i += threads) sum += float(x[row * columns + i]);
  sum = group_sum(sum, partial, lane, simd_group, simd_groups);
  if (thread_index == 0) sums[row] = sum;
}
template [[host_name("test_row_sum_float")]] kernel void row_sum<float>(device const float*,
                                                                        device float*,
                                                                        constant uint&, uint, uint,
                                                                        uint, uint, uint, uint);
template [[host_name("test_row_sum_half")]] kernel void row_sum<half>(device const half*,
                                                                      device float*, constant uint&,
                                                                      uint, uint, uint, uint, uint,
                                                                      uint);
template [[host_name("test_row_sum_bfloat")]] kernel void row_sum<bfloat>(
    device const bfloat*, device float*, constant uint&, uint, uint, uint, uint, uint, uint);

// Reverses each threadgroup through memory whose size the caller chose.
kernel void test_reverse(device int* data [[buffer(0)]],
                         threadgroup int* scratch [[threadgroup(0)]],
                         uint i [[thread_position_in_grid]],
                         uint in_group [[thread_position_in_threadgroup]],
                         uint threads [[threads_per_threadgroup]]) {
  scratch[in_group] = data[i];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  data[i] = scratch[threads - 1 - in_group];
}

kernel void test_histogram(device const uint* x [[buffer(0)]],
                           device atomic_uint* counts [[buffer(1)]],
                           device atomic_float* total [[buffer(2)]],
                           device atomic_int* largest [[buffer(3)]],
                           uint i [[thread_position_in_grid]]) {
  atomic_fetch_add_explicit(&counts[x[i] % 8], 1u, memory_order_relaxed);
  atomic_fetch_add_explicit(total, 0.5f, memory_order_relaxed);
  atomic_fetch_max_explicit(largest, int(x[i]), memory_order_relaxed);
}

// One row of eight numbers for each thread of a three-dimensional grid.
kernel void test_positions(device ushort* out [[buffer(0)]], uint3 p [[thread_position_in_grid]],
                           uint3 in_group [[thread_position_in_threadgroup]],
                           ushort3 group [[threadgroup_position_in_grid]],
                           uint3 size [[threads_per_threadgroup]],
                           uint3 grid [[threads_per_grid]]) {
  device ushort* row = out + 8 * ((p.z * grid.y + p.y) * grid.x + p.x);
  row[0] = ushort(in_group.x), row[1] = ushort(in_group.y), row[2] = ushort(in_group.z);
  row[3] = group.x, row[4] = group.y, row[5] = group.z;
  row[6] = ushort(size.x), row[7] = ushort(size.y);
}

struct VectorArguments {
  float3 offset;  // takes 16 bytes
  float scale;
  packed_float3 packed;  // takes 12
  uint2 limits;
};

kernel void test_vectors(device float4* data [[buffer(0)]],
                         constant VectorArguments& a [[buffer(1)]],
                         uint i [[thread_position_in_grid]]) {
  float4 v = data[i] * a.scale + float4(a.offset, 1.0f);
  v.w = dot(float3(v.x, v.y, v.z), float3(a.packed));
  const uint2 u = uint2(uint(v.x), uint(v.y));
  if (any(u > a.limits)) v.x = -v.x;
  if (all(u <= a.limits)) v = max(v, float4(0.0f));
  const half4 rounded = half4(v);
  data[i] = select(float4(rounded), v, bool4(false, false, false, true));
}

// One result for each function, x and y as operands.
kernel void test_math(device const float* in [[buffer(0)]], device float* out [[buffer(1)]]) {
  const float x = in[0], y = in[1];
  out[0] = exp(x);
  out[1] = precise::sqrt(y);
  out[2] = rsqrt(y);
  out[3] = pow(y, x);
  out[4] = fma(x, y, 1.0f);
  out[5] = clamp(y, 0.0f, 1.0f);
  out[6] = mix(x, y, 0.25f);
  out[7] = sign(-y);
  out[8] = float(popcount(as_type<uint>(1.5f)));
  out[9] = float(mulhi(0xffffffffu, 16u));
  out[10] = float(clz(255u));
  out[11] = fract(-0.25f);
  out[12] = min(NAN, y);
  out[13] = isnan(x - x) ? 1.0f : 0.0f;
  out[14] = float(half(2049.0f));  // nearest even
  out[15] = float(bfloat(1.0f) + bfloat(0.00390625f));
  out[16] = float(half(60000.0f) + half(60000.0f));
  out[17] = float(long(-5) / 2) + float(abs(-3));
  out[18] = tanh(x) + atan2(x, y) + log2(y);
  out[19] = float(rotate(0x80000001u, 1u));
  out[20] = 1e-39f * in[2];  // a denormal operand
}

kernel void test_simd(device int* out [[buffer(0)]], uint i [[thread_position_in_grid]]) {
  const int v = int(i);
  device int* row = out + 8 * i;
  row[0] = simd_max(v);
  row[1] = simd_shuffle_xor(v, 1);
  row[2] = simd_shuffle_down(v, 4);
  row[3] = simd_prefix_exclusive_sum(1);
  row[4] = simd_broadcast(v, 3);
  row[5] = simd_any(v == 5) ? 1 : 0;
  row[6] = simd_prefix_inclusive_sum(v);
  row[7] = simd_is_first() ? 1 : 0;
}

// ---- mistakes
// ------------------------------------------------------------------------------------

kernel void test_leaves_before_barrier(device int* data [[buffer(0)]],
                                       uint i [[thread_position_in_grid]]) {
  if (i < 5) return;
  threadgroup_barrier(mem_flags::mem_device);
  data[0] = 1;
}

kernel void test_divergent_barrier(device int* data [[buffer(0)]],
                                   uint i [[thread_position_in_grid]]) {
  if (i < 5) {
    threadgroup_barrier(mem_flags::mem_device);
    data[0] = 1;
  } else {
    threadgroup_barrier(mem_flags::mem_device);
  }
}

kernel void test_divergent_simd(device int* data [[buffer(0)]],
                                uint i [[thread_position_in_grid]]) {
  if (i < 5) {
    data[i] = simd_sum(1);
  } else {
    threadgroup_barrier(mem_flags::mem_device);
  }
}

// Reads its neighbour's element without a barrier.
kernel void test_race(device int* data [[buffer(0)]], uint i [[thread_position_in_grid]],
                      uint n [[threads_per_threadgroup]]) {
  threadgroup int shared_values[64];
  shared_values[i] = data[i];
  data[i] = shared_values[(i + 1) % n];
  threadgroup_barrier(mem_flags::mem_threadgroup);
}
