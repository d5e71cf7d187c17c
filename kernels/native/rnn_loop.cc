// A loop over time of a standard recurrent cell as one op (grappler/rnn).
//
//   _MetalRnn(x: T, states: S * T, weights: T, state_weights: T, biases: B * T,
//             limits: N * int32, length: int32)
//       -> outputs: T, h: T, c: T, reserve: float
//     x              [time, batch, features]
//     states         h [batch, units], and c of an LSTM; one batch row, here or in x, serves for
//     all weights        [features, gates * units]: a matrix product with x_t on the left
//     state_weights  [units, gates * units]
//     biases         none, that of the input, or also that of the state; [gates * units] each
//     limits         in host memory: the loop makes as many steps as the least of them says
//     length         in host memory: elements of the list of outputs
//     outputs        keeps = "all":  [length, batch, units], zeros where no step wrote
//                    keeps = "last": [1, batch, units], the last step's
//                    keeps = "none": [0]
//     h, c           the states behind the last step; c is empty unless rnn_mode is lstm
//     reserve        training: what _MetalRnnGrad needs of the steps, if there are any; else [0]
//     element_shape  of the list of outputs: a list without elements stacks only if it is known
//
// The gates are in Keras' order: LSTM i, f, g, o; GRU z, r, n with the reset gate after the
// product. Errors are those of the loop: InvalidArgument where it reads or writes behind the end of
// a list.
#include "kernels/native/rnn_loop.h"

#include <algorithm>
#include <limits>

#include "kernels/native/rnn_forward.h"
#include "plugin/error.h"
#include "plugin/op_definition.h"

