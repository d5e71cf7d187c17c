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
      product({op("Rsqrt", sum({constant(), any("variance")})), optional(any("gamma"))});
  const Tree shift = either({op("Sub", {any("beta"), product({any("mean"), any("scale")})}),
                             product({op("Neg", any("mean")), any("scale")})});
  return either({sum({product({x, scale.as("scale")}), shift, optional(any("other"))}),
                 op(kBatchNorms, x).with("is_training", false)})
      .described("batch_norm(" + to_text(x) + ")");
}

Tree with_epilogue(const Tree& input) {
  const auto called = [](const Tree& tree, const char* name, const Tree& inside) {
    return tree.described(std::string(name) + "?(" + to_text(inside) + ")");
  };
  const Tree x = input.as("product");
  const Tree biased = maybe("BiasAdd", x);
  const Tree normalized = called(either({batch_norm(biased), biased}), "batch_norm", biased);
  const Tree added = either({sum({normalized, any("other")}), normalized})
                         .described("(" + to_text(normalized) + " + other?)");
  return called(either({activation(added), added}), "activation", added);
}

std::vector<std::pair<std::string, std::string>> described_parts() {
  const auto ops = [](const char* names) { return to_text(op(names)); };
  Tree function = activation(any("x"));
  function.text.clear();
  Tree norm = batch_norm(any("x"));
  norm.text.clear();
  return {{"convolution", ops(kConvolutions)},
          {"product", ops(kProducts)},
          {"activation(x)", to_text(function)},
          {"activation_gradient", ops(kActivationGradients)},
          {"batch_norm(x)", to_text(norm)}};
}

Tree all_shared(Tree tree) {
  tree.fate = Fate::kShared;
  for (Tree& input : tree.inputs) input = all_shared(std::move(input));
  return tree;
}

}  // namespace tfmetal
