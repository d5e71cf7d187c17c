// Gradients.
//
//   bias_gradient         (product of the backward pass)? -> gradient of an activation?
//                           -> BiasAddGrad, or Sum over all axes but the last
//                         the products of the backward pass read the same gradient
//   activation_gradient   product of the backward pass -> gradient of an activation
//   batch_norm_gradient   gradient of an activation -> gradient of batch normalization, as one op;
//                         the other branch of a residual block reads the former
#include "grappler/remapper/remapper.h"
#include "grappler/remapper/trees.h"

namespace tfmetal {
namespace {

// A Sum that leaves the last axis, whatever the rank is: its axes are 0, 1, ... without a gap.
bool sums_all_but_last(const Match& match, Context& context) {
  const GraphNode& root = *match.root;
  if (root.op() == "BiasAddGrad") return true;
  const GraphNode& axes = *root.input(1).node;
  const Output summed = root.input(0);
  const auto info = context.output_info(*summed.node, summed.port);
  if (axes.op() != "Const" || !info || info->shape.unknown_rank) return false;
  const std::vector<int64_t> values = axes.def().attr_tensor("value").ints();
  if (values.size() + 1 != info->shape.dims.size()) return false;
  for (size_t i = 0; i < values.size(); ++i)
    if (values[i] != int64_t(i)) return false;
  return true;
}

}  // namespace

std::vector<Pattern> gradient_patterns() {
  const Tree backward =
      op(std::string(kProducts) + "|" + kConvolutions).described("[product or convolution]");
  const Tree gradient = op(kActivationGradients, either({backward, any()})).shared();
  return {
      {"bias_gradient",
       "the gradient of a bias, with that of the activation",
       op("BiasAddGrad|Sum", gradient.described("activation_gradient([product or convolution]?)")),
       {{"the sum leaves the last axis only", sums_all_but_last}}},
      {"activation_gradient", "the gradient of an activation after a product",
       op(kActivationGradients, backward)
           .described("activation_gradient([product or convolution])")},
      {"batch_norm_gradient", "the gradient of batch normalization after that of the activation",
       op("FusedBatchNormGrad|FusedBatchNormGradV2|FusedBatchNormGradV3",
          op(kActivationGradients).shared().described("activation_gradient"))},
  };
}

}  // namespace tfmetal
