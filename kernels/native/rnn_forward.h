// The forward pass of recurrent layers, as it is encoded: one layer and direction after the other.
#pragma once

#include "kernels/native/rnn.h"

namespace tfmetal {

// The parameters of one layer and direction, in float32.
struct RnnWeights {
  // Of all gates for the input: a row for each value of a gate, or a column.
  MatrixView input;
  bool input_in_columns;
  MatrixView state;       // of all gates for the state, a column for each value of a gate
  MatrixView projection;  // if there is one
  BufferSlice biases;     // that of the input, then that of the state
};

// Memory of a forward pass, float32. `reserve`: what RnnRun lays out.
struct RnnForwardMemory {
  BufferSlice h0, c0;  // [cell, batch, width]
  BufferSlice reserve;
  BufferSlice state;  // of a GRU: the products of the state of one step
};

class RnnForward : public RnnEncoder {
 public:
  RnnForward(NativeCall& native, const RnnRun& run, const RnnForwardMemory& memory,
             BufferSlice lengths)
      : RnnEncoder(native, run, memory.reserve, lengths), memory_(memory) {}

  void encode_header(const RnnHeader& key) {
    dispatch("rnn_header", 1, 1, 1, {{header}, NativeCall::value(key)});
  }
  // All steps of one layer and direction over `input`, rows [time, batch, features].
  void encode_cell(int64_t layer, int64_t direction, BufferSlice input, const RnnWeights& weights);

  // The output of a layer: rows [time, batch, state].
  BufferSlice output_of(int64_t layer) const {
    return floats_from(memory_.reserve, run.output_at(layer));
  }
  // The states after `step` steps.
  MatrixView hidden(int64_t layer, int64_t direction, int64_t step) const;
  BufferSlice cell_state(int64_t index, int64_t direction, int64_t step) const;

 private:
  void encode_step(int64_t layer, int64_t direction, int64_t step, const RnnWeights& weights);
  MatrixView unprojected(int64_t index, int64_t time) const;

  const RnnForwardMemory& memory_;
};

}  // namespace tfmetal
