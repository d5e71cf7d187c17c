// BlockLSTM and BlockLSTMV2, and the rows of their gradients.
#include "kernels/native/block_lstm.h"

#include <limits>

#include "kernels/families.h"
#include "kernels/msl/arguments.h"
#include "kernels/native/elements.h"
#include "plugin/error.h"

namespace tfmetal {

// ---- shared with the gradient ------------------------------------------------------------------

BlockLstm::BlockLstm(const Node& node)
    : dtype(node.in(kX).dtype),
      time(node.in(kX).shape[0]),
      steps(node.host_int(0)),
      batch(node.in(kX).shape[1]),
      input(node.in(kX).shape[2]),
      units(node.in(kCellBefore).shape[1]),
      peepholes(uses_peepholes(node)),
      input_cell_first(!node.op().ends_with("V2")) {}

BlockLstmArguments BlockLstm::arguments(int64_t step) const {
  BlockLstmArguments a = {};
  a.units = static_cast<unsigned>(units);
  a.c_gate = input_cell_first ? 1 : 2;
  a.f_gate = input_cell_first ? 2 : 1;
  a.row = static_cast<long>(step * batch);
  a.previous_row = static_cast<long>(std::max<int64_t>(step - 1, 0) * batch);
  return a;
}

std::string BlockLstm::shader(const char* stem) const {
  return shader_name(std::string(stem) + (peepholes ? "_peephole" : ""), dtype);
}

void convert(NativeCall& call, BufferSlice from, TF_DataType from_type, BufferSlice to,
             TF_DataType to_type, int64_t count) {
  if (count == 0) return;
  if (from_type == to_type) {
    return call.copy(from, to, static_cast<size_t>(count) * size_of(to_type));
  }
  const CastArguments arguments = {element_type(from_type), 0};
  if (count > INT32_MAX) {  // beyond kernels/msl/lane.h
    return call.dispatch(shader_name("cast_to", to_type), count,
                         {{from}, {to}, NativeCall::value(arguments)});
  }
  call.dispatch(shader_name(shader_name("cast", from_type) + "_to", to_type), count,
                {{from}, {to}});
}

BufferSlice widen(NativeCall& call, const BlockLstm& lstm, BlockLstmInput input, int64_t count,
                  BufferSlice memory) {
  if (lstm.is_float()) return call.inputs[input];
  convert(call, call.inputs[input], lstm.dtype, memory, TF_FLOAT, count);
  return memory;
}

void append_peepholes(const NativeCall& call, const BlockLstm& lstm,
                      std::vector<ShaderArgument>* arguments) {
  for (size_t i = 0; i < 3; ++i) {
    arguments->push_back(call.in(lstm.peepholes ? kPeepholes + i : size_t(kBias)));
  }
}

void clear_output(NativeCall& call, size_t output, int64_t begin) {
  const TensorInfo& info = call.node.out(output);
  const int64_t count = info.count() - begin;
  if (count == 0) return;
  call.clear(after(call.outputs[output], begin, info.dtype),
             static_cast<size_t>(count) * size_of(info.dtype));
}

void check_block_lstm(const Node& node, Peepholes peepholes) {
  if (node.in(0).rank() != 0) {
    throw_invalid_argument(node.describe(), ": seq_len_max must be rank 0 but is rank ",
                           node.in(0).rank());
  }
  check_lstm(node, kX, peepholes);
  const int64_t time = node.in(kX).shape[0], steps = node.host_int(0);
  if (steps >= 0 && steps <= time) return;
  throw_invalid_argument(node.describe(), ": seq_len_max must be between 0 and ", time, " but is ",
                         steps);
}

// ---- the op ------------------------------------------------------------------------------------

namespace {

struct Memory {
  Memory(const BlockLstm& lstm, BlockLstmMemory& memory)
      : gates(memory.floats(lstm.rows() * lstm.gates())),
        c(memory.floats(lstm.state())),
        h(memory.floats(lstm.state())),
        x(memory.widened(lstm, lstm.rows() * lstm.input)),
        weights(memory.widened(lstm, (lstm.input + lstm.units) * lstm.gates())) {}
  BufferSlice gates, c, h, x, weights;
};

size_t scratch(const Node& node) {
  BlockLstmMemory memory;
  Memory(BlockLstm(node), memory);
  return memory.used();
}

// The state is in memory of its own from the beginning, where each step replaces it.
void encode_steps(NativeCall& call, const BlockLstm& lstm, const Memory& m, BufferSlice weights) {
  const int64_t gates = lstm.gates(), units = lstm.units, batch = lstm.batch;
  const std::string shader = lstm.shader("block_lstm");
  const MatrixView h{m.h, batch, units, units}, state_weights{weights, units, gates, gates};
  const float forget_bias = call.node.def->attr_float("forget_bias", 0);
  const float clip = call.node.def->attr_float("cell_clip", 0);
  for (int64_t step = 0; step < lstm.steps; ++step) {
    call.multiply({.left = h,
                   .right = state_weights,
                   .result = {after(m.gates, step * batch * gates), batch, gates, gates},
                   .accumulate = true});
    BlockLstmArguments a = lstm.arguments(step);
    a.forget_bias = forget_bias;
    a.clip = clip > 0 ? clip : std::numeric_limits<float>::infinity();
    std::vector<ShaderArgument> arguments = {{m.gates}, call.in(kBias)};
    append_peepholes(call, lstm, &arguments);
    arguments.push_back({m.c});
    arguments.push_back({m.h});
    for (size_t i = 0; i < call.node.outputs.size(); ++i) arguments.push_back(call.out(i));
    arguments.push_back(NativeCall::value(a));
    call.dispatch(shader, mtl::Size{NSUInteger(units), NSUInteger(batch), 1}, arguments);
  }
}

void block_lstm(NativeCall& call) {
  const BlockLstm lstm(call.node);
  // TensorFlow clears cs and h only, and leaves the rest behind the last step undefined.
  for (size_t i = 0; i < call.node.outputs.size(); ++i) {
    clear_output(call, i, lstm.steps * lstm.state());
  }
  if (lstm.rows() == 0) return;
  BlockLstmMemory memory(call.scratch());
  const Memory m(lstm, memory);
  const int64_t gates = lstm.gates(), rows = lstm.rows(), input = lstm.input;
  convert(call, call.inputs[kCellBefore], lstm.dtype, m.c, TF_FLOAT, lstm.state());
  convert(call, call.inputs[kStateBefore], lstm.dtype, m.h, TF_FLOAT, lstm.state());
  const BufferSlice x = widen(call, lstm, kX, rows * input, m.x);
  const BufferSlice weights = widen(call, lstm, kWeights, (input + lstm.units) * gates, m.weights);
  call.multiply({.left = {x, rows, input, input},
                 .right = {weights, input, gates, gates},
                 .result = {m.gates, rows, gates, gates}});
  encode_steps(call, lstm, m, after(weights, input * gates));
}

OpRow row(const char* op, Launch launch, size_t (*scratch)(const Node&),
          void (*check)(const Node&)) {
  return {.op = op,
          .types = T({TF_FLOAT, TF_HALF}),  // all that the definitions allow
          .host = {{"seq_len_max", HostUse::kArg}},
          .launch = launch,
          .takes_empty = true,
          .check = check,
          .scratch = scratch,
          .precision = Precision::kAllow};
}

}  // namespace

std::vector<OpRow> block_lstm_ops() {
  const auto check = [](const Node& node) { check_block_lstm(node, Peepholes::kAlways); };
  const auto check_grad = [](const Node& node) { check_block_lstm(node, Peepholes::kIfUsed); };
  return {row("BlockLSTM", block_lstm, scratch, check),
          row("BlockLSTMV2", block_lstm, scratch, check),
          row("BlockLSTMGrad", block_lstm_grad, block_lstm_grad_scratch, check_grad),
          row("BlockLSTMGradV2", block_lstm_grad, block_lstm_grad_scratch, check_grad)};
}

}  // namespace tfmetal
