// BlockLSTMGrad and BlockLSTMGradV2: backwards through the steps, then one product over all of them
// for each gradient of the weights.
#include "kernels/msl/rnn_arguments.h"
#include "kernels/native/block_lstm.h"

namespace tfmetal {

namespace {

// Behind the inputs of BlockLSTM: its outputs, and the gradients of two of them.
enum GradInput { kI = 9, kCell, kF, kO, kCi, kCo, kState, kCellGrad, kStateGrad };
enum GradOutput {
  kXGrad,
  kCellBeforeGrad,
  kStateBeforeGrad,
  kWeightsGrad,
  kPeepholesGrad,
  kBiasGrad = 7
};

// Columns of the sums over steps: those of the gates, behind them wci's, wcf's and wco's.
int64_t sum_columns(const BlockLstm& lstm) { return (lstm.peepholes ? 7 : 4) * lstm.units; }

struct Memory {
  Memory(const BlockLstm& lstm, BlockLstmMemory& memory)
      : dgates(memory.floats(lstm.rows() * lstm.gates())),
        dc(memory.floats(lstm.state())),
        dh(memory.floats(lstm.state())),
        sums(memory.floats(lstm.batch * sum_columns(lstm))),
        totals(memory.floats(sum_columns(lstm))),
        x(memory.widened(lstm, lstm.rows() * lstm.input)),
        h_before(memory.widened(lstm, lstm.state())),
        h(memory.widened(lstm, lstm.steps * lstm.state())),
        weights(memory.widened(lstm, (lstm.input + lstm.units) * lstm.gates())),
        dx(memory.widened(lstm, lstm.rows() * lstm.input)),
        dweights(memory.widened(lstm, (lstm.input + lstm.units) * lstm.gates())) {}
  BufferSlice dgates, dc, dh, sums, totals;
  BufferSlice x, h_before, h, weights, dx, dweights;  // float32 of what is not
};

class Backward {
 public:
  Backward(NativeCall& call, const BlockLstm& lstm, BlockLstmMemory memory)
      : call_(call), lstm_(lstm), m_(lstm, memory) {}

  void encode() {
    clear(m_.dc, lstm_.state());
    clear(m_.dh, lstm_.state());
    clear(m_.sums, lstm_.batch * sum_columns(lstm_));
    const int64_t weights = (lstm_.input + lstm_.units) * lstm_.gates();
    const BufferSlice w = widen(call_, lstm_, kWeights, weights, m_.weights);
    for (int64_t step = lstm_.steps - 1; step >= 0; --step) encode_step(step, w);
    store(m_.dc, kCellBeforeGrad, lstm_.state());
    store(m_.dh, kStateBeforeGrad, lstm_.state());
    encode_input(w);
    encode_weights();
    encode_vectors();
  }

 private:
  void encode_step(int64_t step, BufferSlice weights) {
    const int64_t gates = lstm_.gates(), units = lstm_.units, batch = lstm_.batch;
    BlockLstmArguments a = lstm_.arguments(step);
    a.sums_stride = static_cast<unsigned>(sum_columns(lstm_));
    const size_t before = step == 0 ? size_t(kCellBefore) : size_t(kCell);
    std::vector<ShaderArgument> arguments = {call_.in(before)};
    for (size_t i : {kI, kCell, kF, kO, kCi, kCo, kCellGrad, kStateGrad}) {
      arguments.push_back(call_.in(i));
    }
    append_peepholes(call_, lstm_, &arguments);
    for (BufferSlice slice : {m_.dc, m_.dh, m_.dgates, m_.sums}) arguments.push_back({slice});
    arguments.push_back(NativeCall::value(a));
    call_.dispatch(lstm_.shader("block_lstm_back"),
                   mtl::Size{NSUInteger(units), NSUInteger(batch), 1}, arguments);
    call_.multiply({.left = dgates(step, 1),
                    .right = {after(weights, lstm_.input * gates), units, gates, gates},
                    .result = {m_.dh, batch, units, units},
                    .transpose_right = true});
  }

