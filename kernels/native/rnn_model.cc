#include <algorithm>
#include <limits>

#include "kernels/native/rnn.h"
#include "plugin/error.h"

namespace tfmetal {

namespace {

constexpr int64_t kAlignment = 64;  // floats

int64_t aligned(int64_t floats) { return (floats + kAlignment - 1) / kAlignment * kAlignment; }

RnnCell cell_of(const std::string& mode) {
  if (mode == "lstm") return kRnnLstm;
  if (mode == "gru") return kRnnGru;
  return mode == "rnn_tanh" ? kRnnTanh : kRnnRelu;
}

}  // namespace

RnnModel RnnModel::make(const NodeDef& def, int64_t layers, int64_t units, int64_t input) {
  RnnModel m;
  m.cell = cell_of(def.attr_string("rnn_mode", "lstm"));
  m.layers = layers;
  m.directions = def.attr_string("direction", "unidirectional") == "bidirectional" ? 2 : 1;
  m.units = units;
  m.input = input;
  const int64_t projection = def.attr_int("num_proj", 0);
  m.projected = projection != 0 && m.cell == kRnnLstm;
  m.output = m.projected ? projection : units;
  m.dropout = def.attr_float("dropout", 0.0f);
  const std::string mode = def.attr_string("input_mode", "linear_input");
  m.skips_input = mode == "skip_input" || (mode == "auto_select" && input == units);
  if (layers < 1 || units < 0 || input < 0 || m.output < 0 || m.output > units) {
    throw_invalid_argument(def.op, ": ", layers, " layers of ", units, " units, projected to ",
                           m.output, ", with ", input, " inputs");
  }
  if (m.skips_input && input != units) {
    throw_invalid_argument(def.op, ": input_mode skip_input needs as many inputs as units, not ",
                           input, " and ", units);
  }
  if (m.dropout < 0 || m.dropout > 1) {
    throw_invalid_argument(def.op, ": dropout must be in [0, 1], not ", m.dropout);
  }
  return m;
}

int64_t RnnModel::weights(int64_t index) const {
  const int64_t layer = index / directions, rows = gates() * units;
  return (skips(layer) ? 0 : rows * width(layer)) + rows * output +
         (projected ? output * units : 0);
}

RnnModel::Cell RnnModel::cell_parameters(int64_t index) const {
  int64_t offset = 0, all_weights = 0;
  for (int64_t i = 0; i < cells(); ++i) {
    if (i < index) offset += weights(i);
    all_weights += weights(i);
  }
  const int64_t layer = index / directions, rows = gates() * units;
  Cell c;
  c.input = {offset, rows, skips(layer) ? 0 : width(layer)};
  c.state = {c.input.offset + c.input.size(), rows, output};
  c.projection = {c.state.offset + c.state.size(), output, projected ? units : 0};
  c.biases = {all_weights + index * 2 * rows, 2 * rows, 1};
  return c;
}

int64_t RnnModel::parameters() const {
  const Region last = cell_parameters(cells() - 1).biases;
  return last.offset + last.size();
}

std::vector<RnnModel::Region> RnnModel::canonical_weights() const {
  std::vector<Region> regions;
  for (int64_t i = 0; i < cells(); ++i) {
    const Cell c = cell_parameters(i);
    for (const Region& all : {c.input, c.state}) {
      for (int64_t g = 0; g < gates(); ++g) {
        regions.push_back({all.offset + g * units * all.columns, units, all.columns});
      }
    }
    if (projected) regions.push_back(c.projection);
  }
  return regions;
}

std::vector<RnnModel::Region> RnnModel::canonical_biases() const {
  std::vector<Region> regions;
  for (int64_t i = 0; i < cells(); ++i) {
    const Region all = cell_parameters(i).biases;
    for (int64_t g = 0; g < 2 * gates(); ++g) {
      regions.push_back({all.offset + g * units, units, 1});
    }
  }
  return regions;
}

// ---- RnnRun ------------------------------------------------------------------------------------

namespace {

void require_rank(const Node& node, size_t input, size_t rank, const char* name) {
  if (node.in(input).rank() != rank) {
    throw_invalid_argument(node.describe(), ": RNN ", name, " must be a ", rank, "-D tensor");
  }
}

void require_shape(const Node& node, size_t input, const Shape& shape, const char* name) {
  if (node.in(input).shape != shape) {
    throw_invalid_argument(node.describe(), ": Invalid ", name,
                           " shape: ", to_string(node.in(input).shape), ", expected ",
                           to_string(shape));
  }
}

// Empty when every sequence has all steps.
std::vector<int32_t> read_lengths(const Node& node, size_t input, int64_t batch, int64_t steps) {
  if (node.in(input).count() != batch) {
    throw_invalid_argument(node.describe(), ": ", node.in(input).count(),
                           " sequence_lengths for a batch of ", batch);
  }
  std::vector<int32_t> lengths;
  for (int64_t length : node.host_ints(input)) {
    if (length < 0 || length > steps) {
      throw_invalid_argument(node.describe(), ": sequence length ", length, " is not in [0, ",
                             steps, "]");
    }
    lengths.push_back(static_cast<int32_t>(length));
  }
  const bool full =
      std::all_of(lengths.begin(), lengths.end(), [&](int32_t length) { return length == steps; });
  return full ? std::vector<int32_t>() : lengths;
}

}  // namespace

RnnRun RnnRun::make(const Node& node, int version) {
  const NodeDef& def = *node.def;
  require_rank(node, 0, 3, "input");
  require_rank(node, 1, 3, "input_h");
  const bool is_lstm = def.attr_string("rnn_mode", "lstm") == "lstm";
  if (is_lstm) require_rank(node, 2, 3, "input_c");
  const bool time_major = version < 3 || def.attr_bool("time_major", true);
  const size_t time_axis = time_major ? 0 : 1, batch_axis = 1 - time_axis;
  const int64_t cells = node.in(1).shape[time_axis];
  const int64_t directions =
      def.attr_string("direction", "unidirectional") == "bidirectional" ? 2 : 1;
  RnnRun run;
  static_cast<RnnModel&>(run) = RnnModel::make(
      def, cells / directions, node.in(is_lstm ? 2 : 1).shape[2], node.in(0).shape[2]);
  run.steps = node.in(0).shape[time_axis];
  run.batch = node.in(0).shape[batch_axis];
  run.time_major = time_major;
  require_shape(node, 1, run.state_shape(run.output), "input_h");
  if (is_lstm) require_shape(node, 2, run.state_shape(run.units), "input_c");
  if (node.in(3).count() != run.parameters()) {
    throw_invalid_argument(node.describe(), ": params has ", node.in(3).count(),
                           " elements, this model has ", run.parameters());
  }
  run.check_size(node);
  if (version == 3) run.lengths = read_lengths(node, 4, run.batch, run.steps);
  return run;
}

void RnnRun::check_size(const Node& node) const {
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  if (std::max({rows() * gates() * units, rows() * state(), rows() * input, parameters()}) >
      kMost) {
    throw_resource_exhausted(node.describe(), ": more than ", kMost, " elements in one operand");
  }
}

Shape RnnRun::sequence_shape(int64_t features) const {
  return time_major ? Shape{steps, batch, features} : Shape{batch, steps, features};
}

Shape RnnRun::state_shape(int64_t width) const {
  return time_major ? Shape{cells(), batch, width} : Shape{batch, cells(), width};
}

void check_rnn_shape(const Node& node, size_t input, const Shape& shape, const std::string& name) {
  if (node.in(input).shape == shape) return;
  throw_invalid_argument(node.describe(), ": ", name, " has shape ",
                         to_string(node.in(input).shape), ", not ", to_string(shape));
}

int64_t RnnRun::per_cell() const {
  return aligned(rows() * saved() * units) + (cell == kRnnLstm ? aligned(rows() * units) : 0) +
         (projected ? aligned(rows() * units) : 0);
}
int64_t RnnRun::saved_at(int64_t index) const { return kAlignment + index * per_cell(); }
int64_t RnnRun::cell_state_at(int64_t index) const {
  return saved_at(index) + aligned(rows() * saved() * units);
}
int64_t RnnRun::unprojected_at(int64_t index) const {
  return cell_state_at(index) + aligned(rows() * units);
}
int64_t RnnRun::output_at(int64_t layer) const {
  return saved_at(cells()) + layer * aligned(rows() * state());
}

// ---- RnnEncoder --------------------------------------------------------------------------------

BufferSlice RnnEncoder::output_of(int64_t layer) const {
  return floats_from(states_.reserve, run.output_at(layer));
}

MatrixView RnnEncoder::hidden(int64_t layer, int64_t direction, int64_t step) const {
  const int64_t index = layer * run.directions + direction;
  if (step == 0) {
    return {floats_from(states_.h0, index * run.batch * run.output), run.batch, run.output,
            run.output};
  }
  const int64_t row = run.time(direction, step - 1) * run.batch;
  return {floats_from(output_of(layer), row * run.state() + direction * run.output), run.batch,
          run.output, run.state()};
}

BufferSlice RnnEncoder::cell_state(int64_t index, int64_t direction, int64_t step) const {
  if (step == 0) return floats_from(states_.c0, index * run.batch * run.units);
  const int64_t row = run.time(direction, step - 1) * run.batch;
  return floats_from(states_.reserve, run.cell_state_at(index) + row * run.units);
}

void RnnEncoder::dispatch(const std::string& shader, int64_t width, int64_t height, int64_t depth,
                          const std::vector<ShaderArgument>& arguments) {
  if (width == 0 || height == 0 || depth == 0) return;
  native.dispatch(shader,
                  mtl::Size{static_cast<NSUInteger>(width), static_cast<NSUInteger>(height),
                            static_cast<NSUInteger>(depth)},
                  arguments);
}

void RnnEncoder::transfer(const std::string& shader, BufferSlice from, BufferSlice to,
                          int64_t width, int64_t height, int64_t depth,
                          RnnTransferArguments arguments, bool masked) {
  arguments.length_stride = masked ? length_stride() : 0;
  dispatch(
      shader, width, height, depth,
      {{from}, {to}, masked ? lengths() : ShaderArgument{header}, NativeCall::value(arguments)});
}

namespace {

std::string store_shader(TF_DataType dtype) {
  return dtype == TF_FLOAT ? "rnn_load_float" : shader_name("rnn_store", dtype);
}

// Strides of the outer axes of [time, batch, width] or [batch, time, width].
struct Strides {
  long time, batch;
};
Strides layout(bool time_major, int64_t time, int64_t batch, int64_t width) {
  return time_major ? Strides{static_cast<long>(batch * width), static_cast<long>(width)}
                    : Strides{static_cast<long>(width), static_cast<long>(time * width)};
}

}  // namespace

void RnnEncoder::load_sequence(BufferSlice from, TF_DataType dtype, BufferSlice to, int64_t width,
                               bool repeats) {
  const Strides in = layout(run.time_major, run.steps, repeats ? 1 : run.batch, width);
  const Strides out = layout(true, run.steps, run.batch, width);
  transfer(shader_name("rnn_load", dtype), from, to, width, run.batch, run.steps,
           {in.time, repeats ? 0 : in.batch, out.time, out.batch, 0}, true);
}

void RnnEncoder::store_sequence(BufferSlice from, BufferSlice to, TF_DataType dtype,
                                int64_t width) {
  const Strides in = layout(true, run.steps, run.batch, width);
  const Strides out = layout(run.time_major, run.steps, run.batch, width);
  transfer(store_shader(dtype), from, to, width, run.batch, run.steps,
           {in.time, in.batch, out.time, out.batch, 0}, true);
}

void RnnEncoder::load_states(BufferSlice from, TF_DataType dtype, BufferSlice to, int64_t width,
                             bool repeats) {
  const Strides in = layout(run.time_major, run.cells(), repeats ? 1 : run.batch, width);
  const Strides out = layout(true, run.cells(), run.batch, width);
  transfer(shader_name("rnn_load", dtype), from, to, width, run.batch, run.cells(),
           {in.time, repeats ? 0 : in.batch, out.time, out.batch, 0}, false);
}

void RnnEncoder::store_state(BufferSlice from, int64_t stride, BufferSlice to, TF_DataType dtype,
                             int64_t index, int64_t width) {
  const Strides out = layout(run.time_major, run.cells(), run.batch, width);
  if (to.block) to.offset += static_cast<size_t>(index * out.time) * size_of(dtype);
  transfer(store_shader(dtype), from, to, width, run.batch, 1,
           {0, static_cast<long>(stride), 0, out.batch, 0}, false);
}

void RnnEncoder::load_flat(BufferSlice from, TF_DataType dtype, BufferSlice to, int64_t count) {
  transfer(shader_name("rnn_load", dtype), from, to, count, 1, 1, {}, false);
}

void RnnEncoder::store_flat(BufferSlice from, BufferSlice to, TF_DataType dtype, int64_t count) {
  transfer(store_shader(dtype), from, to, count, 1, 1, {}, false);
}

void RnnEncoder::drop(BufferSlice from, BufferSlice to, int64_t layer) {
  const double kept = 1.0 - run.dropout;
  const double below = std::min(run.dropout * 0x1p32, 0x1p32 - 1);
  const RnnDropoutArguments arguments{static_cast<unsigned>(layer), static_cast<unsigned>(below),
                                      kept > 0 ? static_cast<float>(1 / kept) : 0.0f};
  dispatch("rnn_dropout", run.rows() * run.state(), 1, 1,
           {{from}, {to}, {header}, NativeCall::value(arguments)});
}

RnnStepArguments RnnEncoder::step_arguments(int64_t time) const {
  RnnStepArguments a = {};
  a.units = static_cast<unsigned>(run.units);
  a.cell = run.cell;
  a.time = static_cast<int>(time);
  a.length_stride = length_stride();
  a.saved_stride = static_cast<long>(run.saved() * run.units);
  return a;
}

// ---- RnnMemory ---------------------------------------------------------------------------------

BufferSlice RnnMemory::temp(int64_t floats) {
  return use(call_.allocate_temp({TF_FLOAT, {floats}}));
}

BufferSlice RnnMemory::use(BufferSlice slice) {
  if (slice.block) uses_.push_back(slice);
  return slice;
}

BufferSlice RnnMemory::lengths(const RnnRun& run) {
  if (!run.is_masked()) return {};
  const BufferSlice slice = use(call_.allocate_temp({TF_INT32, {run.batch}}));
  call_.stream().copy_from_host(slice, run.lengths.data(), run.lengths.size() * sizeof(int32_t));
  return slice;
}

}  // namespace tfmetal
