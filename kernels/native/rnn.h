// Recurrent layers as cuDNN defines them: what CudnnRNN*, its gradient and the conversions of its
// parameters share.
//
// The work is a sequence of products (NativeCall::multiply) and small shaders in one command
// buffer: one product over all time steps for the input of a layer, then per step a product with
// the state and the cell's pointwise part; backwards the same, and products over all steps for the
// gradients of the weights. MPSGraph's own LSTM and GRU are no help: their mask drops state where
// sequences that end early must keep it, they know no projection, no dropout that two passes agree
// on, no reset gate of cuDNN's kind with two biases in every case, and they give the parameters'
// gradients in an order of their own.
//
// Everything between input and output is float32, time-major: [time, batch, units].
#pragma once

#include <string>
#include <vector>

#include "kernels/kernel.h"
#include "kernels/msl/rnn_arguments.h"

namespace tfmetal {

// What is computed: attributes and sizes.
struct RnnModel {
  RnnCell cell = kRnnLstm;
  int64_t layers = 0, directions = 1;
  int64_t units = 0;   // of the cell
  int64_t output = 0;  // of the hidden state: units, or what the projection makes of them
  int64_t input = 0;   // features
  bool projected = false;
  bool skips_input = false;  // the first layer has no input weights
  float dropout = 0;         // between layers, in training

  // Throws InvalidArgument. `output` is the width of the hidden state.
  static RnnModel make(const NodeDef& def, int64_t layers, int64_t units, int64_t input);

  int64_t cells() const { return layers * directions; }
  int64_t gates() const { return cell == kRnnLstm ? 4 : cell == kRnnGru ? 3 : 1; }
  // Values per unit and step that the backward pass needs (cell state aside).
  int64_t saved() const { return cell == kRnnGru ? 4 : gates(); }
  int64_t state() const { return directions * output; }  // of a layer, both directions
  int64_t width(int64_t layer) const { return layer == 0 ? input : state(); }
  bool skips(int64_t layer) const { return skips_input && layer == 0; }

  // One block of the parameters: a matrix (weights), or a vector of one column (biases).
  struct Region {
    int64_t offset, rows, columns;  // elements
    int64_t size() const { return rows * columns; }
  };
  // The parameters of layer `index / directions`, direction `index % directions`: the weights of
  // all gates for the input, those for the state, and the projection; both biases of all gates.
  struct Cell {
    Region input, state, projection, biases;
  };
  Cell cell_parameters(int64_t index) const;
  int64_t parameters() const;
  // The canonical form: each gate by itself.
  std::vector<Region> canonical_weights() const;
  std::vector<Region> canonical_biases() const;

 private:
  int64_t weights(int64_t index) const;  // elements
};

// A model and the sequences that it runs over.
struct RnnRun : RnnModel {
  int64_t steps = 0, batch = 0;
  bool time_major = true;
  std::vector<int32_t> lengths;  // empty: no sequence ends early

  // Checks and reads inputs 0 ... 3, and the lengths of version 3.
  static RnnRun make(const Node& node, int version);
  // Throws ResourceExhausted where the shaders' indices do not reach.
  void check_size(const Node& node) const;

  bool is_masked() const { return !lengths.empty(); }
  int64_t rows() const { return steps * batch; }
  int64_t time(int64_t direction, int64_t step) const {
    return direction == 0 ? step : steps - 1 - step;
  }
  Shape sequence_shape(int64_t features) const;
  Shape state_shape(int64_t width) const;

  // Offsets into the reserve space, in floats.
  int64_t saved_at(int64_t index) const;
  int64_t cell_state_at(int64_t index) const;
  int64_t unprojected_at(int64_t index) const;
  int64_t output_at(int64_t layer) const;
  int64_t reserve() const { return output_at(layers) + state(); }

