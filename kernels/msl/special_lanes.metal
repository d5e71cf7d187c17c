// Those functions of special.metal that training spends time on, for operands that lie side by
// side.
#include <metal_stdlib>
using namespace metal;

#include "kernels/msl/lane.h"
#include "kernels/msl/lane_math.h"

struct LaneErfc {
  static float apply(float x) { return lane_erfc(x); }
};
struct LaneExpm1 {
  static float apply(float x) { return lane_expm1(x); }
};
struct LaneLog1p {
  static float apply(float x) { return lane_log1p(x); }
};

template <typename F, typename T>
kernel void lane_unary(device const T* in [[buffer(0)]], device T* out [[buffer(1)]],
                       uint i [[thread_position_in_grid]]) {
  const long at = lane(i);
  out[at] = T(F::apply(float(in[at])));
}

template <typename T>
kernel void lane_angle(device const T* y [[buffer(0)]], device const T* x [[buffer(1)]],
                       device T* out [[buffer(2)]], uint i [[thread_position_in_grid]]) {
  const long at = lane(i);
  out[at] = T(lane_atan2(float(y[at]), float(x[at])));
}

// Rounded once.
template <typename T>
kernel void lane_floor_quotient(device const T* x [[buffer(0)]], device const T* y [[buffer(1)]],
                                device T* out [[buffer(2)]], uint i [[thread_position_in_grid]]) {
  const long at = lane(i);
  out[at] = T(floor(float(x[at]) / float(y[at])));
}

template [[host_name("lane_erfc_float")]] kernel void lane_unary<LaneErfc, float>(
    device const float*, device float*, uint);
template [[host_name("lane_erfc_half")]] kernel void lane_unary<LaneErfc, half>(device const half*,
                                                                                device half*, uint);
template [[host_name("lane_erfc_bfloat")]] kernel void lane_unary<LaneErfc, bfloat>(
    device const bfloat*, device bfloat*, uint);
template [[host_name("lane_expm1_float")]] kernel void lane_unary<LaneExpm1, float>(
    device const float*, device float*, uint);
template [[host_name("lane_expm1_half")]] kernel void lane_unary<LaneExpm1, half>(
    device const half*, device half*, uint);
template [[host_name("lane_expm1_bfloat")]] kernel void lane_unary<LaneExpm1, bfloat>(
    device const bfloat*, device bfloat*, uint);
template [[host_name("lane_log1p_float")]] kernel void lane_unary<LaneLog1p, float>(
    device const float*, device float*, uint);
template [[host_name("lane_log1p_half")]] kernel void lane_unary<LaneLog1p, half>(
    device const half*, device half*, uint);
template [[host_name("lane_log1p_bfloat")]] kernel void lane_unary<LaneLog1p, bfloat>(
    device const bfloat*, device bfloat*, uint);
template [[host_name("lane_atan2_float")]] kernel void lane_angle<float>(device const float*,
                                                                         device const float*,
                                                                         device float*, uint);
template [[host_name("lane_atan2_half")]] kernel void lane_angle<half>(device const half*,
                                                                       device const half*,
                                                                       device half*, uint);
template [[host_name("lane_atan2_bfloat")]] kernel void lane_angle<bfloat>(device const bfloat*,
                                                                           device const bfloat*,
                                                                           device bfloat*, uint);
template [[host_name("lane_floor_quotient_float")]] kernel void lane_floor_quotient<float>(
    device const float*, device const float*, device float*, uint);
template [[host_name("lane_floor_quotient_half")]] kernel void lane_floor_quotient<half>(
    device const half*, device const half*, device half*, uint);
template [[host_name("lane_floor_quotient_bfloat")]] kernel void lane_floor_quotient<bfloat>(
    device const bfloat*, device const bfloat*, device bfloat*, uint);
