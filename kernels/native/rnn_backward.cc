// CudnnRNNBackprop, CudnnRNNBackpropV2, CudnnRNNBackpropV3.
#include "kernels/native/rnn_backward.h"

#include <utility>

#include "plugin/error.h"

namespace tfmetal {

// ---- the cell ----------------------------------------------------------------------------------

void RnnBackward::encode_cell(int64_t layer, int64_t direction, BufferSlice input, BufferSlice dy,
                              const RnnWeights& weights, const RnnWeightGradients& gradients) {
  const int64_t index = layer * run.directions + direction;
  const MatrixView last = gradient(dy, direction, run.steps, index);
  RnnStepArguments a = step_arguments(0);
  a.h_stride = static_cast<long>(last.stride);
  a.previous_stride = static_cast<long>(run.output);
  dispatch("rnn_add", run.output, run.batch, 1,
           {{floats_from(memory_.dhn, index * run.batch * run.output)},
            {last.data},
            NativeCall::value(a)});
  clear(memory_.dbias, TF_FLOAT, run.batch * run.saved() * run.units);
  for (int64_t step = run.steps - 1; step >= 0; --step) {
    encode_step(layer, direction, step, weights, dy);
  }
  encode_weights(layer, direction, input, dy, gradients);
}

// From the gradient of the state after `step` to those of the gates and of the state before.
void RnnBackward::encode_step(int64_t layer, int64_t direction, int64_t step,
                              const RnnWeights& weights, BufferSlice dy) {
  const int64_t index = layer * run.directions + direction;
  const int64_t time = run.time(direction, step), rows = run.gates() * run.units;
  const MatrixView after = gradient(dy, direction, step + 1, index);
  const MatrixView before = gradient(dy, direction, step, index);
  MatrixView dh = after;
  if (run.projected) {
    dh = {memory_.dunprojected, run.batch, run.units, run.units};
    native.multiply({.left = after, .right = weights.projection, .result = dh});
  }
  encode_gates(layer, direction, step, dh, before);
  if (run.is_masked()) {
    RnnStepArguments a = step_arguments(time);
    a.h_stride = static_cast<long>(after.stride);
    a.previous_stride = static_cast<long>(before.stride);
    dispatch("rnn_carry_back", run.output, run.batch, 1,
             {{after.data}, {before.data}, lengths(), NativeCall::value(a)});
  }
  const BufferSlice gates = floats_from(memory_.dstate_gates, time * run.batch * rows);
  native.multiply({.left = {gates, run.batch, rows, rows},
                   .right = weights.state.view,
                   .result = before,
                   .transpose_right = weights.state.in_columns,
                   .accumulate = true});
}

// The pointwise part. `before` receives what does not pass through the gates.
void RnnBackward::encode_gates(int64_t layer, int64_t direction, int64_t step, const MatrixView& dh,
                               const MatrixView& before) {
  const int64_t index = layer * run.directions + direction;
  const int64_t time = run.time(direction, step), at = time * run.batch;
  const int64_t rows = run.gates() * run.units;
  RnnStepArguments a = step_arguments(time);
  a.h_stride = static_cast<long>(dh.stride);
  const BufferSlice saved = floats_from(memory_.reserve, run.saved_at(index) + at * a.saved_stride);
  const BufferSlice gates = floats_from(memory_.dgates, at * rows);
  if (run.cell == kRnnLstm) {
    dispatch("rnn_lstm_back", run.units, run.batch, 1,
             {{saved},
              {cell_state(index, direction, step)},
              {cell_state(index, direction, step + 1)},
              {dh.data},
              {floats_from(memory_.dc0, index * run.batch * run.units)},
              {gates},
              {memory_.dbias},
              lengths(),
              NativeCall::value(a)});
  } else if (run.cell == kRnnGru) {
    const MatrixView h = hidden(layer, direction, step);
    RnnStepArguments d = a;
    a.previous_stride = static_cast<long>(h.stride);
    d.previous_stride = static_cast<long>(before.stride);
    dispatch("rnn_gru_back", run.units, run.batch, 1,
             {{saved},
              {h.data},
              {dh.data},
              {before.data},
              {gates},
              {floats_from(memory_.dstate_gates, at * rows)},
              {memory_.dbias},
              lengths(),
              NativeCall::value(a),
              NativeCall::value(d)});
  } else {
    dispatch("rnn_simple_back", run.units, run.batch, 1,
             {{hidden(layer, direction, step + 1).data},
              {dh.data},
              {gates},
              {memory_.dbias},
              lengths(),
              NativeCall::value(a)});
  }
}

// Products over all steps.
void RnnBackward::encode_weights(int64_t layer, int64_t direction, BufferSlice input,
                                 BufferSlice dy, const RnnWeightGradients& gradients) {
  const int64_t index = layer * run.directions + direction, rows = run.gates() * run.units;
  const int64_t width = run.width(layer), all = run.rows();
  if (!run.skips(layer)) {
    multiply_gates({memory_.dgates, all, rows, rows}, {input, all, width, width}, gradients.input);
  }
  encode_state_weights(layer, direction, gradients.state);
  if (run.projected) {
    const BufferSlice h = floats_from(memory_.reserve, run.unprojected_at(index));
    native.multiply(
        {.left = {floats_from(dy, direction * run.output), all, run.output, run.state()},
         .right = {h, all, run.units, run.units},
         .result = gradients.projection,
         .transpose_left = true});
  }
  encode_biases(gradients);
}

// The first step multiplies the initial state; the state before all others is an output.
void RnnBackward::encode_state_weights(int64_t layer, int64_t direction, const RnnGatesMatrix& to) {
  const int64_t rows = run.gates() * run.units, batch = run.batch;
  const int64_t first = run.steps > 0 ? run.time(direction, 0) : 0;
  MatrixView start = hidden(layer, direction, 0);
  if (run.steps == 0) start.rows = 0;
  multiply_gates({floats_from(memory_.dstate_gates, first * batch * rows), start.rows, rows, rows},
                 start, to);
  if (run.steps < 2) return;
  const int64_t others = (run.steps - 1) * batch, later = direction == 0 ? batch : 0;
  const BufferSlice outputs =
      floats_from(output_of(layer), direction * run.output + (batch - later) * run.state());
  multiply_gates({floats_from(memory_.dstate_gates, later * rows), others, rows, rows},
                 {outputs, others, run.output, run.state()}, to, /*accumulate=*/true);
}

void RnnBackward::multiply_gates(const MatrixView& gates, const MatrixView& by,
                                 const RnnGatesMatrix& to, bool accumulate) {
  native.multiply({.left = to.in_columns ? by : gates,
                   .right = to.in_columns ? gates : by,
                   .result = to.view,
                   .transpose_left = true,
                   .accumulate = accumulate});
}

// The bias of the state has the gradient of that of the input, but for the last gate of a GRU.
void RnnBackward::encode_biases(const RnnWeightGradients& gradients) {
  const int64_t units = run.units, rows = run.gates() * units, stride = run.saved() * units;
  const int64_t shared = run.cell == kRnnGru ? 2 * units : rows;
  const BufferSlice sums = memory_.dbias, state = gradients.state_bias;
  if (gradients.input_bias.block) sum_batch(sums, stride, gradients.input_bias, rows);
  if (!state.block) return;
  sum_batch(sums, stride, state, shared);
  sum_batch(floats_from(sums, 3 * units), stride, floats_from(state, shared), rows - shared);
}

void RnnBackward::sum_batch(BufferSlice rows, int64_t stride, BufferSlice to, int64_t count) {
  if (run.batch == 0) return clear(to, TF_FLOAT, count);
  const RnnBiasArguments a{static_cast<unsigned>(run.batch), static_cast<unsigned>(stride)};
  dispatch("rnn_bias", count, 1, 1, {{rows}, {to}, NativeCall::value(a)});
}

void RnnBackward::encode_input(int64_t layer, int64_t direction, const RnnWeights& weights,
                               BufferSlice dx) {
  const int64_t rows = run.gates() * run.units, width = run.width(layer);
  if (run.skips(layer)) {
    const RnnGatesArguments a{static_cast<unsigned>(run.gates()), static_cast<unsigned>(run.units),
                              static_cast<long>(rows), direction > 0};
    dispatch("rnn_fold", run.units, run.rows(), 1, {{memory_.dgates}, {dx}, NativeCall::value(a)});
    return;
  }
  native.multiply({.left = {memory_.dgates, run.rows(), rows, rows},
                   .right = weights.input.view,
                   .result = {dx, run.rows(), width, width},
                   .transpose_right = weights.input.in_columns,
                   .accumulate = direction > 0});
}

MatrixView RnnBackward::gradient(BufferSlice dy, int64_t direction, int64_t step,
                                 int64_t index) const {
  if (step == 0) {
    return {floats_from(memory_.dh0, index * run.batch * run.output), run.batch, run.output,
            run.output};
  }
  const int64_t row = run.time(direction, step - 1) * run.batch;
  return {floats_from(dy, row * run.state() + direction * run.output), run.batch, run.output,
          run.state()};
}

// ---- the op ------------------------------------------------------------------------------------

namespace {

struct Operands : RnnBackwardMemory {
  TF_DataType dtype;
  // Of the op.
  BufferSlice input, h, c, parameters, doutput, doutput_h, doutput_c;
  BufferSlice dinput, dh, dc, dparameters;
  // float32. `gradients`: with respect to the outputs of a layer and to its input, by turns.
  BufferSlice x, weights, dx, dweights, gradients[2], dropped;
};

class Backward : public RnnBackward {
 public:
  Backward(NativeCall& native, const RnnRun& run, const Operands& o, BufferSlice lengths)
      : RnnBackward(native, run, o, lengths), o_(o) {}

