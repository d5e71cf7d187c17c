// Arithmetic and comparisons with broadcasting: integers, which MPSGraph gets wrong in places, and
// the floating point ops that must be able to work in place.
#include <metal_stdlib>

#include "kernels/msl/broadcast.h"
using namespace metal;

// Integers wrap around: computed modulo 2^64, then cut to their width.
template <typename T>
inline T integer_result(T a, T b, uint op) {
  switch (op) {
    case kOperationAdd:
      return T(ulong(a) + ulong(b));
    case kOperationSub:
      return T(ulong(a) - ulong(b));
    case kOperationMul:
      return T(ulong(a) * ulong(b));
    case kOperationMaximum:
      return a > b ? a : b;
    default:
      return a < b ? a : b;
  }
}

template <typename T>
kernel void integer_arithmetic(device const T* a [[buffer(0)]], device const T* b [[buffer(1)]],
                               device T* out [[buffer(2)]],
                               constant BroadcastArguments& s [[buffer(3)]],
                               uint i [[thread_position_in_grid]]) {
  const Operands at = locate(i, s);
  out[i] = integer_result(a[at.a], b[at.b], s.op);
}

template <typename T>
kernel void float_arithmetic(device const T* a [[buffer(0)]], device const T* b [[buffer(1)]],
                             device T* out [[buffer(2)]],
                             constant BroadcastArguments& s [[buffer(3)]],
                             uint i [[thread_position_in_grid]]) {
  const Operands at = locate(i, s);
  const float x = float(a[at.a]), y = float(b[at.b]);
  out[i] = T(s.op == kOperationAdd ? x + y : x / y);
}

template <typename T>
kernel void compare(device const T* a [[buffer(0)]], device const T* b [[buffer(1)]],
                    device bool* out [[buffer(2)]], constant BroadcastArguments& s [[buffer(3)]],
                    uint i [[thread_position_in_grid]]) {
  const Operands at = locate(i, s);
  const T x = a[at.a], y = b[at.b];
  switch (s.op) {
    case kOperationEqual:
      out[i] = x == y;
      break;
    case kOperationNotEqual:
      out[i] = x != y;
      break;
    case kOperationLess:
      out[i] = x < y;
      break;
    case kOperationLessEqual:
      out[i] = x <= y;
      break;
    case kOperationGreater:
      out[i] = x > y;
      break;
    case kOperationGreaterEqual:
      out[i] = x >= y;
      break;
  }
}

template [[host_name("integer_arithmetic_char")]] kernel void integer_arithmetic<char>(
    device const char*, device const char*, device char*, constant BroadcastArguments&, uint);
template [[host_name("integer_arithmetic_short")]] kernel void integer_arithmetic<short>(
    device const short*, device const short*, device short*, constant BroadcastArguments&, uint);
template [[host_name("integer_arithmetic_int")]] kernel void integer_arithmetic<int>(
    device const int*, device const int*, device int*, constant BroadcastArguments&, uint);
template [[host_name("integer_arithmetic_long")]] kernel void integer_arithmetic<long>(
    device const long*, device const long*, device long*, constant BroadcastArguments&, uint);
template [[host_name("integer_arithmetic_uchar")]] kernel void integer_arithmetic<uchar>(
    device const uchar*, device const uchar*, device uchar*, constant BroadcastArguments&, uint);
template [[host_name("integer_arithmetic_ushort")]] kernel void integer_arithmetic<ushort>(
    device const ushort*, device const ushort*, device ushort*, constant BroadcastArguments&, uint);
template [[host_name("integer_arithmetic_uint")]] kernel void integer_arithmetic<uint>(
    device const uint*, device const uint*, device uint*, constant BroadcastArguments&, uint);
template [[host_name("integer_arithmetic_ulong")]] kernel void integer_arithmetic<ulong>(
    device const ulong*, device const ulong*, device ulong*, constant BroadcastArguments&, uint);
template [[host_name("float_arithmetic_float")]] kernel void float_arithmetic<float>(
    device const float*, device const float*, device float*, constant BroadcastArguments&, uint);
template [[host_name("float_arithmetic_half")]] kernel void float_arithmetic<half>(
    device const half*, device const half*, device half*, constant BroadcastArguments&, uint);
template [[host_name("float_arithmetic_bfloat")]] kernel void float_arithmetic<bfloat>(
    device const bfloat*, device const bfloat*, device bfloat*, constant BroadcastArguments&, uint);
template [[host_name("compare_char")]] kernel void compare<char>(device const char*,
                                                                 device const char*, device bool*,
                                                                 constant BroadcastArguments&,
                                                                 uint);
template [[host_name("compare_short")]] kernel void compare<short>(
    device const short*, device const short*, device bool*, constant BroadcastArguments&, uint);
template [[host_name("compare_int")]] kernel void compare<int>(device const int*, device const int*,
                                                               device bool*,
                                                               constant BroadcastArguments&, uint);
template [[host_name("compare_long")]] kernel void compare<long>(device const long*,
                                                                 device const long*, device bool*,
                                                                 constant BroadcastArguments&,
                                                                 uint);
template [[host_name("compare_uchar")]] kernel void compare<uchar>(
    device const uchar*, device const uchar*, device bool*, constant BroadcastArguments&, uint);
template [[host_name("compare_ushort")]] kernel void compare<ushort>(
    device const ushort*, device const ushort*, device bool*, constant BroadcastArguments&, uint);
template [[host_name("compare_uint")]] kernel void compare<uint>(device const uint*,
                                                                 device const uint*, device bool*,
                                                                 constant BroadcastArguments&,
                                                                 uint);
template [[host_name("compare_ulong")]] kernel void compare<ulong>(
    device const ulong*, device const ulong*, device bool*, constant BroadcastArguments&, uint);
template [[host_name("compare_bool")]] kernel void compare<bool>(device const bool*,
                                                                 device const bool*, device bool*,
                                                                 constant BroadcastArguments&,
                                                                 uint);
