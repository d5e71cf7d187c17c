// Matrix products. A contraction over nothing (K = 0) is zero: OpRow::empty_value.
#include "kernels/families.h"

namespace tfmetal {

namespace {

Tensors product(GraphBuilder& g, Tensor a, Tensor b, bool transpose_a, bool transpose_b) {
  if (transpose_a) a = g.matrix_transpose(a);
  if (transpose_b) b = g.matrix_transpose(b);
  return {g.matmul(a, b)};
}

Tensors matmul(GraphBuilder& g, const Node& node, Inputs in) {
  return product(g, in[0], in[1], node.def->attr_bool("transpose_a", false),
                 node.def->attr_bool("transpose_b", false));
}

Tensors batch_matmul(GraphBuilder& g, const Node& node, Inputs in) {
  const size_t rank = node.out().rank();
  return product(g, g.with_rank(in[0], rank), g.with_rank(in[1], rank),
                 node.def->attr_bool("adj_x", false), node.def->attr_bool("adj_y", false));
}

OpRow row(const char* op, Lower lower) {
  return {.op = op,
          .types = T(kFloats),
          .lower = lower,
          .empty_value = 0,
          .precision = Precision::kAllow};
}

}  // namespace

std::vector<OpRow> matmul_ops() {
  return {row("MatMul", matmul), row("BatchMatMul", batch_matmul),
          row("BatchMatMulV2", batch_matmul)};
}

}  // namespace tfmetal
