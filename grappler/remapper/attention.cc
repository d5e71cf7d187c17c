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
  const Tree scaled =
      either({product({x, any("scale")}), x}).described("(" + to_text(x) + " * scale?)");
  const Tree masked = either(
      {op("SelectV2", {any("mask"), scaled, constant()}), sum({scaled, any("mask")}), scaled});
  const Tree softmax = op("Softmax", masked).shared();
  return either({op("SelectV2", {any("mask"), softmax, constant()}), softmax})
      .described("masked?(Softmax(" + to_text(masked) + "))");
}

// What multiplies by a mask and keeps or zeroes; the mask itself may be made anywhere.
Tree maybe_dropout(const Tree& x) {
  return either({op("SelectV2", {any("kept"), product({constant(), x}), constant()}), x})
      .described("dropout?(" + to_text(x) + ")");
}

}  // namespace

std::vector<Pattern> attention_patterns() {
  const Tree logits = maybe("Transpose", op(kProducts).described("product"));
  const Tree weights = maybe_dropout(masked_softmax(logits));
  const Tree x = any("x");
  return {
      {"attention", "`MultiHeadAttention`, `Attention`, and by hand",
       either({op(kProducts, {weights, any()}), op(kProducts, {any(), weights})})
           .described("product(" + to_text(weights) + ", v)")},
      {"softmax", "`Softmax` with a mask, scale or both", masked_softmax(x)},
  };
}

}  // namespace tfmetal
