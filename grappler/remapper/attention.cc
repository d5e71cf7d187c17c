// Softmax with what makes its logits, and attention.
//
//   softmax     x (* constant)? (+ mask or Select(mask, x, constant))? -> Softmax
//                 (-> Select(mask, softmax, constant))?
//   attention   (q . k) -> softmax as above -> dropout? -> (. v)
//               the products are batch products or Einsums; transposes may lie between
#include "grappler/remapper/remapper.h"
#include "grappler/remapper/trees.h"

namespace tfmetal {
namespace {

Tree masked_softmax(const Tree& x) {
  const Tree scaled = either({product({x, any("scale")}), x});
  const Tree masked = either(
      {op("SelectV2", {any("mask"), scaled, constant()}), sum({scaled, any("mask")}), scaled});
  const Tree softmax = op("Softmax", masked).shared();
  return either({op("SelectV2", {any("mask"), softmax, constant()}), softmax});
}

// What multiplies by a mask and keeps or zeroes; the mask itself may be made anywhere.
Tree maybe_dropout(const Tree& x) {
  return either({op("SelectV2", {any("kept"), product({constant(), x}), constant()}), x});
}

}  // namespace

std::vector<Pattern> attention_patterns() {
  const Tree logits = maybe("Transpose", op("BatchMatMul|BatchMatMulV2|BatchMatMulV3|Einsum"));
  const Tree weights = maybe_dropout(masked_softmax(logits));
  const char* const kBatchProducts = "BatchMatMul|BatchMatMulV2|BatchMatMulV3|Einsum";
  const Tree x = any("x");
  return {
      {"attention", "`MultiHeadAttention`, `Attention`, and by hand",
       either({op(kBatchProducts, {weights, any()}), op(kBatchProducts, {any(), weights})})},
      {"softmax", "`Softmax` with a mask, scale or both", masked_softmax(x)},
  };
}

}  // namespace tfmetal
