// Cumulative sums, products and logarithms of sums of exponentials. Long lines are cut into chunks:
// a first pass reduces each, a second one starts from the reductions of those before.
#include <metal_stdlib>

#include "kernels/msl/scan_arguments.h"
using namespace metal;

// Integers wrap around: computed modulo 2^64, then cut to their width.
inline ulong neutral(ulong, uint op) { return op == kScanProduct ? 1 : 0; }
inline ulong combined(ulong x, ulong y, uint op) { return op == kScanProduct ? x * y : x + y; }

inline float neutral(float, uint op) {
  return op == kScanProduct ? 1.0f : op == kScanSum ? 0.0f : -INFINITY;
}

// log(1 + x) for x from 0 to 1; the quotient makes up for the rounding of 1 + x.
inline float log_of_1_plus(float x) {
  const float sum = 1.0f + x;
  return sum == 1.0f ? x : precise::log(sum) * (x / (sum - 1.0f));
}

inline float combined(float x, float y, uint op) {
  if (op == kScanProduct) return x * y;
  if (op == kScanSum) return x + y;
  if (isnan(x) || isnan(y)) return x + y;
  const float high = max(x, y), low = min(x, y);
  return isinf(high) ? high : high + log_of_1_plus(precise::exp(low - high));
}

struct Line {
  ulong first;  // element
  uint begin, end, chunk;
};

inline Line line_of(uint i, constant ScanArguments& a) {
  Line line;
  const uint column = i % a.inner, outer = i / a.inner / a.chunks;
  line.chunk = i / a.inner % a.chunks;
  line.first = ulong(outer) * a.length * a.inner + column;
  line.begin = line.chunk * a.chunk;
  line.end = min(line.begin + a.chunk, a.length);
  return line;
}

inline ulong element(Line line, uint i, constant ScanArguments& a) {
  return line.first + ulong(a.reverse ? a.length - 1 - i : i) * a.inner;
}

template <typename T, typename Sum>
kernel void scan_reduce(device const T* in [[buffer(0)]], device Sum* totals [[buffer(1)]],
                        constant ScanArguments& a [[buffer(2)]],
                        uint i [[thread_position_in_grid]]) {
  const Line line = line_of(i, a);
  Sum sum = neutral(Sum(0), a.op);
  for (uint k = line.begin; k < line.end; ++k) {
    sum = combined(sum, Sum(in[element(line, k, a)]), a.op);
  }
  totals[i] = sum;
}

template <typename T, typename Sum>
kernel void scan_write(device const T* in [[buffer(0)]], device const Sum* totals [[buffer(1)]],
                       device T* out [[buffer(2)]], constant ScanArguments& a [[buffer(3)]],
                       uint i [[thread_position_in_grid]]) {
  const Line line = line_of(i, a);
  Sum sum = neutral(Sum(0), a.op);
  for (uint c = line.chunk; c > 0; --c) sum = combined(totals[i - c * a.inner], sum, a.op);
  for (uint k = line.begin; k < line.end; ++k) {
    const ulong at = element(line, k, a);
    const Sum next = combined(sum, Sum(in[at]), a.op);
    out[at] = T(a.exclusive ? sum : next);
    sum = next;
  }
}

template [[host_name("scan_reduce_float")]] kernel void scan_reduce<float, float>(
    device const float*, device float*, constant ScanArguments&, uint);
template [[host_name("scan_write_float")]] kernel void scan_write<float, float>(
    device const float*, device const float*, device float*, constant ScanArguments&, uint);
template [[host_name("scan_reduce_half")]] kernel void scan_reduce<half, float>(
    device const half*, device float*, constant ScanArguments&, uint);
template [[host_name("scan_write_half")]] kernel void scan_write<half, float>(
    device const half*, device const float*, device half*, constant ScanArguments&, uint);
template [[host_name("scan_reduce_bfloat")]] kernel void scan_reduce<bfloat, float>(
    device const bfloat*, device float*, constant ScanArguments&, uint);
template [[host_name("scan_write_bfloat")]] kernel void scan_write<bfloat, float>(
    device const bfloat*, device const float*, device bfloat*, constant ScanArguments&, uint);
template [[host_name("scan_reduce_char")]] kernel void scan_reduce<char, ulong>(
    device const char*, device ulong*, constant ScanArguments&, uint);
template [[host_name("scan_write_char")]] kernel void scan_write<char, ulong>(
    device const char*, device const ulong*, device char*, constant ScanArguments&, uint);
template [[host_name("scan_reduce_short")]] kernel void scan_reduce<short, ulong>(
    device const short*, device ulong*, constant ScanArguments&, uint);
template [[host_name("scan_write_short")]] kernel void scan_write<short, ulong>(
    device const short*, device const ulong*, device short*, constant ScanArguments&, uint);
template [[host_name("scan_reduce_int")]] kernel void scan_reduce<int, ulong>(
    device const int*, device ulong*, constant ScanArguments&, uint);
template [[host_name("scan_write_int")]] kernel void scan_write<int, ulong>(
    device const int*, device const ulong*, device int*, constant ScanArguments&, uint);
template [[host_name("scan_reduce_long")]] kernel void scan_reduce<long, ulong>(
    device const long*, device ulong*, constant ScanArguments&, uint);
template [[host_name("scan_write_long")]] kernel void scan_write<long, ulong>(
    device const long*, device const ulong*, device long*, constant ScanArguments&, uint);
template [[host_name("scan_reduce_uchar")]] kernel void scan_reduce<uchar, ulong>(
    device const uchar*, device ulong*, constant ScanArguments&, uint);
template [[host_name("scan_write_uchar")]] kernel void scan_write<uchar, ulong>(
    device const uchar*, device const ulong*, device uchar*, constant ScanArguments&, uint);
template [[host_name("scan_reduce_ushort")]] kernel void scan_reduce<ushort, ulong>(
    device const ushort*, device ulong*, constant ScanArguments&, uint);
template [[host_name("scan_write_ushort")]] kernel void scan_write<ushort, ulong>(
    device const ushort*, device const ulong*, device ushort*, constant ScanArguments&, uint);
template [[host_name("scan_reduce_uint")]] kernel void scan_reduce<uint, ulong>(
    device const uint*, device ulong*, constant ScanArguments&, uint);
template [[host_name("scan_write_uint")]] kernel void scan_write<uint, ulong>(
    device const uint*, device const ulong*, device uint*, constant ScanArguments&, uint);
template [[host_name("scan_reduce_ulong")]] kernel void scan_reduce<ulong, ulong>(
    device const ulong*, device ulong*, constant ScanArguments&, uint);
template [[host_name("scan_write_ulong")]] kernel void scan_write<ulong, ulong>(
    device const ulong*, device const ulong*, device ulong*, constant ScanArguments&, uint);