namespace tfmetal {

// ---- operands ----------------------------------------------------------------------------------

namespace {

[[noreturn]] void fail(const Node& node, const std::string& what) {
  throw_invalid_argument(node.describe(), ": ", what);
}

void require(const Node& node, size_t input, const Shape& shape) {
  if (node.in(input).shape == shape) return;
  fail(node, concat("input ", input, " must have shape ", to_string(shape)));
}

// The extent that others broadcast to.
int64_t broadcast(const Node& node, std::initializer_list<int64_t> extents) {
  int64_t result = 1;
  for (const int64_t extent : extents) {
    if (extent == 1) continue;
    if (result != 1 && result != extent) fail(node, "the batches have different sizes");
    result = extent;
  }
  return result;
}

void check_steps(const Node& node, const RnnLoop& loop) {
  const int64_t time = node.in(0).shape[0];
  if (loop.run.steps > time) {
    fail(node, concat("Trying to access element ", time, " in a list with ", time, " elements"));
  }
  const bool writes_behind = loop.keeps_all && loop.run.steps > loop.length;
  if (writes_behind) {
    fail(node, concat("Trying to modify element ", loop.length, " in a list with ", loop.length,
                      " elements"));
  }
}

}  // namespace

RnnLoop RnnLoop::make(const Node& node) {
  const NodeDef& def = *node.def;
  const size_t states = size_t(def.attr_int("S")), limits = size_t(def.attr_int("N"));
  RnnLoop loop;
  loop.weights = 1 + states;
  loop.biases = loop.weights + 2;
  loop.num_biases = size_t(def.attr_int("B"));
  const size_t cell_states = def.attr_string("rnn_mode") == "lstm" ? 2 : 1;
  if (states != cell_states) fail(node, concat(states, " states, not ", cell_states));
  if (loop.num_biases > 2) fail(node, "more than two biases");
  for (size_t i = 0; i < loop.biases; ++i) {
    const size_t rank = i == 0 ? 3 : 2;
    if (node.in(i).rank() != rank) fail(node, concat("input ", i, " must have rank ", rank));
  }
  const auto extent = [&](size_t input, size_t axis) { return node.in(input).shape[axis]; };
  const size_t c = states;  // h where there is no c
  RnnRun& run = loop.run;
  static_cast<RnnModel&>(run) = RnnModel::make(def, 1, extent(loop.weights + 1, 0), extent(0, 2));
  const int64_t rows = loop.rows();
  require(node, loop.weights, {run.input, rows});
  require(node, loop.weights + 1, {run.units, rows});
  for (size_t i = 0; i < loop.num_biases; ++i) require(node, loop.biases + i, {rows});
  run.batch = broadcast(node, {extent(0, 1), extent(1, 0), extent(c, 0)});
  for (size_t i = 1; i <= states; ++i) require(node, i, {extent(i, 0), run.units});
  loop.repeats_x = extent(0, 1) != run.batch;
  loop.repeats_h = extent(1, 0) != run.batch;
  loop.repeats_c = extent(c, 0) != run.batch;
  const size_t first_limit = loop.biases + loop.num_biases;
  run.steps = std::numeric_limits<int64_t>::max();
  for (size_t i = 0; i < limits; ++i)
    run.steps = std::min(run.steps, node.host_int(first_limit + i));
  run.steps = std::max<int64_t>(run.steps, 0);
  loop.length = node.host_int(first_limit + limits);
  loop.end = first_limit + limits + 1;
  loop.keeps_all = def.attr_string("keeps") == "all";
  loop.keeps_last = def.attr_string("keeps") == "last";
  check_steps(node, loop);
  run.check_size(node);
  return loop;
}

Shape RnnLoop::outputs_shape(const Node& node) const {
  if (!keeps_all && !keeps_last) return {0};
  const int64_t elements = keeps_all ? length : 1;
  if (run.steps > 0) return {elements, run.batch, run.units};
  const PartialShape element = node.def->attr_shape("element_shape");
  if (!element.fully_defined()) {
    fail(node, "Tried to stack a list without elements and with a non-fully-defined element_shape");
  }
  Shape shape = element.dims;
  shape.insert(shape.begin(), elements);
  return shape;
}

Shape RnnLoop::last_state_shape(const Node& node, size_t i) const {
  return run.steps > 0 ? Shape{run.batch, run.units} : node.in(1 + i).shape;
}

void RnnLoopOperands::allocate(KernelCall& call, const RnnLoop& loop, RnnMemory* memory,
                               RnnStates* states) {
  const RnnRun& run = loop.run;
  const int64_t state = run.batch * run.units;
  const bool is_float = call.input_info(0).dtype == TF_FLOAT;
  const auto widened = [&](size_t input) {
    return is_float ? call.input_slice(input) : memory->temp(call.input_info(input).count());
  };
  x = is_float && !loop.repeats_x ? call.input_slice(0) : memory->temp(run.rows() * run.input);
  weights = widened(loop.weights);
  state_weights = widened(loop.weights + 1);
  states->h0 = memory->temp(state);
  states->c0 = memory->temp(run.cell == kRnnLstm ? state : 0);
}

void RnnLoopOperands::load(RnnEncoder* encoder, const RnnLoop& loop,
                           const RnnStates& states) const {
  const RnnRun& run = loop.run;
  const auto in = [&](size_t i) { return encoder->native.inputs[i]; };
  const TF_DataType dtype = encoder->native.node.in(0).dtype;
  const bool is_float = dtype == TF_FLOAT;
  if (!is_float || loop.repeats_x) {
    encoder->load_sequence(in(0), dtype, x, run.input, loop.repeats_x);
  }
  encoder->load_states(in(1), dtype, states.h0, run.units, loop.repeats_h);
  if (run.cell == kRnnLstm) {
    encoder->load_states(in(2), dtype, states.c0, run.units, loop.repeats_c);
  }
  if (is_float) return;
  encoder->load_flat(in(loop.weights), dtype, weights, run.input * loop.rows());
  encoder->load_flat(in(loop.weights + 1), dtype, state_weights, run.units * loop.rows());
}

RnnWeights RnnLoopOperands::matrices(const RnnLoop& loop, BufferSlice biases) const {
  const int64_t rows = loop.rows();
  return {.input = {{weights, loop.run.input, rows, rows}, true},
          .state = {{state_weights, loop.run.units, rows, rows}, true},
          .projection = {},
          .biases = biases};
}

// ---- the op ------------------------------------------------------------------------------------

namespace {

constexpr const char* kOp = "_MetalRnn";

struct Operands : RnnForwardMemory {
  RnnLoopOperands loop;
  BufferSlice biases;
};

class LoopEncoder : public RnnForward {
 public:
  LoopEncoder(NativeCall& native, const RnnLoop& loop, const Operands& o)
      : RnnForward(native, loop.run, o, {}), loop_(loop), o_(o), dtype_(native.node.in(0).dtype) {}

