// A loop over time of a standard recurrent cell as one op (grappler/rnn).
//
//   _MetalRnn(x: T, states: S * T, weights: T, state_weights: T, biases: B * T,
//             limits: N * int32, length: int32) -> outputs: T, h: T, c: T
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
//     element_shape  of the list of outputs: a list without elements stacks only if it is known
//
// The gates are in Keras' order: LSTM i, f, g, o; GRU z, r, n with the reset gate after the
// product. Errors are those of the loop: InvalidArgument where it reads or writes behind the end of
// a list.
#include <algorithm>
#include <limits>

#include "kernels/native/rnn_forward.h"
#include "plugin/error.h"
#include "plugin/op_definition.h"

namespace tfmetal {

namespace {

constexpr const char* kOp = "_MetalRnn";

struct Loop {
  RnnRun run;
  bool keeps_all, keeps_last;
  int64_t length;
  // Where the inputs are.
  size_t weights, biases, num_biases;
  bool repeats_x, repeats_h, repeats_c;
};

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

void check_steps(const Node& node, const Loop& loop) {
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

Loop make_loop(const Node& node) {
  const NodeDef& def = *node.def;
  const size_t states = size_t(def.attr_int("S")), limits = size_t(def.attr_int("N"));
  Loop loop;
  loop.weights = 1 + states;
  loop.biases = loop.weights + 2;
  loop.num_biases = size_t(def.attr_int("B"));
  for (size_t i = 0; i < loop.biases; ++i) {
    const size_t rank = i == 0 ? 3 : 2;
    if (node.in(i).rank() != rank) fail(node, concat("input ", i, " must have rank ", rank));
  }
  const auto extent = [&](size_t input, size_t axis) { return node.in(input).shape[axis]; };
  const size_t c = states;  // h where there is no c
  RnnRun& run = loop.run;
  static_cast<RnnModel&>(run) = RnnModel::make(def, 1, extent(loop.weights + 1, 0), extent(0, 2));
  const int64_t rows = run.gates() * run.units;
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
  loop.keeps_all = def.attr_string("keeps") == "all";
  loop.keeps_last = def.attr_string("keeps") == "last";
  check_steps(node, loop);
  run.check_size(node);
  return loop;
}

// What a list stacks to: the elements have the shape that was written, or the one it was made with.
Shape stacked_shape(const Node& node, const Loop& loop) {
  if (!loop.keeps_all && !loop.keeps_last) return {0};
  const int64_t length = loop.keeps_all ? loop.length : 1;
  if (loop.run.steps > 0) return {length, loop.run.batch, loop.run.units};
  const PartialShape element = node.def->attr_shape("element_shape");
  if (!element.fully_defined()) {
    fail(node, "Tried to stack a list without elements and with a non-fully-defined element_shape");
  }
  Shape shape = element.dims;
  shape.insert(shape.begin(), length);
  return shape;
}

struct Operands : RnnForwardMemory {
  BufferSlice x, weights, state_weights, biases;  // float32
};

class LoopEncoder : public RnnForward {
 public:
  LoopEncoder(NativeCall& native, const Loop& loop, const Operands& o)
      : RnnForward(native, loop.run, o, {}), loop_(loop), o_(o), dtype_(native.node.in(0).dtype) {}

  void encode() {
    encode_header({std::numeric_limits<int>::max(), {0, 0}});
    if (o_.x.block != in(0).block) load_sequence(in(0), dtype_, o_.x, run.input, loop_.repeats_x);
    load_states(in(1), dtype_, o_.h0, run.units, loop_.repeats_h);
    if (run.cell == kRnnLstm) load_states(in(2), dtype_, o_.c0, run.units, loop_.repeats_c);
    encode_cell(0, 0, o_.x, load_weights());
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
  BufferSlice in(size_t i) const { return native.inputs[i]; }

  RnnWeights load_weights() {
    const int64_t rows = run.gates() * run.units;
    if (dtype_ != TF_FLOAT) {
      load_flat(in(loop_.weights), dtype_, o_.weights, run.input * rows);
      load_flat(in(loop_.weights + 1), dtype_, o_.state_weights, run.units * rows);
    }
    for (size_t i = 0; i < 2; ++i) {
      const BufferSlice to = floats_from(o_.biases, int64_t(i) * rows);
      if (i < loop_.num_biases) {
        load_flat(in(loop_.biases + i), dtype_, to, rows);
      } else {
        clear(to, TF_FLOAT, rows);
      }
    }
    return {.input = {o_.weights, run.input, rows, rows},
            .input_in_columns = true,
            .state = {o_.state_weights, run.units, rows, rows},
            .projection = {},
            .biases = o_.biases};
  }

  const Loop& loop_;
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

Operands allocate(KernelCall& call, const Loop& loop, TF_DataType dtype, RnnMemory* memory) {
  const RnnRun& run = loop.run;
  const int64_t rows = run.gates() * run.units, state = run.batch * run.units;
  const bool is_float = dtype == TF_FLOAT, lstm = run.cell == kRnnLstm;
  const auto widened = [&](size_t input, bool as_is) {
    return as_is ? call.input_slice(input) : memory->temp(call.input_info(input).count());
  };
  Operands o;
  o.x = is_float && !loop.repeats_x ? call.input_slice(0) : memory->temp(run.rows() * run.input);
  o.weights = widened(loop.weights, is_float);
  o.state_weights = widened(loop.weights + 1, is_float);
  o.biases = memory->temp(2 * rows);
  o.h0 = memory->temp(state);
  o.c0 = memory->temp(lstm ? state : 0);
  o.state = memory->temp(run.cell == kRnnGru ? run.batch * rows : 0);
  o.reserve = memory->temp(run.reserve());
  return o;
}

void rnn_loop(KernelCall& call) {
  Node node = call.node();
  const Loop loop = make_loop(node);
  const RnnRun& run = loop.run;
  const TF_DataType dtype = node.in(0).dtype;
  const bool steps = run.steps > 0, lstm = run.cell == kRnnLstm;
  const Shape state = {run.batch, run.units};
  node.outputs = {{dtype, stacked_shape(node, loop)},
                  {dtype, steps ? state : node.in(1).shape},
                  {dtype, !lstm   ? Shape{0}
                          : steps ? state
                                  : node.in(2).shape}};
  RnnMemory memory(call);
  std::vector<BufferSlice> inputs, outputs;
  for (size_t i = 0; i < loop.biases + loop.num_biases; ++i) {
    inputs.push_back(call.input_slice(i));
  }
  for (size_t i = 0; i < node.outputs.size(); ++i) {
    outputs.push_back(call.allocate_output(i, node.out(i)));
  }
  if (!steps) {
    return call.encode(node, inputs, outputs, node.out(0).bytes(), encode_no_step);
  }
  if (run.batch == 0 || run.units == 0) return;  // outputs without elements
  const Operands o = allocate(call, loop, dtype, &memory);
  inputs.insert(inputs.end(), memory.uses().begin(), memory.uses().end());
  const size_t bytes = size_t(run.reserve()) * sizeof(float);
  call.encode(node, inputs, outputs, bytes,
              [&](NativeCall& native) { LoopEncoder(native, loop, o).encode(); });
}

void define() {
  define_op({kOp,
             {"T: {half, bfloat16, float}", "S: int >= 1", "B: int >= 0", "N: int >= 1",
              "rnn_mode: {'lstm', 'gru', 'rnn_tanh', 'rnn_relu'}", "keeps: {'all', 'last', 'none'}",
              "element_shape: shape"},
             {"x: T", "states: S * T", "weights: T", "state_weights: T", "biases: B * T",
              "limits: N * int32", "length: int32"},
             {"outputs: T", "h: T", "c: T"}});
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
