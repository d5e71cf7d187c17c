// A product of matrices and what follows it.
//
//   matmul      MatMul, BatchMatMul, or an Einsum
//                 -> Reshape?               as Keras' Dense has it for inputs of rank 3 and more
//                 -> * constant?
//                 -> BiasAdd?
//                 -> batch normalization in inference?
//                 -> + other?               a residual or a mask; its shape is known to fit
//                 -> activation or softmax?
//
//   transpose   Transpose(x, constant) -> MatMul, BatchMatMul
//               becomes the product's own transposition. Only if exactly the last two axes change
//               places, and for real numbers: a batch product would conjugate complex ones too.
#include "grappler/remapper/remapper.h"
#include "grappler/remapper/trees.h"

namespace tfmetal {
namespace {

// The operand that is transposed: the input that is the match's Transpose.
size_t transposed_operand(const Match& match) {
  return match.root->input(0) == match.at("transposed") ? 0 : 1;
}

bool swaps_last_two(const Match& match, Context&) {
  const GraphNode& perm = *match.at("perm").node;
  const TF_DataType type = match.root->def().attr_type("T");
  if (perm.op() != "Const" || type == TF_COMPLEX64 || type == TF_COMPLEX128) return false;
  const std::vector<int64_t> axes = perm.def().attr_tensor("value").ints();
  const int64_t rank = int64_t(axes.size());
  if (rank < 2 || (match.root->op() == "MatMul" && rank != 2)) return false;
  for (int64_t i = 0; i < rank; ++i) {
    const int64_t wanted = i < rank - 2 ? i : 2 * rank - 3 - i;
    if (axes[size_t(i)] != wanted) return false;
  }
  return true;
}

GraphNode* fold_transpose(GraphView& view, Context&, const Match& match) {
  GraphNode& product = *match.root;
  const bool is_matmul = product.op() == "MatMul";
  const size_t operand = transposed_operand(match);
  const char* attr =
      is_matmul ? (operand ? "transpose_b" : "transpose_a") : (operand ? "adj_y" : "adj_x");
  GraphNode& transpose = *match.at("transposed").node;
  product.set_attr(attr, AttrValue::of_bool(!product.def().attr_bool(attr, false)));
  view.set_input(product, operand, match.at("x"));
  if (!transpose.num_data_uses()) view.remove(transpose);
  return &product;
}

}  // namespace

std::vector<Pattern> matmul_patterns() {
  const Tree shaped = maybe("Reshape", op(kProducts).described("product"));
  const Tree scaled = either({product({constant(), shaped}), shaped})
                          .described("(" + to_text(shaped) + " * constant?)");
  const Tree whole = with_epilogue(scaled);
  const Tree transposed = op("Transpose", {any("x"), any("perm")}).as("transposed");
  return {
      {"matmul",
       "products of matrices with scale, bias, batch normalization (inference), residual, "
       "activation, softmax",
       maybe("Softmax|LogSoftmax", whole),
       {kSumKeepsShape}},
      {"transpose",
       "`tf.transpose` of the last two axes before a product of matrices",
       either({op("MatMul|BatchMatMul|BatchMatMulV2|BatchMatMulV3", {transposed, any()}),
               op("MatMul|BatchMatMul|BatchMatMulV2|BatchMatMulV3", {any(), transposed})}),
       {{"exactly the last two axes of real numbers change places", swaps_last_two}},
       fold_transpose},
  };
}

}  // namespace tfmetal
