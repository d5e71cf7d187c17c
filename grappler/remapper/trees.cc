#include "grappler/remapper/trees.h"

namespace tfmetal {
namespace {

// Whether `shape` broadcasts into `into` without making it larger. Unknown extents are equal where
// TensorFlow gave both the same number below -1.
bool fits(const PartialShape& shape, const PartialShape& into) {
  if (shape.unknown_rank || into.unknown_rank || shape.dims.size() > into.dims.size()) return false;
  const size_t skip = into.dims.size() - shape.dims.size();
  for (size_t i = 0; i < shape.dims.size(); ++i) {
    const int64_t extent = shape.dims[i];
    if (extent != 1 && (extent == -1 || extent != into.dims[skip + i])) return false;
  }
  return true;
}

bool sum_keeps_shape(const Match& match, Context& context) {
  const Output* other = match.find("other");
  if (!other) return true;
  const Output product = match.at("product");
  const auto added = context.output_info(*other->node, other->port);
  const auto into = context.output_info(*product.node, product.port);
  return added && into && fits(added->shape, into->shape);
}

}  // namespace

const Condition kSumKeepsShape = {"what is added has no larger shape than the product",
                                  sum_keeps_shape};

Tree batch_norm(const Tree& x) {
  const Tree scale =
      product({op("Rsqrt", sum({constant(), any("variance")})), optional(any("gamma"))})
          .as("scale");
  const Tree shift = either({op("Sub", {any("beta"), product({any("mean"), any("scale")})}),
                             product({op("Neg", any("mean")), any("scale")})});
  return either(
      {sum({product({x, scale}), shift, optional(any("other"))}),
       op("FusedBatchNorm|FusedBatchNormV2|FusedBatchNormV3", x).with("is_training", false)});
}

Tree with_epilogue(const Tree& input) {
  const Tree x = input.as("product");
  const Tree biased = either({op("BiasAdd", {x, any("bias")}), x});
  const Tree normalized = either({batch_norm(biased), biased});
  const Tree added = either({sum({normalized, any("other")}), normalized});
  return either({activation(added), added});
}

Tree all_shared(Tree tree) {
  tree.fate = Fate::kShared;
  for (Tree& input : tree.inputs) input = all_shared(std::move(input));
  return tree;
}

}  // namespace tfmetal
