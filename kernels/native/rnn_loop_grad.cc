// The gradient of a loop over time (rnn_loop.cc) as one op.
//
//   _MetalRnnGrad(x: T, states: S * T, weights: T, state_weights: T, biases: B * T,
//                 limits: N * int32, length: int32,
//                 reserve: float, doutputs: Y * T, dstates: S * T)
//       -> dx: T, dh: T, dc: T, dweights: D, dstate_weights: D, dbiases: B * D
//     x ... length    those of _MetalRnn
//     reserve         its output, in training
//     doutputs        with respect to its outputs, of their shape; Y = 0: nothing depends on them
//     dstates         with respect to its h, and its c of an LSTM
//     dx              of the shape of x; zeros for steps that did not run
//     dh, dc          with respect to the initial states, of their shape; dc is empty unless
//                     rnn_mode is lstm
//     dweights ...    of the shapes of the weights, in a type that may be wider than theirs
//     input_gradient  false: dx is [0], and its product is not computed
//
// Where one batch row serves for all, in x or in a state, its gradient is the sum over the batch.
// All is float32 until results are rounded, once. Without a step, dh and dc are dstates.
#include "kernels/native/rnn_backward.h"
#include "kernels/native/rnn_loop.h"
#include "plugin/error.h"
#include "plugin/op_definition.h"

namespace tfmetal {

namespace {

constexpr const char* kOp = "_MetalRnnGrad";
// Outputs.
constexpr size_t kX = 0, kH = 1, kC = 2, kWeights = 3, kStateWeights = 4, kBiases = 5;

struct Loop : RnnLoop {
  // Where the inputs are.
  size_t doutputs, dstates;
  bool has_doutputs, input_gradient;

  explicit Loop(const Node& node) : RnnLoop(make(node)) {
    doutputs = end + 1;
    const int64_t given = node.def->attr_int("Y");
    if (given > 1) throw_invalid_argument(node.describe(), ": more than one tensor of doutputs");
    has_doutputs = given > 0;
    dstates = doutputs + size_t(given);
    input_gradient = node.def->attr_bool("input_gradient");
    check_rnn_shape(node, end, {reserve()}, "reserve");
    if (has_doutputs) check_rnn_shape(node, doutputs, outputs_shape(node), "doutputs");
    for (size_t i = 0; i < size_t(node.def->attr_int("S")); ++i) {
      check_rnn_shape(node, dstates + i, last_state_shape(node, i), concat("dstates[", i, "]"));
    }
  }

  std::vector<TensorInfo> outputs(const Node& node) const {
    const TF_DataType dtype = node.in(0).dtype, wide = node.def->attr_type("D");
    std::vector<TensorInfo> all = {node.in(0), node.in(1), {dtype, {0}}};
    if (!input_gradient) all[kX].shape = {0};
    if (run.cell == kRnnLstm) all[kC] = node.in(2);
    for (size_t i = weights; i < biases + num_biases; ++i) all.push_back({wide, node.in(i).shape});
    return all;
  }
};

struct Operands : RnnBackwardMemory {
  RnnLoopOperands loop;
  BufferSlice dx, dy, transposed;
  std::vector<BufferSlice> parameters;  // of the outputs from kWeights on
};

class Gradient : public RnnBackward {
 public:
  Gradient(NativeCall& native, const Loop& loop, const Operands& o)
      : RnnBackward(native, loop.run, o, {}), loop_(loop), o_(o), dtype_(native.node.in(0).dtype) {}

  void encode() {
    o_.loop.load(this, loop_, o_);
    load_gradients();
    RnnWeights weights = o_.loop.matrices(loop_, {});
    weights.state = transposed(weights.state.view);
    encode_cell(0, 0, o_.loop.x, o_.dy, weights, gradients());
    store_parameters();
    store_state_gradient(o_.dh0, kH, loop_.repeats_h);
    if (run.cell == kRnnLstm) store_state_gradient(o_.dc0, kC, loop_.repeats_c);
    if (!loop_.input_gradient) return;
    encode_input(0, 0, weights, o_.dx);
    store_input_gradient();
  }

