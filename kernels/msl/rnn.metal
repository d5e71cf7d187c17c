// Recurrent layers: the pointwise part of the cells, and the movement of data around them. All
// state is float32 whatever the type of the op.
//
// A batch row whose sequence has ended keeps its state: its gates count as zero, `rnn_carry` copies
// the hidden state on, `rnn_carry_back` the gradient.
#include <metal_stdlib>

#include "kernels/msl/lane.h"
#include "kernels/msl/rnn_arguments.h"
using namespace metal;

#include "kernels/msl/lane_math.h"
#include "kernels/msl/rnn_math.h"

// ---- data movement -----------------------------------------------------------------------------

kernel void rnn_header(device RnnHeader* out [[buffer(0)]],
                       constant RnnHeader& header [[buffer(1)]],
                       uint i [[thread_position_in_grid]]) {
  out[i] = header;
}

// Between layouts and types; zero where a sequence has ended. Grid: element, batch row, time.
template <typename In, typename Out>
kernel void rnn_transfer(device const In* in [[buffer(0)]], device Out* out [[buffer(1)]],
                         device const int* lengths [[buffer(2)]],
                         constant RnnTransferArguments& a [[buffer(3)]],
                         uint3 p [[thread_position_in_grid]]) {
  const long j = lane(p.x);
  const bool inside = int(p.z) < lengths[p.y * a.length_stride];
  const float x = float(in[long(p.z) * a.in_time + long(p.y) * a.in_batch + j]);
  out[long(p.z) * a.out_time + long(p.y) * a.out_batch + j] = Out(inside ? x : 0.0f);
}

// Grid: row of the input, group of eight columns.
kernel void rnn_transpose(device const float* in [[buffer(0)]], device float* out [[buffer(1)]],
                          constant RnnTransposeArguments& a [[buffer(2)]],
                          uint2 p [[thread_position_in_grid]]) {
  const uint end = min(8 * p.y + 8, a.columns);
  for (uint c = 8 * p.y; c < end; ++c) {
    out[long(c) * a.rows + p.x] = in[long(p.x) * a.columns + c];
  }
}

// The input of a layer without input weights goes to every gate. Grid: unit, row.
kernel void rnn_repeat(device const float* in [[buffer(0)]], device float* gates [[buffer(1)]],
                       constant RnnGatesArguments& a [[buffer(2)]],
                       uint2 p [[thread_position_in_grid]]) {
  const float x = in[long(p.y) * a.units + p.x];
  for (uint g = 0; g < a.gates; ++g) gates[p.y * a.gates_stride + g * a.units + p.x] = x;
}
kernel void rnn_fold(device const float* gates [[buffer(0)]], device float* out [[buffer(1)]],
                     constant RnnGatesArguments& a [[buffer(2)]],
                     uint2 p [[thread_position_in_grid]]) {
  const long i = long(p.y) * a.units + p.x;
  float sum = a.accumulate ? out[i] : 0.0f;
  for (uint g = 0; g < a.gates; ++g) sum += gates[p.y * a.gates_stride + g * a.units + p.x];
  out[i] = sum;
}

// Adds rows to strided rows. Grid: unit, batch row.
kernel void rnn_add(device const float* in [[buffer(0)]], device float* out [[buffer(1)]],
                    constant RnnStepArguments& a [[buffer(2)]],
                    uint2 p [[thread_position_in_grid]]) {
  out[p.y * a.h_stride + lane(p.x)] += in[p.y * a.previous_stride + lane(p.x)];
}

kernel void rnn_carry(device const float* previous [[buffer(0)]], device float* h [[buffer(1)]],
                      device const int* lengths [[buffer(2)]],
                      constant RnnStepArguments& a [[buffer(3)]],
                      uint2 p [[thread_position_in_grid]]) {
  if (a.time < lengths[p.y * a.length_stride]) return;
  h[p.y * a.h_stride + p.x] = previous[p.y * a.previous_stride + p.x];
}
kernel void rnn_carry_back(device const float* dh [[buffer(0)]],
                           device float* previous [[buffer(1)]],
                           device const int* lengths [[buffer(2)]],
                           constant RnnStepArguments& a [[buffer(3)]],
                           uint2 p [[thread_position_in_grid]]) {
  if (a.time < lengths[p.y * a.length_stride]) return;
  previous[p.y * a.previous_stride + p.x] += dh[p.y * a.h_stride + p.x];
}

// Sums over the batch.
kernel void rnn_bias(device const float* rows [[buffer(0)]], device float* out [[buffer(1)]],
                     constant RnnBiasArguments& a [[buffer(2)]],
                     uint j [[thread_position_in_grid]]) {
  float sum = 0;
  for (uint b = 0; b < a.batch; ++b) sum += rows[long(b) * a.stride + j];
  out[j] = sum;
}

