// CudnnRNN, CudnnRNNV2, CudnnRNNV3.
#include "kernels/native/rnn_forward.h"

#include <cstring>
#include <limits>
#include <mutex>
#include <random>

namespace tfmetal {

// ---- the cell ----------------------------------------------------------------------------------

void RnnForward::encode_cell(int64_t layer, int64_t direction, BufferSlice input,
                             const RnnWeights& weights) {
  const int64_t index = layer * run.directions + direction;
  const int64_t rows = run.gates() * run.units;
  const BufferSlice saved = floats_from(memory_.reserve, run.saved_at(index));
  const MatrixView gates{saved, run.rows(), rows, run.saved() * run.units};
  if (run.skips(layer)) {
    const RnnGatesArguments a{static_cast<unsigned>(run.gates()), static_cast<unsigned>(run.units),
                              static_cast<long>(gates.stride), 0};
    dispatch("rnn_repeat", run.units, run.rows(), 1, {{input}, {saved}, NativeCall::value(a)});
  } else {
    const int64_t width = run.width(layer);
    native.multiply({.left = {input, run.rows(), width, width},
                     .right = weights.input.view,
                     .result = gates,
                     .transpose_right = !weights.input.in_columns});
  }
  for (int64_t step = 0; step < run.steps; ++step) encode_step(layer, direction, step, weights);
}

void RnnForward::encode_step(int64_t layer, int64_t direction, int64_t step,
                             const RnnWeights& weights) {
  const int64_t index = layer * run.directions + direction;
  const int64_t time = run.time(direction, step), rows = run.gates() * run.units;
  const MatrixView before = hidden(layer, direction, step);
  const MatrixView after = hidden(layer, direction, step + 1);
  RnnStepArguments a = step_arguments(time);
  const BufferSlice saved =
      floats_from(memory_.reserve, run.saved_at(index) + time * run.batch * a.saved_stride);
  const bool adds = run.cell != kRnnGru;  // a GRU needs the state's part by itself
  const MatrixView products = adds ? MatrixView{saved, run.batch, rows, a.saved_stride}
                                   : MatrixView{memory_.state, run.batch, rows, rows};
  native.multiply({.left = before,
                   .right = weights.state.view,
                   .result = products,
                   .transpose_right = !weights.state.in_columns,
                   .accumulate = adds});
  const MatrixView h = run.projected ? unprojected(index, time) : after;
  const ShaderArgument bias = {weights.biases};
  a.h_stride = static_cast<long>(h.stride);
  a.previous_stride = static_cast<long>(before.stride);
  if (run.cell == kRnnLstm) {
    dispatch("rnn_lstm", run.units, run.batch, 1,
             {{saved},
              bias,
              {cell_state(index, direction, step)},
              {cell_state(index, direction, step + 1)},
              {h.data},
              lengths(),
              NativeCall::value(a)});
  } else if (run.cell == kRnnGru) {
    dispatch(
        "rnn_gru", run.units, run.batch, 1,
        {{saved}, {memory_.state}, bias, {before.data}, {h.data}, lengths(), NativeCall::value(a)});
  } else {
    dispatch("rnn_simple", run.units, run.batch, 1,
             {{saved}, bias, {h.data}, lengths(), NativeCall::value(a)});
  }
  if (run.projected) {
    native.multiply(
        {.left = h, .right = weights.projection, .result = after, .transpose_right = true});
  }
  if (!run.is_masked()) return;
  a.h_stride = static_cast<long>(after.stride);
  dispatch("rnn_carry", run.output, run.batch, 1,
           {{before.data}, {after.data}, lengths(), NativeCall::value(a)});
}

MatrixView RnnForward::unprojected(int64_t index, int64_t time) const {
  const int64_t row = time * run.batch;
  return {floats_from(memory_.reserve, run.unprojected_at(index) + row * run.units), run.batch,
          run.units, run.units};
}

// ---- the op ------------------------------------------------------------------------------------

namespace {

// Tells the dropout masks of one execution from those of the next.
class DropoutKeys {
 public:
  explicit DropoutKeys(const NodeDef& def)
      : seed_(static_cast<uint64_t>(def.attr_int("seed", 0)) << 32 ^
              static_cast<uint64_t>(def.attr_int("seed2", 0))) {
    if (seed_ == 0) seed_ = std::random_device()() | uint64_t{std::random_device()()} << 32;
  }
  uint64_t next() {
    std::lock_guard lock(mutex_);
    return seed_ + kStep * executions_++;
  }

 private:
  static constexpr uint64_t kStep = 0x9e3779b97f4a7c15;
  std::mutex mutex_;
  uint64_t seed_, executions_ = 0;
};

struct Operands : RnnForwardMemory {
  TF_DataType dtype;
  BufferSlice input, h, c, parameters;     // of the op
  BufferSlice output, output_h, output_c;  // of the op
  BufferSlice x, weights;                  // float32
  BufferSlice transposed, dropped;
};

class Forward : public RnnForward {
 public:
  Forward(NativeCall& native, const RnnRun& run, const Operands& o, BufferSlice lengths, bool drops)
      : RnnForward(native, run, o, lengths), o_(o), drops_(drops) {}

