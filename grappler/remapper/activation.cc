// Activation functions that Keras 3 and tf.nn compose of several ops. x is any tensor; terms and
// factors may come in any order, as TensorFlow's own passes move them.
//
//   gelu          0.5 * x * Erfc(-x * sqrt(1/2))      Keras 3, tf.nn since 2.13
//                 0.5 * x * (1 + Erf(x * sqrt(1/2)))  older ones
//                 0.5 * x * (1 + Tanh(sqrt(2/pi) * (x + 0.044715 * x^3)))   approximate=True
//   swish         x * Sigmoid(x), x * Sigmoid(constant * x)
//   mish          x * Tanh(Softplus(x))
//   hard_swish    x * Relu6(x + 3) / 6
//   hard_sigmoid  Relu6(x + 3) / 6
//   leaky_relu    Maximum(x, constant * x)
//   squareplus    0.5 * (x + Sqrt(x^2 + constant))
#include "grappler/remapper/remapper.h"
#include "grappler/remapper/trees.h"

namespace tfmetal {
namespace {

constexpr double kSqrtHalf = 0.70710678118654752, kSqrtTwoOverPi = 0.79788456080286536;

// In each, `x` stands where it is matched last; elsewhere it is the same tensor, "y".
Tree y() { return any("y"); }

Tree scaled_by(double factor, const Tree& x) {
  return either({product({constant(factor), x}), op("RealDiv", {x, constant(1 / factor)})});
}

Tree gelu(const Tree& x) {
  const Tree erfc =
      op("Erfc", either({scaled_by(kSqrtHalf, op("Neg", y())), op("Neg", scaled_by(kSqrtHalf, y())),
                         scaled_by(-kSqrtHalf, y())}));
  const Tree erf = sum({constant(1), op("Erf", scaled_by(kSqrtHalf, y()))});
  const Tree cubic = either({product({constant(0.044715), op("Pow", {y(), constant(3)})}),
                             product({constant(0.044715), op("Square", y()), y()}),
                             product({constant(0.044715), y(), y(), y()})});
  const Tree tanh =
      sum({constant(1), op("Tanh", product({constant(kSqrtTwoOverPi), sum({cubic, y()})}))});
  return product({constant(0.5), either({erfc, erf, tanh}), x});
}

Tree swish(const Tree& x) {
  return product({op("Sigmoid", either({product({constant(), y()}), y()})), x});
}

Tree mish(const Tree& x) { return product({op("Tanh", op("Softplus", y())), x}); }

Tree hard_swish(const Tree& x) {
  return product({constant(1. / 6), op("Relu6", sum({constant(3), y()})), x});
}

Tree hard_sigmoid(const Tree& x) {
  return product({constant(1. / 6), op("Relu6", sum({constant(3), x}))});
}

Tree leaky_relu(const Tree& x) { return op("Maximum", {product({constant(), y()}), x}); }

Tree squareplus(const Tree& x) {
  return product({constant(0.5), sum({op("Sqrt", sum({constant(), op("Square", y())})), x})});
}

bool slope_is_below_one(const Match& match, Context&) {
  const GraphNode& root = *match.root;
  for (const Output& input : root.inputs()) {
    if (input == match.at("y") || input.node->op() != "Mul") continue;
    for (const Output& factor : input.node->inputs())
      if (factor.node->op() == "Const") {
        const double slope = factor.node->def().attr_tensor("value").doubles().at(0);
        return 0 <= slope && slope < 1;
      }
  }
  return false;
}

}  // namespace

Tree activation(const Tree& input) {
  const Tree x = input.as("y");
  return either({op(kActivations, x), gelu(x), swish(x), mish(x), hard_swish(x), hard_sigmoid(x),
                 squareplus(x)})
      .described("activation(" + to_text(input) + ")");
}

std::vector<Pattern> activation_patterns() {
  return {
      {"gelu", "`keras.activations.gelu`, `tf.nn.gelu`, exact and approximate", gelu(y())},
      {"swish", "`tf.nn.swish`, `keras.activations.silu`", swish(y())},
      {"mish", "`keras.activations.mish`", mish(y())},
      {"hard_swish", "`keras.activations.hard_silu`", hard_swish(y())},
      {"hard_sigmoid", "`keras.activations.hard_sigmoid`", hard_sigmoid(y())},
      {"squareplus", "`keras.activations.squareplus`", squareplus(y())},
      {"leaky_relu",
       "`tf.maximum(x, a * x)`",
       leaky_relu(y()),
       {{"the factor is at least 0 and below 1", slope_is_below_one}}},
  };
}

}  // namespace tfmetal