  void encode() {
    encode_header({std::numeric_limits<int>::max(), {0, 0}});
    o_.loop.load(this, loop_, o_);
    load_biases();
    encode_cell(0, 0, o_.loop.x, o_.loop.matrices(loop_, o_.biases));
    const size_t row = size_t(run.batch * run.units) * size_of(dtype_);
    const BufferSlice outputs = native.outputs[0];
    if (loop_.keeps_all) {
      store_sequence(output_of(0), outputs, dtype_, run.units);
      const int64_t rest = loop_.length - run.steps;
      BufferSlice end = outputs;
      end.offset += size_t(run.steps) * row;
      clear(end, dtype_, rest * run.batch * run.units);
    }
    const MatrixView last = hidden(0, 0, run.steps);
    if (loop_.keeps_last) store_state(last.data, last.stride, outputs, dtype_, 0, run.units);
    store_state(last.data, last.stride, native.outputs[1], dtype_, 0, run.units);
    if (run.cell != kRnnLstm) return;
    store_state(cell_state(0, 0, run.steps), run.units, native.outputs[2], dtype_, 0, run.units);
  }

 private:
  void load_biases() {
    const int64_t rows = loop_.rows();
    for (size_t i = 0; i < 2; ++i) {
      const BufferSlice to = floats_from(o_.biases, int64_t(i) * rows);
      if (i < loop_.num_biases) {
        load_flat(native.inputs[loop_.biases + i], dtype_, to, rows);
      } else {
        clear(to, TF_FLOAT, rows);
      }
    }
  }

  const RnnLoop& loop_;
  const Operands& o_;
  const TF_DataType dtype_;
};

// No step: the states are what they were, and the list is empty.
void encode_no_step(NativeCall& native) {
  for (size_t i = 1; i <= size_t(native.node.def->attr_int("S")); ++i) {
    if (native.node.out(i).count() == 0) continue;
    native.copy(native.inputs[i], native.outputs[i], native.node.out(i).bytes());
  }
  if (native.node.out(0).count() > 0) native.clear(native.outputs[0], native.node.out(0).bytes());
}

void rnn_loop(KernelCall& call) {
  Node node = call.node();
  const RnnLoop loop = RnnLoop::make(node);
  const RnnRun& run = loop.run;
  const TF_DataType dtype = node.in(0).dtype;
  const bool lstm = run.cell == kRnnLstm, training = node.def->attr_bool("training", false);
  node.outputs = {{dtype, loop.outputs_shape(node)},
                  {dtype, loop.last_state_shape(node, 0)},
                  {dtype, lstm ? loop.last_state_shape(node, 1) : Shape{0}},
                  {TF_FLOAT, {training ? loop.reserve() : 0}}};
  RnnMemory memory(call);
  std::vector<BufferSlice> inputs, outputs;
  for (size_t i = 0; i < loop.biases + loop.num_biases; ++i) {
    inputs.push_back(call.input_slice(i));
  }
  for (size_t i = 0; i < node.outputs.size(); ++i) {
    outputs.push_back(call.allocate_output(i, node.out(i)));
  }
  if (run.steps == 0) {
    return call.encode(node, inputs, outputs, node.out(0).bytes(), encode_no_step);
  }
  if (loop.is_empty()) return;  // outputs without elements
  Operands o;
  o.loop.allocate(call, loop, &memory, &o);
  o.biases = memory.temp(2 * loop.rows());
  o.state = memory.temp(run.cell == kRnnGru ? run.batch * loop.rows() : 0);
  o.reserve = training ? outputs[3] : memory.temp(run.reserve());
  inputs.insert(inputs.end(), memory.uses().begin(), memory.uses().end());
  const size_t bytes = size_t(run.reserve()) * sizeof(float);
  call.encode(node, inputs, outputs, bytes,
              [&](NativeCall& native) { LoopEncoder(native, loop, o).encode(); });
}

void define() {
  define_op({kOp,
             {"T: {half, bfloat16, float}", "S: int >= 1", "B: int >= 0", "N: int >= 1",
              "rnn_mode: {'lstm', 'gru', 'rnn_tanh', 'rnn_relu'}", "keeps: {'all', 'last', 'none'}",
              "element_shape: shape", "training: bool = false"},
             {"x: T", "states: S * T", "weights: T", "state_weights: T", "biases: B * T",
              "limits: N * int32", "length: int32"},
             {"outputs: T", "h: T", "c: T", "reserve: float"}});
}

}  // namespace

OpRow rnn_loop_row() {
  return {.op = kOp,
          .types = T(kFloats),
          .host = {{"limits", HostUse::kArg}, {"length", HostUse::kArg}},
          .run = rnn_loop,
          .cluster = ClusterPolicy::kNever,
          .precision = Precision::kAllow,
          .define = define};
}

}  // namespace tfmetal
