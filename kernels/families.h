// The families of ops: the one list of them. Each is a function that returns the family's rows of
// the op table, in a file of kernels/lowering, kernels/cluster or kernels/native.
#pragma once

#include <vector>

#include "kernels/op_table.h"

// clang-format off
#define TFMETAL_OP_FAMILIES(X) \
  /* kernels/lowering: built from MPSGraph nodes */ \
  X(activation_ops) \
  X(arg_ops) \
  X(attention_ops) \
  X(block_cell_ops) \
  X(convolution_ops) \
  X(einsum_ops) \
  X(elementwise_ops) \
  X(loss_ops) \
  X(matmul_ops) \
  X(normalization_ops) \
  X(reduction_ops) \
  X(shape_ops) \
  /* kernels/cluster */ \
  X(alias_ops) \
  X(cluster_ops) \
  /* kernels/native: our own shaders */ \
  X(arithmetic_ops) \
  X(block_lstm_ops) \
  X(cast_ops) \
  X(color_ops) \
  X(complex_ops) \
  X(copy_ops) \
  X(count_ops) \
  X(do_nothing_ops) \
  X(fft_ops) \
  X(fill_ops) \
  X(gather_ops) \
  X(image_ops) \
  X(integer_ops) \
  X(linalg_ops) \
  X(list_diff_ops) \
  X(loop_control_ops) \
  X(matrix_ops) \
  X(non_max_suppression_ops) \
  X(pad_ops) \
  X(pooling_ops) \
  X(random_ops) \
  X(resize_ops) \
  X(rnn_ops) \
  X(sampling_ops) \
  X(scan_ops) \
  X(scatter_ops) \
  X(search_ops) \
  X(segment_ops) \
  X(slice_ops) \
  X(sort_ops) \
  X(space_ops) \
  X(special_ops) \
  X(stateful_random_ops) \
  X(stitch_ops) \
  X(tridiagonal_ops) \
  X(unique_ops) \
  X(variable_ops) \
  X(variant_ops) \
  X(where_ops)
// clang-format on

namespace tfmetal {

#define TFMETAL_DECLARE_FAMILY(family) std::vector<OpRow> family();
TFMETAL_OP_FAMILIES(TFMETAL_DECLARE_FAMILY)
#undef TFMETAL_DECLARE_FAMILY

}  // namespace tfmetal
