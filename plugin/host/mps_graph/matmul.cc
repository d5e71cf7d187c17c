// MPSGraphMatrixMultiplicationOps.
#include <algorithm>

#include "plugin/host/mps_graph/gemm.h"
#include "plugin/host/mps_graph/graph.h"

namespace host {
namespace {

struct Operand {
  Tensor* tensor;
  bool transposed;
};

// A transpose of the last two axes is folded into the product, as Apple's compiler does (U).
Operand fold_transpose(Tensor* tensor) {
  if (!tensor->node->swaps_last_axes) return {tensor, false};
  return {tensor->node->inputs[0], true};
}

// Index of the operand's matrix for every batch of the result; extents of 1 repeat.
std::vector<long> batch_offsets(const Shape& shape, const Shape& batch) {
  const size_t rank = shape.size() - 2, skipped = batch.size() - rank;
  std::vector<long> strides(batch.size(), 0);
  long step = shape[rank] * shape[rank + 1];
  for (size_t i = rank; i-- > 0; step *= shape[i]) {
    if (shape[i] != 1) strides[skipped + i] = step;
  }
  std::vector<long> offsets(element_count(batch));
  for (long b = 0; b < long(offsets.size()); ++b) {
    for (long i = long(batch.size()) - 1, rest = b; i >= 0; rest /= batch[i--]) {
      offsets[b] += rest % batch[i] * strides[i];
    }
  }
  return offsets;
}

struct Product {
  long m, n, k;
  bool a_transposed, b_transposed;
  std::vector<long> a_offsets, b_offsets;  // elements, one per batch

  void run(const View& a, const View& b, const View& out) const {
    const DataType type = out.type->dtype;
    const long bytes = long(size_of(type));
    const auto one = [&](long i) {
      const Matrix left{a.data + a_offsets[i] * bytes, type, a_transposed ? 1 : k,
                        a_transposed ? m : 1};
      const Matrix right{b.data + b_offsets[i] * bytes, type, b_transposed ? 1 : n,
                         b_transposed ? k : 1};
      gemm(m, n, k, left, right, out.data + i * m * n * bytes, type);
    };
    constexpr long kBatchGrain = 1 << 19;  // multiplications
    const long batches = long(a_offsets.size());
    if (batches == 1) return one(0);
    parallel(batches, std::max(1l, kBatchGrain / std::max(1l, m * n * k)),
             [&](long begin, long end) {
               for (long i = begin; i < end; ++i) one(i);
             });
  }
};

// [.., M, K] x [.., K, N] -> [.., M, N]; batch extents broadcast, both ranks are at least 2 (D).
// Floats only here: integers are open (? [T26]). Accumulates in float32.
id matmul(Graph* self, id a, id b, id) {
  const char* method = "matmul";
  std::vector<Tensor*> operands{operand(a, method), operand(b, method)};
  require_same_type(operands, method);
  require_floating(operands[0], method);
  const Shape &left = operands[0]->type.shape, &right = operands[1]->type.shape;
  if (left.size() < 2 || right.size() < 2) abort_inference(method, "rank below 2");
  const long m = left[left.size() - 2], k = left.back(), n = right.back();
  if (right[right.size() - 2] != k) {
    abort_inference(method, "inner extents differ: " + describe(left, operands[0]->type.dtype) +
                                " and " + describe(right, operands[1]->type.dtype));
  }
  Shape batch =
      broadcast_extents({left.begin(), left.end() - 2}, {right.begin(), right.end() - 2}, method);
  Product product{m, n, k, false, false, batch_offsets(left, batch), batch_offsets(right, batch)};
  const Operand x = fold_transpose(operands[0]), y = fold_transpose(operands[1]);
  product.a_transposed = x.transposed;
  product.b_transposed = y.transposed;
  // One right matrix for all: the batches of the left one are just more rows.
  if (!x.transposed && right.size() == 2) {
    product.m *= element_count(batch);
    product.a_offsets = product.b_offsets = {0};
  }
  Shape shape = batch;
  shape.insert(shape.end(), {m, n});
  return self->add(method, {x.tensor, y.tensor}, {operands[0]->type.dtype, std::move(shape)},
                   [product](Views in, Views out) { product.run(in[0], in[1], out[0]); });
}
HOST_METHOD(MPSGraph, "matrixMultiplicationWithPrimaryTensor:secondaryTensor:name:", matmul);

}  // namespace
}  // namespace host
