// What _MetalRnn and its gradient share: their attributes and the operands that both have.
#pragma once

#include "kernels/native/rnn.h"

namespace tfmetal {

struct RnnLoop {
  RnnRun run;
  bool keeps_all, keeps_last;
  int64_t length;
  // Where the inputs are. `end`: behind those that both ops have.
  size_t weights, biases, num_biases, end;
  // The tensor has one batch row, which serves for all.
  bool repeats_x, repeats_h, repeats_c;

  // Throws InvalidArgument.
  static RnnLoop make(const Node& node);

  int64_t rows() const { return run.gates() * run.units; }  // columns of the weights
  bool is_empty() const { return run.steps == 0 || run.batch == 0 || run.units == 0; }
  int64_t reserve() const { return is_empty() ? 0 : run.reserve(); }
  // Of the outputs, which is what a list stacks to: the elements have the shape that was written,
  // or the one it was made with.
  Shape outputs_shape(const Node& node) const;
  // Of state `i` behind the last step: as it came if there is none.
  Shape last_state_shape(const Node& node, size_t i) const;
};

// The larger operands in float32: as they come, or widened and with a row for each of the batch.
struct RnnLoopOperands {
  BufferSlice x, weights, state_weights;

  // Of the initial states, too.
  void allocate(KernelCall& call, const RnnLoop& loop, RnnMemory* memory, RnnStates* states);
  void load(RnnEncoder* encoder, const RnnLoop& loop, const RnnStates& states) const;
  RnnWeights matrices(const RnnLoop& loop, BufferSlice biases) const;
};

}  // namespace tfmetal
