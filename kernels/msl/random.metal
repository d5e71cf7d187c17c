// TensorFlow's random numbers: Philox 4x32-10 (Salmon et al., SC 2011) and the distributions drawn
// from it, in the order in which TensorFlow's CPU kernels draw them.
//
// A thread makes one group of outputs: four, or two of 64 bits. It starts its own stretch of the
// stream, one block of 128 bits per group, or 256 blocks where rejection may need more.
#include <metal_stdlib>

#include "kernels/msl/random_arguments.h"
using namespace metal;

struct Philox {
  uint4 counter;
  uint2 key;
};

inline Philox philox(constant ulong* counter, constant ulong* key) {
  Philox p;
  p.counter =
      uint4(uint(counter[0]), uint(counter[0] >> 32), uint(counter[1]), uint(counter[1] >> 32));
  p.key = uint2(uint(key[0]), uint(key[0] >> 32));
  return p;
}

// Passes over `blocks`. A carry out of the upper half of `blocks` itself is lost, as in TensorFlow.
inline Philox skipped(Philox p, ulong blocks) {
  const uint low = uint(blocks);
  uint high = uint(blocks >> 32);
  p.counter.x += low;
  if (p.counter.x < low) ++high;
  p.counter.y += high;
  if (p.counter.y < high && ++p.counter.z == 0) ++p.counter.w;
  return p;
}

inline uint4 block(Philox p) {
  uint4 c = p.counter;
  uint2 key = p.key;
  for (uint round = 0; round < 10; ++round) {
    const ulong a = ulong(0xD2511F53u) * c.x, b = ulong(0xCD9E8D57u) * c.z;
    c = uint4(uint(b >> 32) ^ c.y ^ key.x, uint(b), uint(a >> 32) ^ c.w ^ key.y, uint(a));
    key.x += 0x9E3779B9u;
    key.y += 0xBB67AE85u;
  }
  return c;
}

// In [0, 1), of as many random bits as the mantissa holds: exact in the type.
template <typename T>
inline T uniform(uint bits) {
  return float(bits & 0x7fffffu) * 0x1p-23f;
}
template <>
inline half uniform<half>(uint bits) {
  return half(float(bits & 0x3ffu) * 0x1p-10f);
}
template <>
inline bfloat uniform<bfloat>(uint bits) {
  return bfloat(float(bits & 0x7fu) * 0x1p-7f);
}

// Two standard normal numbers by the Box-Muller transform.
inline float2 normals(uint x, uint y) {
  const float kTwoPi = 6.2831855f, kTwoPiRest = -1.7484556e-7f;
  const float radius = precise::sqrt(-2.0f * precise::log(max(uniform<float>(x), 1.0e-7f)));
  // The angle is a product of doubles, rounded once: made of two floats here.
  const float turn = uniform<float>(y), product = turn * kTwoPi;
  const float angle = product + fma(turn, kTwoPiRest, fma(turn, kTwoPi, -product));
  return float2(precise::sin(angle) * radius, precise::cos(angle) * radius);
}

template <typename T>
inline void store(device T* out, ulong i, long count, T value) {
  if (i < ulong(count)) out[i] = value;
}

template <typename T>
kernel void random_uniform(device T* out [[buffer(0)]], constant ulong* counter [[buffer(1)]],
                           constant ulong* key [[buffer(2)]],
                           constant RandomArguments& a [[buffer(3)]],
                           uint group [[thread_position_in_grid]]) {
  const uint4 bits = block(skipped(philox(counter, key), group));
  const ulong first = ulong(group) * 4;
  store(out, first, a.count, uniform<T>(bits.x));
  store(out, first + 1, a.count, uniform<T>(bits.y));
  store(out, first + 2, a.count, uniform<T>(bits.z));
  store(out, first + 3, a.count, uniform<T>(bits.w));
}

template <typename T>
kernel void random_normal(device T* out [[buffer(0)]], constant ulong* counter [[buffer(1)]],
                          constant ulong* key [[buffer(2)]],
                          constant RandomArguments& a [[buffer(3)]],
                          uint group [[thread_position_in_grid]]) {
  const uint4 bits = block(skipped(philox(counter, key), group));
  const float2 low = normals(bits.x, bits.y), high = normals(bits.z, bits.w);
  const ulong first = ulong(group) * 4;
  store(out, first, a.count, T(low.x));
  store(out, first + 1, a.count, T(low.y));
  store(out, first + 2, a.count, T(high.x));
  store(out, first + 3, a.count, T(high.y));
}

template <typename T>
kernel void random_truncated_normal(device T* out [[buffer(0)]],
                                    constant ulong* counter [[buffer(1)]],
                                    constant ulong* key [[buffer(2)]],
                                    constant RandomArguments& a [[buffer(3)]],
                                    uint group [[thread_position_in_grid]]) {
  const Philox start = skipped(philox(counter, key), ulong(group) * 256);
  const ulong first = ulong(group) * 4;
  uint n = 0;
  for (ulong i = 0; n < 4; ++i) {
    const uint4 bits = block(skipped(start, i));
    const float2 low = normals(bits.x, bits.y), high = normals(bits.z, bits.w);
    if (fabs(low.x) < 2.0f) store(out, first + n++, a.count, T(low.x));
    if (n < 4 && fabs(low.y) < 2.0f) store(out, first + n++, a.count, T(low.y));
    if (n < 4 && fabs(high.x) < 2.0f) store(out, first + n++, a.count, T(high.x));
    if (n < 4 && fabs(high.y) < 2.0f) store(out, first + n++, a.count, T(high.y));
  }
}