 private:
  int64_t per_cell() const;
};

// Where the states of a run are, float32.
struct RnnStates {
  BufferSlice h0, c0;   // the initial ones, [cell, batch, width]
  BufferSlice reserve;  // what RnnRun lays out; a forward pass writes the others here
};

// Of all gates: a row for each value of a gate, as cuDNN has it, or a column, as Keras has it.
struct RnnGatesMatrix {
  MatrixView view;
  bool in_columns;
};

// The parameters of one layer and direction, in float32.
struct RnnWeights {
  RnnGatesMatrix input, state;
  MatrixView projection;  // if there is one
  BufferSlice biases;     // that of the input, then that of the state; for a forward pass only
};

// What forward and backward pass encode with.
class RnnEncoder {
 public:
  RnnEncoder(NativeCall& native, const RnnRun& run, const RnnStates& states, BufferSlice lengths)
      : native(native), run(run), header(states.reserve), states_(states), lengths_(lengths) {}

  NativeCall& native;
  const RnnRun& run;
  const BufferSlice header;  // where the reserve space begins

  // The output of a layer: rows [time, batch, state].
  BufferSlice output_of(int64_t layer) const;
  // The states after `step` steps.
  MatrixView hidden(int64_t layer, int64_t direction, int64_t step) const;
  BufferSlice cell_state(int64_t index, int64_t direction, int64_t step) const;

  // Dispatches unless the grid is empty.
  void dispatch(const std::string& shader, int64_t width, int64_t height, int64_t depth,
                const std::vector<ShaderArgument>& arguments);
  ShaderArgument lengths() const { return {run.is_masked() ? lengths_ : header}; }
  unsigned length_stride() const { return run.is_masked() ? 1 : 0; }

  // Between a tensor of the op (type, layout) and float32 rows [time, batch, width] of a buffer.
  // `repeats`: the tensor has one batch row, which serves for all.
  void load_sequence(BufferSlice from, TF_DataType dtype, BufferSlice to, int64_t width,
                     bool repeats = false);
  void store_sequence(BufferSlice from, BufferSlice to, TF_DataType dtype, int64_t width);
  // The same for states [cell, batch, width].
  void load_states(BufferSlice from, TF_DataType dtype, BufferSlice to, int64_t width,
                   bool repeats = false);
  // One state, whose rows are `stride` apart, to its place in the op's tensor.
  void store_state(BufferSlice from, int64_t stride, BufferSlice to, TF_DataType dtype,
                   int64_t index, int64_t width);
  void load_flat(BufferSlice from, TF_DataType dtype, BufferSlice to, int64_t count);
  void store_flat(BufferSlice from, BufferSlice to, TF_DataType dtype, int64_t count);
  void clear(BufferSlice to, TF_DataType dtype, int64_t count) {
    if (count > 0) native.clear(to, static_cast<size_t>(count) * size_of(dtype));
  }
  // Multiplies the input of `layer` by the mask of this execution.
  void drop(BufferSlice from, BufferSlice to, int64_t layer);

  RnnStepArguments step_arguments(int64_t time) const;

 private:
  void transfer(const std::string& shader, BufferSlice from, BufferSlice to, int64_t width,
                int64_t height, int64_t depth, RnnTransferArguments arguments, bool masked);

  const RnnStates& states_;
  const BufferSlice lengths_;
};

inline BufferSlice floats_from(BufferSlice slice, int64_t floats) {
  return {slice.block, slice.offset + static_cast<size_t>(floats) * sizeof(float)};
}

inline MatrixView matrix_of(BufferSlice parameters, const RnnModel::Region& r) {
  return {floats_from(parameters, r.offset), r.rows, r.columns, r.columns};
}

// Throws InvalidArgument, naming the operand.
void check_rnn_shape(const Node& node, size_t input, const Shape& shape, const std::string& name);

// Memory of one execution, and all that it uses, for the stream.
class RnnMemory {
 public:
  explicit RnnMemory(KernelCall& call) : call_(call) {}
  BufferSlice temp(int64_t floats);
  BufferSlice use(BufferSlice slice);
  // The lengths of the sequences on the device; null when none ends early.
  BufferSlice lengths(const RnnRun& run);
  const std::vector<BufferSlice>& uses() const { return uses_; }

 private:
  KernelCall& call_;
  std::vector<BufferSlice> uses_;
};

// CudnnRNN is version 1.
template <int version>
void rnn_forward(KernelCall& call);
template <int version>
void rnn_backward(KernelCall& call);
OpRow rnn_loop_row();
OpRow rnn_loop_grad_row();

}  // namespace tfmetal
