// Normalizations as Keras 3 and tf.nn write them, of moments computed on the spot or given.
//
//   layer_norm        mean = Mean(x, axes), variance = Mean(SquaredDifference(x, mean), axes)
//                     scale = gamma? * Rsqrt(variance + constant)
//                     x * scale - mean * scale + beta?
//                     or, by hand, (x - mean) * scale + beta?, (x - mean) / Sqrt(...)
//                     over the last axes: LayerNormalization; over others, of a reshaped x:
//                     GroupNormalization, instance normalization
//   rms_norm          x * Rsqrt(Mean(x^2) + constant) * gamma?
//   batch_norm        with given mean and variance (+ other?) (-> activation?)
//   batch_norm_training
//                     of a batch's own moments, as one op or as Keras 3 writes it
//                     (+ other?) (-> activation?); moving averages and the gradient may read
//                     everything inside
#include "grappler/remapper/remapper.h"
#include "grappler/remapper/trees.h"

namespace tfmetal {
namespace {

Tree mean_over_axes(Tree x) { return op("Mean", std::move(x)).with("keep_dims", true); }

// `mean` and `variance` have labels "mean" and "variance"; each stands where it is needed first.
Tree normalized(const Tree& mean, const Tree& variance) {
  const Tree scale = product({op("Rsqrt", sum({constant(), variance})), optional(any("gamma"))});
  const Tree scaled = product({any("x"), scale.as("scale")});
  const Tree factor = any("scale");
  return either(
      {sum({scaled, product({op("Neg", mean), factor}), optional(any("beta"))}),
       sum({scaled, op("Sub", {any("beta"), product({mean, factor})}), optional(any("other"))})});
}

Tree layer_norm() {
  const Tree mean = mean_over_axes(any("x")).as("mean");
  const Tree variance = mean_over_axes(op("SquaredDifference", {any("x"), any("mean")}));
  return normalized(mean, variance);
}

// (x - mean) * Rsqrt(variance + constant), with a variance of any of three forms.
Tree layer_norm_by_hand() {
  const Tree mean = mean_over_axes(any("x")).as("mean");
  const Tree again = any("centered");
  const Tree variance = mean_over_axes(either({op("SquaredDifference", {any("x"), any("mean")}),
                                               op("Square", again), product({again, again})}));
  const Tree centered = op("Sub", {any("x"), mean}).as("centered");
  const Tree offset = sum({constant(), variance});
  const Tree gamma = optional(any("gamma"));
  const Tree divided = op("RealDiv", {centered, op("Sqrt", offset)});
  return sum({either({product({op("Rsqrt", offset), centered, gamma}), product({divided, gamma})}),
              optional(any("beta"))});
}

// Of a batch: Keras 3 squeezes the moments, which the moving averages read.
Tree batch_moments_norm() {
  const Tree mean = op("Squeeze", mean_over_axes(any("x")).as("wide mean")).as("mean");
  const Tree variance =
      op("Squeeze", mean_over_axes(op("SquaredDifference", {any("x"), any("wide mean")})));
  return normalized(mean, variance);
}

Tree rms_norm() {
  return product({op("Rsqrt", sum({constant(), op("Mean", op("Square", any("x")))})), any("x"),
                  optional(any("gamma"))});
}

Tree with_sum_and_activation(const Tree& norm) {
  const Tree added =
      either({sum({norm, any("other")}), norm}).described("(" + to_text(norm) + " + other?)");
  return either({activation(added), added}).described("activation?" + to_text(added));
}

}  // namespace

std::vector<Pattern> normalization_patterns() {
  const Tree training = op(kBatchNorms, any("x")).with("is_training", true);
  return {
      {"layer_norm", "`LayerNormalization`, `GroupNormalization`",
       all_shared(either({layer_norm(), layer_norm_by_hand()}))},
      {"rms_norm", "`RMSNormalization`", all_shared(rms_norm())},
      {"batch_norm", "`BatchNormalization` in inference, sum, activation",
       with_sum_and_activation(batch_norm(any("x")))},
      {"batch_norm_training", "`BatchNormalization` in training, sum, activation",
       all_shared(with_sum_and_activation(either({batch_moments_norm(), training})))},
  };
}

}  // namespace tfmetal
