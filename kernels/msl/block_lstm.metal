// BlockLSTM and its gradient: the pointwise part of one time step. The products and what one step
// hands to the next are float32, whatever the type of the op. Grid: unit, batch row.
#include <metal_stdlib>

#include "kernels/msl/block_lstm_arguments.h"
#include "kernels/msl/lane.h"
using namespace metal;

#include "kernels/msl/lane_math.h"
#include "kernels/msl/rnn_math.h"

// `gates`: what the products give, of all steps. `state_c` and `state_h`: this step's state, in and
// out.
template <typename T, bool kPeephole>
kernel void block_lstm(device const float* gates [[buffer(0)]], device const T* bias [[buffer(1)]],
                       device const T* wci [[buffer(2)]], device const T* wcf [[buffer(3)]],
                       device const T* wco [[buffer(4)]], device float* state_c [[buffer(5)]],
                       device float* state_h [[buffer(6)]], device T* out_i [[buffer(7)]],
                       device T* out_cs [[buffer(8)]], device T* out_f [[buffer(9)]],
                       device T* out_o [[buffer(10)]], device T* out_ci [[buffer(11)]],
                       device T* out_co [[buffer(12)]], device T* out_h [[buffer(13)]],
                       constant BlockLstmArguments& a [[buffer(14)]],
                       uint2 p [[thread_position_in_grid]]) {
  const long j = lane(p.x), units = a.units, row = p.y * units, at = a.row * units + row;
  const long c_gate = a.c_gate * units, f_gate = a.f_gate * units, o_gate = 3 * units;
  device const float* x = gates + 4 * at;
  const float before = state_c[row + j];
  float to_i = x[j] + float(bias[j]);
  float to_f = x[f_gate + j] + float(bias[f_gate + j]) + a.forget_bias;
  if (kPeephole) {
    to_i += before * float(wci[j]);
    to_f += before * float(wcf[j]);
  }
  const float i = rnn_sigmoid(to_i), f = rnn_sigmoid(to_f);
  const float ci = rnn_tanh(x[c_gate + j] + float(bias[c_gate + j]));
  float cs = i * ci + f * before;
  cs = cs > a.clip ? a.clip : cs < -a.clip ? -a.clip : cs;
  float to_o = x[o_gate + j] + float(bias[o_gate + j]);
  if (kPeephole) to_o += cs * float(wco[j]);
  const float o = rnn_sigmoid(to_o), co = rnn_tanh(cs);
  state_c[row + j] = cs;
  state_h[row + j] = o * co;
  out_i[at + j] = T(i);
  out_cs[at + j] = T(cs);
  out_f[at + j] = T(f);
  out_o[at + j] = T(o);
  out_ci[at + j] = T(ci);
  out_co[at + j] = T(co);
  out_h[at + j] = T(o * co);
}

// `dc` and `dh`: gradients of the state after this step, as far as later steps cause them; dc
// becomes that of the state before, `dgates` will give dh. `sums`: over the steps, of the gates'
// gradients and of those of wci, wcf, wco, for each batch row. Clipping is taken for none.
template <typename T, bool kPeephole>
kernel void block_lstm_back(device const T* cs_prev [[buffer(0)]],
                            device const T* in_i [[buffer(1)]], device const T* in_cs [[buffer(2)]],
                            device const T* in_f [[buffer(3)]], device const T* in_o [[buffer(4)]],
                            device const T* in_ci [[buffer(5)]],
                            device const T* in_co [[buffer(6)]],
                            device const T* cs_grad [[buffer(7)]],
                            device const T* h_grad [[buffer(8)]], device const T* wci [[buffer(9)]],
                            device const T* wcf [[buffer(10)]], device const T* wco [[buffer(11)]],
                            device float* dc [[buffer(12)]], device const float* dh [[buffer(13)]],
                            device float* dgates [[buffer(14)]], device float* sums [[buffer(15)]],
                            constant BlockLstmArguments& a [[buffer(16)]],
                            uint2 p [[thread_position_in_grid]]) {
  const long j = lane(p.x), units = a.units, row = p.y * units, at = a.row * units + row;
  const long c_gate = a.c_gate * units, f_gate = a.f_gate * units, o_gate = 3 * units;
  const float i = float(in_i[at + j]), f = float(in_f[at + j]), o = float(in_o[at + j]);
  const float ci = float(in_ci[at + j]), co = float(in_co[at + j]);
  const float before = float(cs_prev[a.previous_row * units + row + j]);
  const float dy = float(h_grad[at + j]) + dh[row + j];
  const float to_o = o * (1.0f - o) * dy * co;
  float dcs = (1.0f - co * co) * dy * o + (float(cs_grad[at + j]) + dc[row + j]);
  if (kPeephole) dcs += to_o * float(wco[j]);
  const float to_c = (1.0f - ci * ci) * dcs * i;
  const float to_f = f * (1.0f - f) * dcs * before;
  const float to_i = i * (1.0f - i) * dcs * ci;
  float dbefore = dcs * f;
  if (kPeephole) dbefore += to_i * float(wci[j]) + to_f * float(wcf[j]);
  dc[row + j] = dbefore;
  device float* to = dgates + 4 * at;
  to[j] = to_i;
  to[c_gate + j] = to_c;
  to[f_gate + j] = to_f;
  to[o_gate + j] = to_o;
  device float* sum = sums + p.y * long(a.sums_stride);
  sum[j] += to_i;
  sum[c_gate + j] += to_c;
  sum[f_gate + j] += to_f;
  sum[o_gate + j] += to_o;
  if (kPeephole) {
    sum[4 * units + j] += to_i * before;
    sum[5 * units + j] += to_f * before;
    sum[6 * units + j] += to_o * float(in_cs[at + j]);
  }
}

template [[host_name(
    "block_lstm_float")]] kernel decltype(block_lstm<float, false>) block_lstm<float, false>;
template [[host_name("block_lstm_back_float")]] kernel decltype(block_lstm_back<float, false>)
    block_lstm_back<float, false>;
template [[host_name(
    "block_lstm_peephole_float")]] kernel decltype(block_lstm<float, true>) block_lstm<float, true>;
template
    [[host_name("block_lstm_back_peephole_float")]] kernel decltype(block_lstm_back<float, true>)
        block_lstm_back<float, true>;
template [[host_name(
    "block_lstm_half")]] kernel decltype(block_lstm<half, false>) block_lstm<half, false>;
template [[host_name("block_lstm_back_half")]] kernel decltype(block_lstm_back<half, false>)
    block_lstm_back<half, false>;
template [[host_name(
    "block_lstm_peephole_half")]] kernel decltype(block_lstm<half, true>) block_lstm<half, true>;
template [[host_name("block_lstm_back_peephole_half")]] kernel decltype(block_lstm_back<half, true>)
    block_lstm_back<half, true>;