inline uint ranged(uint bits, constant RandomArguments& a) {
  return a.range == 0 ? bits : uint(a.low) + bits % uint(a.range);
}
inline ulong ranged(ulong bits, constant RandomArguments& a) {
  return a.range == 0 ? bits : ulong(a.low) + bits % ulong(a.range);
}

template <typename T>
kernel void random_integers(device T* out [[buffer(0)]], constant ulong* counter [[buffer(1)]],
                            constant ulong* key [[buffer(2)]],
                            constant RandomArguments& a [[buffer(3)]],
                            uint group [[thread_position_in_grid]]) {
  const uint4 bits = block(skipped(philox(counter, key), group));
  if (sizeof(T) == 8) {
    const ulong first = ulong(group) * 2;
    store(out, first, a.count, T(ranged(ulong(bits.x) | ulong(bits.y) << 32, a)));
    store(out, first + 1, a.count, T(ranged(ulong(bits.z) | ulong(bits.w) << 32, a)));
  } else {
    const ulong first = ulong(group) * 4;
    store(out, first, a.count, T(ranged(bits.x, a)));
    store(out, first + 1, a.count, T(ranged(bits.y, a)));
    store(out, first + 2, a.count, T(ranged(bits.z, a)));
    store(out, first + 3, a.count, T(ranged(bits.w, a)));
  }
}

// Key and counter of a pair of seeds, scrambled so that any part of a seed may be weak.
template <typename T>
kernel void random_key(device const T* seed [[buffer(0)]], device ulong* key [[buffer(1)]],
                       device ulong* counter [[buffer(2)]], uint i [[thread_position_in_grid]]) {
  const ulong a = ulong(long(seed[0])), b = ulong(long(seed[1]));
  Philox p;
  p.counter = uint4(uint(a), uint(a >> 32), uint(b), uint(b >> 32));
  p.key = uint2(0x3ec8f720u, 0x02461e29u);
  const uint4 mix = block(p);
  key[i] = ulong(mix.x) | ulong(mix.y) << 32;
  counter[0] = 0;
  counter[1] = ulong(mix.z) | ulong(mix.w) << 32;
}

// Advances the state of a generator, and keeps what it was.
kernel void random_advance(device ulong* state [[buffer(0)]], device ulong* before [[buffer(1)]],
                           constant ulong& blocks [[buffer(2)]],
                           uint i [[thread_position_in_grid]]) {
  for (uint word = i; word < kStateWords; ++word) before[word] = state[word];
  Philox p;
  p.counter = uint4(uint(state[0]), uint(state[0] >> 32), uint(state[1]), uint(state[1] >> 32));
  p.key = uint2(0, 0);
  p = skipped(p, blocks);
  state[0] = ulong(p.counter.x) | ulong(p.counter.y) << 32;
  state[1] = ulong(p.counter.z) | ulong(p.counter.w) << 32;
}

template [[host_name("random_uniform_float")]] kernel void random_uniform<float>(
    device float*, constant ulong*, constant ulong*, constant RandomArguments&, uint);
template [[host_name("random_uniform_half")]] kernel void random_uniform<half>(
    device half*, constant ulong*, constant ulong*, constant RandomArguments&, uint);
template [[host_name("random_uniform_bfloat")]] kernel void random_uniform<bfloat>(
    device bfloat*, constant ulong*, constant ulong*, constant RandomArguments&, uint);
template [[host_name("random_normal_float")]] kernel void random_normal<float>(
    device float*, constant ulong*, constant ulong*, constant RandomArguments&, uint);
template [[host_name("random_normal_half")]] kernel void random_normal<half>(
    device half*, constant ulong*, constant ulong*, constant RandomArguments&, uint);
template [[host_name("random_normal_bfloat")]] kernel void random_normal<bfloat>(
    device bfloat*, constant ulong*, constant ulong*, constant RandomArguments&, uint);
template [[host_name("random_truncated_normal_float")]] kernel void random_truncated_normal<float>(
    device float*, constant ulong*, constant ulong*, constant RandomArguments&, uint);
template [[host_name("random_truncated_normal_half")]] kernel void random_truncated_normal<half>(
    device half*, constant ulong*, constant ulong*, constant RandomArguments&, uint);
template [[host_name("random_truncated_normal_bfloat")]] kernel void
random_truncated_normal<bfloat>(device bfloat*, constant ulong*, constant ulong*,
                                constant RandomArguments&, uint);
template [[host_name("random_integers_int")]] kernel void random_integers<int>(
    device int*, constant ulong*, constant ulong*, constant RandomArguments&, uint);
template [[host_name("random_integers_uint")]] kernel void random_integers<uint>(
    device uint*, constant ulong*, constant ulong*, constant RandomArguments&, uint);
template [[host_name("random_integers_long")]] kernel void random_integers<long>(
    device long*, constant ulong*, constant ulong*, constant RandomArguments&, uint);
template [[host_name("random_integers_ulong")]] kernel void random_integers<ulong>(
    device ulong*, constant ulong*, constant ulong*, constant RandomArguments&, uint);
template [[host_name("random_key_int")]] kernel void random_key<int>(device const int*,
                                                                     device ulong*, device ulong*,
                                                                     uint);
template [[host_name("random_key_long")]] kernel void random_key<long>(device const long*,
                                                                       device ulong*, device ulong*,
                                                                       uint);