  void encode_input(BufferSlice weights) {
    const int64_t gates = lstm_.gates(), input = lstm_.input, count = lstm_.rows() * input;
    clear_output(call_, kXGrad, count);
    const BufferSlice dx = result(m_.dx, kXGrad);
    call_.multiply({.left = dgates(0, lstm_.steps),
                    .right = {weights, input, gates, gates},
                    .result = {dx, lstm_.rows(), input, input},
                    .transpose_right = true});
    store(dx, kXGrad, count);
  }

  void encode_weights() {
    const int64_t gates = lstm_.gates(), input = lstm_.input, units = lstm_.units;
    const int64_t later = lstm_.steps - 1;
    const BufferSlice x = widen(call_, lstm_, kX, lstm_.rows() * input, m_.x);
    const BufferSlice h0 = widen(call_, lstm_, kStateBefore, lstm_.state(), m_.h_before);
    const BufferSlice h = widen(call_, lstm_, BlockLstmInput(kState), later * lstm_.state(), m_.h);
    const BufferSlice dw = result(m_.dweights, kWeightsGrad);
    call_.multiply({.left = {x, lstm_.rows(), input, input},
                    .right = dgates(0, lstm_.steps),
                    .result = {dw, input, gates, gates},
                    .transpose_left = true});
    const MatrixView of_state{after(dw, input * gates), units, gates, gates};
    call_.multiply({.left = {h0, lstm_.batch, units, units},
                    .right = dgates(0, 1),
                    .result = of_state,
                    .transpose_left = true});
    call_.multiply({.left = {h, later * lstm_.batch, units, units},
                    .right = dgates(1, later),
                    .result = of_state,
                    .transpose_left = true,
                    .accumulate = true});
    store(dw, kWeightsGrad, (input + units) * gates);
  }

  // Of the bias and the peepholes: the sums, over the batch, too.
  void encode_vectors() {
    const int64_t units = lstm_.units, columns = sum_columns(lstm_);
    const RnnBiasArguments a{static_cast<unsigned>(lstm_.batch), static_cast<unsigned>(columns)};
    call_.dispatch("rnn_bias", columns, {{m_.sums}, {m_.totals}, NativeCall::value(a)});
    convert(call_, m_.totals, TF_FLOAT, call_.outputs[kBiasGrad], lstm_.dtype, lstm_.gates());
    for (size_t i = 0; i < 3; ++i) {
      const size_t output = kPeepholesGrad + i;
      if (!lstm_.peepholes) {
        clear_output(call_, output, 0);
        continue;
      }
      convert(call_, after(m_.totals, (4 + int64_t(i)) * units), TF_FLOAT, call_.outputs[output],
              lstm_.dtype, units);
    }
  }

  MatrixView dgates(int64_t step, int64_t steps) const {
    const int64_t gates = lstm_.gates();
    return {after(m_.dgates, step * lstm_.batch * gates), steps * lstm_.batch, gates, gates};
  }
  // Where to compute an output: itself, or `wide` when it is of 16 bits.
  BufferSlice result(BufferSlice wide, GradOutput output) const {
    return lstm_.is_float() ? call_.outputs[output] : wide;
  }
  void store(BufferSlice from, GradOutput output, int64_t count) {
    const BufferSlice to = call_.outputs[output];
    if (from.block == to.block && from.offset == to.offset) return;
    convert(call_, from, TF_FLOAT, to, lstm_.dtype, count);
  }
  void clear(BufferSlice to, int64_t floats) {
    call_.clear(to, static_cast<size_t>(floats) * sizeof(float));
  }

  NativeCall& call_;
  const BlockLstm& lstm_;
  const Memory m_;
};

}  // namespace

size_t block_lstm_grad_scratch(const Node& node) {
  BlockLstmMemory memory;
  Memory(BlockLstm(node), memory);
  return memory.used();
}

void block_lstm_grad(NativeCall& call) {
  const BlockLstm lstm(call.node);
  if (lstm.rows() == 0 || lstm.units == 0) {
    for (size_t i = 0; i < call.node.outputs.size(); ++i) clear_output(call, i, 0);
    return;
  }
  Backward(call, lstm, BlockLstmMemory(call.scratch())).encode();
}

}  // namespace tfmetal
