// The rows of the op table, by family. One function per file of kernels/lowering and
// kernels/native.
#pragma once

#include <vector>

#include "kernels/op_table.h"

namespace tfmetal {

// kernels/lowering: built from MPSGraph nodes.
std::vector<OpRow> elementwise_ops();
std::vector<OpRow> reduction_ops();
std::vector<OpRow> matmul_ops();
std::vector<OpRow> shape_ops();
std::vector<OpRow> einsum_ops();
std::vector<OpRow> loss_ops();
std::vector<OpRow> arg_ops();
std::vector<OpRow> convolution_ops();
std::vector<OpRow> activation_ops();
std::vector<OpRow> normalization_ops();

// kernels/native: our own shaders.
std::vector<OpRow> arithmetic_ops();
std::vector<OpRow> cast_ops();
std::vector<OpRow> fill_ops();
std::vector<OpRow> fft_ops();
std::vector<OpRow> complex_ops();
std::vector<OpRow> image_ops();
std::vector<OpRow> linalg_ops();
std::vector<OpRow> non_max_suppression_ops();
std::vector<OpRow> pad_ops();
std::vector<OpRow> integer_ops();
std::vector<OpRow> slice_ops();
std::vector<OpRow> pooling_ops();
std::vector<OpRow> resize_ops();
std::vector<OpRow> space_ops();
std::vector<OpRow> special_ops();
std::vector<OpRow> gather_ops();
std::vector<OpRow> scatter_ops();
std::vector<OpRow> segment_ops();
std::vector<OpRow> matrix_ops();
std::vector<OpRow> stitch_ops();
std::vector<OpRow> where_ops();
std::vector<OpRow> rnn_ops();
std::vector<OpRow> variable_ops();
std::vector<OpRow> variant_ops();
std::vector<OpRow> sort_ops();
std::vector<OpRow> scan_ops();
std::vector<OpRow> search_ops();
std::vector<OpRow> count_ops();
std::vector<OpRow> unique_ops();
std::vector<OpRow> random_ops();
std::vector<OpRow> stateful_random_ops();
std::vector<OpRow> do_nothing_ops();

}  // namespace tfmetal
