// Shapes of the block RNN ops (LSTMBlockCell, GRUBlockCell, BlockLSTM and their gradients), whose
// shape functions look at few of their inputs.
#pragma once

#include "kernels/node.h"

namespace tfmetal {

// Whether wci, wcf and wco count when the op does not use them. TensorFlow's kernels differ in it.
enum class Peepholes { kIfUsed, kAlways };

// Of an op whose input `x` is [batch, input] or [time, batch, input] and followed by cs_prev,
// h_prev, w, wci, wcf, wco, b and by tensors like the output. Throws InvalidArgument.
void check_lstm(const Node& node, size_t x, Peepholes peepholes);

// Of an op with inputs x, h_prev, w_ru, w_c, b_ru, b_c, and tensors like the output.
void check_gru(const Node& node);

inline bool uses_peepholes(const Node& node) { return node.def->attr_bool("use_peephole", false); }

}  // namespace tfmetal
