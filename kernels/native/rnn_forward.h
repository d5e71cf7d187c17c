// The forward pass of recurrent layers, as it is encoded: one layer and direction after the other.
#pragma once

#include "kernels/native/rnn.h"

namespace tfmetal {

struct RnnForwardMemory : RnnStates {
  BufferSlice state;  // of a GRU: the products of the state of one step
};

class RnnForward : public RnnEncoder {
 public:
  RnnForward(NativeCall& native, const RnnRun& run, const RnnForwardMemory& memory,
             BufferSlice lengths)
      : RnnEncoder(native, run, memory, lengths), memory_(memory) {}

  void encode_header(const RnnHeader& key) {
    dispatch("rnn_header", 1, 1, 1, {{header}, NativeCall::value(key)});
  }
  // All steps of one layer and direction over `input`, rows [time, batch, features].
  void encode_cell(int64_t layer, int64_t direction, BufferSlice input, const RnnWeights& weights);

 private:
  void encode_step(int64_t layer, int64_t direction, int64_t step, const RnnWeights& weights);
  MatrixView unprojected(int64_t index, int64_t time) const;

  const RnnForwardMemory& memory_;
};

}  // namespace tfmetal