  void encode() {
    load();
    BufferSlice dy = o_.gradients[0], dx = o_.gradients[1];
    load_sequence(o_.doutput, o_.dtype, dy, run.state());
    for (int64_t layer = run.layers - 1; layer >= 0; --layer) {
      BufferSlice input = layer == 0 ? o_.x : output_of(layer - 1);
      const bool drops = layer > 0 && run.dropout > 0;
      if (drops) {
        drop(input, o_.dropped, layer);
        input = o_.dropped;
      }
      if (layer == 0) dx = o_.dx;
      for (int64_t d = 0; d < run.directions; ++d) {
        const RnnModel::Cell cell = run.cell_parameters(layer * run.directions + d);
        const RnnWeights of = weights(cell);
        encode_cell(layer, d, input, dy, of, gradients(cell));
        encode_input(layer, d, of, dx);
      }
      if (drops) drop(dx, dx, layer);
      std::swap(dx, dy);
    }
    store();
  }

 private:
  void load() {
    if (o_.x.block != o_.input.block) load_sequence(o_.input, o_.dtype, o_.x, run.input);
    if (o_.weights.block != o_.parameters.block) {
      load_flat(o_.parameters, o_.dtype, o_.weights, run.parameters());
    }
    load_states(o_.h, o_.dtype, o_.h0, run.output);
    load_states(o_.doutput_h, o_.dtype, o_.dhn, run.output);
    clear(o_.dh0, TF_FLOAT, run.cells() * run.batch * run.output);
    if (run.cell != kRnnLstm) return;
    load_states(o_.c, o_.dtype, o_.c0, run.units);
    load_states(o_.doutput_c, o_.dtype, o_.dc0, run.units);
  }