  void encode(const RnnHeader& key) {
    encode_header(key);
    if (o_.x.block != o_.input.block) load_sequence(o_.input, o_.dtype, o_.x, run.input);
    if (o_.weights.block != o_.parameters.block) {
      load_flat(o_.parameters, o_.dtype, o_.weights, run.parameters());
    }
    load_states(o_.h, o_.dtype, o_.h0, run.output);
    if (run.cell == kRnnLstm) load_states(o_.c, o_.dtype, o_.c0, run.units);
    BufferSlice input = o_.x;
    for (int64_t layer = 0; layer < run.layers; ++layer) {
      if (layer > 0 && drops_) {
        drop(input, o_.dropped, layer);
        input = o_.dropped;
      }
      for (int64_t d = 0; d < run.directions; ++d) {
        encode_cell(layer, d, input, weights(layer * run.directions + d));
        store_states(layer, d);
      }
      input = output_of(layer);
    }
    store_sequence(input, o_.output, o_.dtype, run.state());
  }

 private:
  // Transposes those of the state: a product needs them once for each step.
  RnnWeights weights(int64_t index) {
    const RnnModel::Cell parameters = run.cell_parameters(index);
    const int64_t rows = run.gates() * run.units;
    const RnnTransposeArguments t{static_cast<unsigned>(rows), static_cast<unsigned>(run.output)};
    dispatch("rnn_transpose", rows, (run.output + 7) / 8, 1,
             {{floats_from(o_.weights, parameters.state.offset)},
              {o_.transposed},
              NativeCall::value(t)});
    return {.input = {matrix_of(o_.weights, parameters.input), false},
            .state = {{o_.transposed, run.output, rows, rows}, true},
            .projection = matrix_of(o_.weights, parameters.projection),
            .biases = floats_from(o_.weights, parameters.biases.offset)};
  }

  void store_states(int64_t layer, int64_t direction) {
    const int64_t index = layer * run.directions + direction;
    const MatrixView last = hidden(layer, direction, run.steps);
    store_state(last.data, last.stride, o_.output_h, o_.dtype, index, run.output);
    if (run.cell != kRnnLstm) return;
    store_state(cell_state(index, direction, run.steps), run.units, o_.output_c, o_.dtype, index,
                run.units);
  }

  const Operands& o_;
  const bool drops_;
};

// The reserve space is of the op's type: enough elements to hold the floats.
TensorInfo reserve_info(TF_DataType dtype, int64_t floats) {
  return {dtype, {floats * static_cast<int64_t>(sizeof(float) / size_of(dtype))}};
}

}  // namespace

template <int version>
void rnn_forward(KernelCall& call) {
  Node node = call.node();
  const RnnRun run = RnnRun::make(node, version);
  const TF_DataType dtype = node.in(0).dtype;
  const bool training = node.def->attr_bool("is_training", true), lstm = run.cell == kRnnLstm;
  node.outputs = {{dtype, run.sequence_shape(run.state())},
                  {dtype, run.state_shape(run.output)},
                  {dtype, lstm ? run.state_shape(run.units) : Shape()},
                  training ? reserve_info(dtype, run.reserve()) : TensorInfo{dtype, {}}};
  RnnMemory memory(call);
  Operands o;
  o.dtype = dtype;
  o.input = memory.use(call.input_slice(0)), o.h = memory.use(call.input_slice(1));
  o.c = memory.use(call.input_slice(2)), o.parameters = memory.use(call.input_slice(3));
  o.output = memory.use(call.allocate_output(0, node.out(0)));
  o.output_h = memory.use(call.allocate_output(1, node.out(1)));
  o.output_c = memory.use(call.allocate_output(2, node.out(2)));
  const BufferSlice reserve = memory.use(call.allocate_output(3, node.out(3)));
  if (version > 1) {
    // Which algorithm cuDNN chose: there is one here.
    const TensorInfo info{TF_INT8, training ? Shape{2} : Shape()};
    std::memset(call.allocate_host_output(4, info), 0, info.bytes());
  }
  o.reserve = training ? reserve : memory.temp(run.reserve());
  const bool as_is = dtype == TF_FLOAT && run.time_major && !run.is_masked();
  o.x = as_is ? o.input : memory.temp(run.rows() * run.input);
  o.weights = dtype == TF_FLOAT ? o.parameters : memory.temp(run.parameters());
  o.h0 = memory.temp(run.cells() * run.batch * run.output);
  o.c0 = memory.temp(lstm ? run.cells() * run.batch * run.units : 0);
  o.transposed = memory.temp(run.gates() * run.units * run.output);
  o.state = memory.temp(run.cell == kRnnGru ? run.batch * 3 * run.units : 0);
  const bool drops = training && run.dropout > 0;
  o.dropped = memory.temp(drops ? run.rows() * run.state() : 0);
  const BufferSlice lengths = memory.lengths(run);
  const uint64_t key = drops ? call.kernel().state<DropoutKeys>().next() : 0;
  const RnnHeader header{std::numeric_limits<int>::max(),
                         {static_cast<unsigned>(key), static_cast<unsigned>(key >> 32)}};
  const size_t bytes = static_cast<size_t>(run.reserve()) * sizeof(float) + node.in(3).bytes();
  call.encode(node, memory.uses(), {}, bytes, [&](NativeCall& native) {
    Forward forward(native, run, o, lengths, drops);
    forward.encode(header);
    if (!lstm) forward.clear(o.output_c, dtype, 1);
    if (!training) forward.clear(reserve, dtype, 1);
  });
}

template void rnn_forward<1>(KernelCall&);
template void rnn_forward<2>(KernelCall&);
template void rnn_forward<3>(KernelCall&);

}  // namespace tfmetal