// Multiplies by 0 or `scale`: the first word of Philox 4x32-10 of the element's index decides, so
// that the backward pass finds the same mask.
kernel void rnn_dropout(device const float* in [[buffer(0)]], device float* out [[buffer(1)]],
                        device const RnnHeader* header [[buffer(2)]],
                        constant RnnDropoutArguments& a [[buffer(3)]],
                        uint i [[thread_position_in_grid]]) {
  uint c0 = i, c1 = 0, c2 = a.layer, c3 = 0;
  uint k0 = header->key[0], k1 = header->key[1];
  for (int round = 0; round < 10; ++round) {
    const uint high0 = mulhi(0xD2511F53u, c0), low0 = 0xD2511F53u * c0;
    const uint high1 = mulhi(0xCD9E8D57u, c2), low1 = 0xCD9E8D57u * c2;
    c0 = high1 ^ c1 ^ k0;
    c1 = low1;
    c2 = high0 ^ c3 ^ k1;
    c3 = low0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  out[i] = c0 < a.drop_below ? 0.0f : in[i] * a.scale;
}

// ---- cells -------------------------------------------------------------------------------------
//
// Grid: unit, batch row. `saved` holds the products of input and state and receives the gates, for
// the backward pass. `bias`: that of the input, then that of the state. `d...` are gradients;
// `dbias` accumulates each batch row's over the steps.

// h = act(x). Gates: one.
kernel void rnn_simple(device float* saved [[buffer(0)]], device const float* bias [[buffer(1)]],
                       device float* h [[buffer(2)]], device const int* lengths [[buffer(3)]],
                       constant RnnStepArguments& a [[buffer(4)]],
                       uint2 p [[thread_position_in_grid]]) {
  const long j = lane(p.x), units = a.units;
  const bool inside = a.time < lengths[p.y * a.length_stride];
  const float x = saved[p.y * a.saved_stride + j] + (bias[j] + bias[units + j]);
  const float y = a.cell == kRnnTanh ? rnn_tanh(x) : x < 0.0f ? 0.0f : x;
  h[p.y * a.h_stride + j] = inside ? y : 0.0f;
}
kernel void rnn_simple_back(device const float* h [[buffer(0)]],
                            device const float* dh [[buffer(1)]],
                            device float* dgates [[buffer(2)]], device float* dbias [[buffer(3)]],
                            device const int* lengths [[buffer(4)]],
                            constant RnnStepArguments& a [[buffer(5)]],
                            uint2 p [[thread_position_in_grid]]) {
  const long j = lane(p.x), row = p.y * long(a.units);
  const bool inside = a.time < lengths[p.y * a.length_stride];
  const float y = h[p.y * a.h_stride + j];
  const float slope = a.cell == kRnnTanh ? 1.0f - y * y : y > 0.0f ? 1.0f : 0.0f;
  const float d = inside ? dh[p.y * a.h_stride + j] * slope : 0.0f;
  dgates[row + j] = d;
  dbias[row + j] += d;
}

// c' = f c + i g, h = o tanh(c'). Gates: i, f, g, o.
kernel void rnn_lstm(device float* saved [[buffer(0)]], device const float* bias [[buffer(1)]],
                     device const float* previous_c [[buffer(2)]], device float* c [[buffer(3)]],
                     device float* h [[buffer(4)]], device const int* lengths [[buffer(5)]],
                     constant RnnStepArguments& a [[buffer(6)]],
                     uint2 p [[thread_position_in_grid]]) {
  const long j = lane(p.x), units = a.units, row = p.y * units;
  const bool inside = a.time < lengths[p.y * a.length_stride];
  device float* gates = saved + p.y * a.saved_stride;
  device const float* more = bias + 4 * units;
  const float i = rnn_sigmoid(gates[j] + (bias[j] + more[j]));
  const float f = rnn_sigmoid(gates[units + j] + (bias[units + j] + more[units + j]));
  const float g = rnn_tanh(gates[2 * units + j] + (bias[2 * units + j] + more[2 * units + j]));
  const float o = rnn_sigmoid(gates[3 * units + j] + (bias[3 * units + j] + more[3 * units + j]));
  const float before = previous_c[row + j];
  const float cell = f * before + i * g;
  gates[j] = i;
  gates[units + j] = f;
  gates[2 * units + j] = g;
  gates[3 * units + j] = o;
  c[row + j] = inside ? cell : before;
  h[p.y * a.h_stride + j] = inside ? o * rnn_tanh(cell) : 0.0f;
}
kernel void rnn_lstm_back(device const float* saved [[buffer(0)]],
                          device const float* previous_c [[buffer(1)]],
                          device const float* c [[buffer(2)]], device const float* dh [[buffer(3)]],
                          device float* dc [[buffer(4)]], device float* dgates [[buffer(5)]],
                          device float* dbias [[buffer(6)]],
                          device const int* lengths [[buffer(7)]],
                          constant RnnStepArguments& a [[buffer(8)]],
                          uint2 p [[thread_position_in_grid]]) {
  const long j = lane(p.x), units = a.units, row = p.y * units;
  const bool inside = a.time < lengths[p.y * a.length_stride];
  device const float* gates = saved + p.y * a.saved_stride;
  const float i = gates[j], f = gates[units + j];
  const float g = gates[2 * units + j], o = gates[3 * units + j];
  const float d = dh[p.y * a.h_stride + j], t = rnn_tanh(c[row + j]);
  const float after = dc[row + j];
  const float cell = after + d * o * (1.0f - t * t);
  const float di = inside ? cell * g * i * (1.0f - i) : 0.0f;
  const float df = inside ? cell * previous_c[row + j] * f * (1.0f - f) : 0.0f;
  const float dg = inside ? cell * i * (1.0f - g * g) : 0.0f;
  const float dout = inside ? d * t * o * (1.0f - o) : 0.0f;
  device float* to = dgates + 4 * row;
  device float* sums = dbias + 4 * row;
  to[j] = di;
  to[units + j] = df;
  to[2 * units + j] = dg;
  to[3 * units + j] = dout;
  sums[j] += di;
  sums[units + j] += df;
  sums[2 * units + j] += dg;
  sums[3 * units + j] += dout;
  dc[row + j] = inside ? cell * f : after;
}

// n = tanh(x + r q) with q the state's part of it, h' = z h + (1 - z) n. Gates: z, r, n; q is saved
// behind them. `state`: products of the state.
kernel void rnn_gru(device float* saved [[buffer(0)]], device const float* state [[buffer(1)]],
                    device const float* bias [[buffer(2)]],
                    device const float* previous [[buffer(3)]], device float* h [[buffer(4)]],
                    device const int* lengths [[buffer(5)]],
                    constant RnnStepArguments& a [[buffer(6)]],
                    uint2 p [[thread_position_in_grid]]) {
  const long j = lane(p.x), units = a.units;
  const bool inside = a.time < lengths[p.y * a.length_stride];
  device float* gates = saved + p.y * a.saved_stride;
  device const float* s = state + 3 * p.y * units;
  device const float* more = bias + 3 * units;
  const float z = rnn_sigmoid(gates[j] + s[j] + (bias[j] + more[j]));
  const float r =
      rnn_sigmoid(gates[units + j] + s[units + j] + (bias[units + j] + more[units + j]));
  const float q = s[2 * units + j] + more[2 * units + j];
  const float n = rnn_tanh(gates[2 * units + j] + bias[2 * units + j] + r * q);
  const float before = previous[p.y * a.previous_stride + j];
  gates[j] = z;
  gates[units + j] = r;
  gates[2 * units + j] = n;
  gates[3 * units + j] = q;
  h[p.y * a.h_stride + j] = inside ? z * before + (1.0f - z) * n : 0.0f;
}
// `dinput` and `dstate`: gradients of the products of the input and of the state. `dprevious`
// receives what does not pass through them.
kernel void rnn_gru_back(device const float* saved [[buffer(0)]],
                         device const float* previous [[buffer(1)]],
                         device const float* dh [[buffer(2)]],
                         device float* dprevious [[buffer(3)]], device float* dinput [[buffer(4)]],
                         device float* dstate [[buffer(5)]], device float* dbias [[buffer(6)]],
                         device const int* lengths [[buffer(7)]],
                         constant RnnStepArguments& a [[buffer(8)]],
                         constant RnnStepArguments& d [[buffer(9)]],
                         uint2 p [[thread_position_in_grid]]) {
  const long j = lane(p.x), units = a.units, row = p.y * units;
  const bool inside = a.time < lengths[p.y * a.length_stride];
  device const float* gates = saved + p.y * a.saved_stride;
  const float z = gates[j], r = gates[units + j];
  const float n = gates[2 * units + j], q = gates[3 * units + j];
  const float dy = inside ? dh[p.y * d.h_stride + j] : 0.0f;
  const float before = previous[p.y * a.previous_stride + j];
  const float dn = dy * (1.0f - z) * (1.0f - n * n);
  const float dz = inside ? dy * (before - n) * z * (1.0f - z) : 0.0f;
  const float dr = dn * q * r * (1.0f - r), dq = dn * r;
  device float* to = dinput + 3 * row;
  device float* through = dstate + 3 * row;
  device float* sums = dbias + 4 * row;
  to[j] = dz;
  to[units + j] = dr;
  to[2 * units + j] = dn;
  through[j] = dz;
  through[units + j] = dr;
  through[2 * units + j] = dq;
  sums[j] += dz;
  sums[units + j] += dr;
  sums[2 * units + j] += dn;
  sums[3 * units + j] += dq;
  dprevious[p.y * d.previous_stride + j] += dy * z;
}

template [[host_name("rnn_load_float")]] kernel void rnn_transfer<float, float>(
    device const float*, device float*, device const int*, constant RnnTransferArguments&, uint3);
template [[host_name("rnn_load_half")]] kernel void rnn_transfer<half, float>(
    device const half*, device float*, device const int*, constant RnnTransferArguments&, uint3);
template [[host_name("rnn_load_bfloat")]] kernel void rnn_transfer<bfloat, float>(
    device const bfloat*, device float*, device const int*, constant RnnTransferArguments&, uint3);
template [[host_name("rnn_store_half")]] kernel void rnn_transfer<float, half>(
    device const float*, device half*, device const int*, constant RnnTransferArguments&, uint3);
template [[host_name("rnn_store_bfloat")]] kernel void rnn_transfer<float, bfloat>(
    device const float*, device bfloat*, device const int*, constant RnnTransferArguments&, uint3);
