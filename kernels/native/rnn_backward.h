// The backward pass of recurrent layers, as it is encoded: one layer and direction after the other,
// the last first.
#pragma once

#include "kernels/native/rnn.h"

namespace tfmetal {

// Where the gradients of the parameters of one layer and direction go, float32.
struct RnnWeightGradients {
  RnnGatesMatrix input, state;
  MatrixView projection;
  BufferSlice input_bias, state_bias;  // null: not asked for
};

// Memory of a backward pass, float32.
struct RnnBackwardMemory : RnnStates {
  // With respect to the initial states, [cell, batch, width]. dh0 begins as zeros, dc0 as the
  // gradients of the last cell states.
  BufferSlice dh0, dc0;
  BufferSlice dhn;  // with respect to the last hidden states
  // Of the layer at hand. dstate_gates: the same as dgates unless it is a GRU.
  BufferSlice dgates, dstate_gates, dbias, dunprojected;
};

class RnnBackward : public RnnEncoder {
 public:
  RnnBackward(NativeCall& native, const RnnRun& run, const RnnBackwardMemory& memory,
              BufferSlice lengths)
      : RnnEncoder(native, run, memory, lengths), memory_(memory) {}

  // All steps of one layer and direction over `input`. `dy`: gradients of the outputs, rows [time,
  // batch, state], which receive those that come by way of later steps.
  void encode_cell(int64_t layer, int64_t direction, BufferSlice input, BufferSlice dy,
                   const RnnWeights& weights, const RnnWeightGradients& gradients);
  // Then the gradient of the input; the second direction adds its part.
  void encode_input(int64_t layer, int64_t direction, const RnnWeights& weights, BufferSlice dx);

  // Of rows that are `stride` apart, as many as there are batch rows.
  void sum_batch(BufferSlice rows, int64_t stride, BufferSlice to, int64_t count);

 private:
  void encode_step(int64_t layer, int64_t direction, int64_t step, const RnnWeights& weights,
                   BufferSlice dy);
  void encode_gates(int64_t layer, int64_t direction, int64_t step, const MatrixView& dh,
                    const MatrixView& before);
  void encode_weights(int64_t layer, int64_t direction, BufferSlice input, BufferSlice dy,
                      const RnnWeightGradients& gradients);
  void encode_state_weights(int64_t layer, int64_t direction, const RnnGatesMatrix& to);
  void encode_biases(const RnnWeightGradients& gradients);
  // The product of the gradients of gates with what the weights were multiplied by.
  void multiply_gates(const MatrixView& gates, const MatrixView& by, const RnnGatesMatrix& to,
                      bool accumulate = false);
  // With respect to the hidden state after `step` steps.
  MatrixView gradient(BufferSlice dy, int64_t direction, int64_t step, int64_t index) const;

  const RnnBackwardMemory& memory_;
};

}  // namespace tfmetal