 private:
  BufferSlice in(size_t i) const { return native.inputs[i]; }
  int64_t state() const { return run.batch * run.units; }

  // Each step multiplies by it: the product is faster where its rows are those of the gates.
  RnnGatesMatrix transposed(const MatrixView& state) {
    const RnnTransposeArguments t{static_cast<unsigned>(state.rows),
                                  static_cast<unsigned>(state.columns)};
    dispatch("rnn_transpose", state.rows, (state.columns + 7) / 8, 1,
             {{state.data}, {o_.transposed}, NativeCall::value(t)});
    return {{o_.transposed, state.columns, state.rows, state.rows}, false};
  }

  void load_gradients() {
    clear(o_.dh0, TF_FLOAT, state());
    load_states(in(loop_.dstates), dtype_, o_.dhn, run.units);
    if (run.cell == kRnnLstm) load_states(in(loop_.dstates + 1), dtype_, o_.dc0, run.units);
    if (loop_.has_doutputs && loop_.keeps_all) {
      return load_sequence(in(loop_.doutputs), dtype_, o_.dy, run.units);
    }
    clear(o_.dy, TF_FLOAT, run.steps * state());
    if (!loop_.has_doutputs || !loop_.keeps_last) return;
    const BufferSlice last = floats_from(o_.dy, (run.steps - 1) * state());
    load_flat(in(loop_.doutputs), dtype_, last, state());
  }

  RnnWeightGradients gradients() const {
    const auto to = [&](size_t output) { return o_.parameters[output - kWeights]; };
    const auto bias = [&](size_t i) {
      return i < loop_.num_biases ? to(kBiases + i) : BufferSlice{};
    };
    const int64_t rows = loop_.rows();
    return {.input = {{to(kWeights), run.input, rows, rows}, true},
            .state = {{to(kStateWeights), run.units, rows, rows}, true},
            .projection = {},
            .input_bias = bias(0),
            .state_bias = bias(1)};
  }

  void store_parameters() {
    for (size_t i = 0; i < o_.parameters.size(); ++i) {
      const TensorInfo& info = native.node.out(kWeights + i);
      if (info.dtype == TF_FLOAT) continue;
      store_flat(o_.parameters[i], native.outputs[kWeights + i], info.dtype, info.count());
    }
  }

  void store_state_gradient(BufferSlice from, size_t output, bool repeats) {
    if (repeats) sum_batch(from, run.units, from, run.units);
    store_flat(from, native.outputs[output], dtype_, native.node.out(output).count());
  }

  void store_input_gradient() {
    const TensorInfo& info = native.node.out(kX);
    const int64_t row = info.shape[1] * run.input, given = run.steps * row;
    BufferSlice rest = native.outputs[kX];
    if (loop_.repeats_x) {
      // The sums close up behind each other: none is written where rows are still to be read.
      for (int64_t t = 0; t < run.steps; ++t) {
        sum_batch(floats_from(o_.dx, t * run.batch * run.input), run.input,
                  floats_from(o_.dx, t * run.input), run.input);
      }
    }
    if (dtype_ != TF_FLOAT || loop_.repeats_x) store_flat(o_.dx, rest, dtype_, given);
    rest.offset += size_t(given) * size_of(dtype_);
    clear(rest, dtype_, info.count() - given);
  }