  void store() {
    if (o_.dx.block != o_.dinput.block) store_sequence(o_.dx, o_.dinput, o_.dtype, run.input);
    if (o_.dweights.block != o_.dparameters.block) {
      store_flat(o_.dweights, o_.dparameters, o_.dtype, run.parameters());
    }
    for (int64_t i = 0; i < run.cells(); ++i) {
      store_state(floats_from(o_.dh0, i * run.batch * run.output), run.output, o_.dh, o_.dtype, i,
                  run.output);
      if (run.cell != kRnnLstm) continue;
      store_state(floats_from(o_.dc0, i * run.batch * run.units), run.units, o_.dc, o_.dtype, i,
                  run.units);
    }
  }

  RnnWeights weights(const RnnModel::Cell& cell) const {
    return {.input = {matrix_of(o_.weights, cell.input), false},
            .state = {matrix_of(o_.weights, cell.state), false},
            .projection = matrix_of(o_.weights, cell.projection),
            .biases = {}};
  }
  RnnWeightGradients gradients(const RnnModel::Cell& cell) const {
    const BufferSlice biases = floats_from(o_.dweights, cell.biases.offset);
    return {.input = {matrix_of(o_.dweights, cell.input), false},
            .state = {matrix_of(o_.dweights, cell.state), false},
            .projection = matrix_of(o_.dweights, cell.projection),
            .input_bias = biases,
            .state_bias = floats_from(biases, run.gates() * run.units)};
  }

