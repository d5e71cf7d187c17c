// cross_entropy: softmax cross-entropy and what makes one number of it.
//
//   SoftmaxCrossEntropyWithLogits, SparseSoftmaxCrossEntropyWithLogits
//     (* weights)? -> Sum or Mean (-> / count, or * constant)?
//
// The gradient reads the second output of the op.
#include "grappler/remapper/remapper.h"

namespace tfmetal {

std::vector<Pattern> loss_patterns() {
  const Tree each =
      op("SoftmaxCrossEntropyWithLogits|SparseSoftmaxCrossEntropyWithLogits").shared();
  const Tree total = op("Sum|Mean", product({each, optional(any("weights"))}));
  return {{"cross_entropy", "softmax cross-entropy from logits, summed or averaged",
           either({op("DivNoNan|RealDiv", total), product({total, optional(constant())})})}};
}

}  // namespace tfmetal