  const Loop& loop_;
  const Operands& o_;
  const TF_DataType dtype_;
};

// No step, or nothing that it computes: all is zero but what the states hand through.
void encode_nothing(NativeCall& native, const Loop& loop) {
  const std::vector<TensorInfo>& outputs = native.node.outputs;
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (outputs[i].count() == 0) continue;
    if (loop.run.steps == 0 && (i == kH || i == kC)) {
      native.copy(native.inputs[loop.dstates + i - kH], native.outputs[i], outputs[i].bytes());
    } else {
      native.clear(native.outputs[i], outputs[i].bytes());
    }
  }
}

Operands allocate(KernelCall& call, const Loop& loop, const Node& node,
                  const std::vector<BufferSlice>& outputs, RnnMemory* memory) {
  const RnnRun& run = loop.run;
  const int64_t state = run.batch * run.units, gates = run.rows() * loop.rows();
  const bool is_float = node.in(0).dtype == TF_FLOAT, lstm = run.cell == kRnnLstm;
  Operands o;
  o.loop.allocate(call, loop, memory, &o);
  o.reserve = call.input_slice(loop.end);
  o.dh0 = memory->temp(state), o.dhn = memory->temp(state);
  o.dc0 = memory->temp(lstm ? state : 0);
  o.dy = memory->temp(run.steps * state);
  o.transposed = memory->temp(run.units * loop.rows());
  o.dgates = memory->temp(gates);
  o.dstate_gates = run.cell == kRnnGru ? memory->temp(gates) : o.dgates;
  o.dbias = memory->temp(run.batch * run.saved() * run.units);
  const bool writes_input = is_float && !loop.repeats_x;
  const int64_t input = loop.input_gradient ? run.rows() * run.input : 0;
  o.dx = writes_input ? outputs[kX] : memory->temp(input);
  for (size_t i = kWeights; i < outputs.size(); ++i) {
    const TensorInfo& info = node.out(i);
    o.parameters.push_back(info.dtype == TF_FLOAT ? outputs[i] : memory->temp(info.count()));
  }
  return o;
}

void rnn_loop_grad(KernelCall& call) {
  Node node = call.node();
  const Loop loop(node);
  node.outputs = loop.outputs(node);
  RnnMemory memory(call);
  std::vector<BufferSlice> inputs, outputs;
  for (size_t i = 0; i < call.num_inputs(); ++i) inputs.push_back(call.input_slice(i));
  for (size_t i = 0; i < node.outputs.size(); ++i) {
    outputs.push_back(call.allocate_output(i, node.out(i)));
  }
  if (loop.is_empty()) {
    return call.encode(node, inputs, outputs, node.out(kX).bytes(),
                       [&](NativeCall& native) { encode_nothing(native, loop); });
  }
  const Operands o = allocate(call, loop, node, outputs, &memory);
  inputs.insert(inputs.end(), memory.uses().begin(), memory.uses().end());
  const size_t bytes = 2 * size_t(loop.run.reserve()) * sizeof(float);
  call.encode(node, inputs, outputs, bytes,
              [&](NativeCall& native) { Gradient(native, loop, o).encode(); });
}

void define() {
  define_op(
      {kOp,
       {"T: {half, bfloat16, float}", "D: {half, bfloat16, float}", "S: int >= 1", "B: int >= 0",
        "N: int >= 1", "Y: int >= 0", "rnn_mode: {'lstm', 'gru', 'rnn_tanh', 'rnn_relu'}",
        "keeps: {'all', 'last', 'none'}", "element_shape: shape", "input_gradient: bool"},
       {"x: T", "states: S * T", "weights: T", "state_weights: T", "biases: B * T",
        "limits: N * int32", "length: int32", "reserve: float", "doutputs: Y * T",
        "dstates: S * T"},
       {"dx: T", "dh: T", "dc: T", "dweights: D", "dstate_weights: D", "dbiases: B * D"}});
}

}  // namespace

OpRow rnn_loop_grad_row() {
  return {.op = kOp,
          .types = {{"T", kFloats}, {"D", kFloats}},
          .host = {{"limits", HostUse::kArg}, {"length", HostUse::kArg}},
          .run = rnn_loop_grad,
          .cluster = ClusterPolicy::kNever,
          .precision = Precision::kAllow,
          .keeps_type = "D",
          .define = define};
}

}  // namespace tfmetal