  const Operands& o_;
};

// `first`: the index of the input `output`.
void check(const Node& node, const RnnRun& run, size_t first) {
  const char* const names[] = {"output", "output_h", "output_c"};
  for (size_t i = 0; i < 6; ++i) {
    const size_t which = i % 3;
    if (which == 2 && run.cell != kRnnLstm) continue;
    const std::string name = std::string(names[which]) + (i < 3 ? "" : "_backprop");
    check_rnn_shape(node, first + i,
                    which == 0   ? run.sequence_shape(run.state())
                    : which == 1 ? run.state_shape(run.output)
                                 : run.state_shape(run.units),
                    name);
  }
  const int64_t bytes = static_cast<int64_t>(node.in(first + 6).bytes());
  if (bytes != run.reserve() * static_cast<int64_t>(sizeof(float))) {
    throw_invalid_argument(node.describe(), ": reserve_space has ", bytes,
                           " bytes; it must come from a forward pass of this model in training");
  }
}

}  // namespace

template <int version>
void rnn_backward(KernelCall& call) {
  Node node = call.node();
  const RnnRun run = RnnRun::make(node, version);
  const size_t first = version == 3 ? 5 : 4;
  check(node, run, first);
  node.outputs.assign(node.inputs.begin(), node.inputs.begin() + 4);
  const TF_DataType dtype = node.in(0).dtype;
  const bool lstm = run.cell == kRnnLstm, gru = run.cell == kRnnGru, plain = dtype == TF_FLOAT;
  const bool as_is = plain && run.time_major && !run.is_masked();
  RnnMemory memory(call);
  const auto in = [&](size_t i) { return memory.use(call.input_slice(i)); };
  const auto out = [&](size_t i) { return memory.use(call.allocate_output(i, node.out(i))); };
  Operands o;
  o.dtype = dtype;
  o.input = in(0), o.h = in(1), o.c = in(2), o.parameters = in(3);
  o.doutput = in(first + 3), o.doutput_h = in(first + 4), o.doutput_c = in(first + 5);
  o.reserve = in(first + 6);
  o.dinput = out(0), o.dh = out(1), o.dc = out(2), o.dparameters = out(3);
  const int64_t rows = run.rows(), gates = run.gates() * run.units;
  const int64_t states = run.cells() * run.batch;
  o.x = as_is ? o.input : memory.temp(rows * run.input);
  o.dx = as_is ? o.dinput : memory.temp(rows * run.input);
  o.weights = plain ? o.parameters : memory.temp(run.parameters());
  o.dweights = plain ? o.dparameters : memory.temp(run.parameters());
  o.h0 = memory.temp(states * run.output), o.dh0 = memory.temp(states * run.output);
  o.dhn = memory.temp(states * run.output);
  o.c0 = memory.temp(lstm ? states * run.units : 0);
  o.dc0 = memory.temp(lstm ? states * run.units : 0);
  // A strided view of the second direction reaches beyond the last row.
  for (BufferSlice& each : o.gradients) each = memory.temp((rows + 1) * run.state());
  o.dgates = memory.temp(rows * gates);
  o.dstate_gates = gru ? memory.temp(rows * gates) : o.dgates;
  o.dbias = memory.temp(run.batch * run.saved() * run.units);
  o.dropped = memory.temp(run.dropout > 0 ? rows * run.state() : 0);
  o.dunprojected = memory.temp(run.projected ? run.batch * run.units : 0);
  const BufferSlice lengths = memory.lengths(run);
  const size_t bytes = 2 * static_cast<size_t>(run.reserve()) * sizeof(float);
  call.encode(node, memory.uses(), {}, bytes, [&](NativeCall& native) {
    Backward backward(native, run, o, lengths);
    backward.encode();
    if (!lstm) backward.clear(o.dc, dtype, node.out(2).count());
  });
}

template void rnn_backward<1>(KernelCall&);
template void rnn_backward<2>(KernelCall&);
template void rnn_backward<3>(KernelCall&);

}  // namespace tfmetal
