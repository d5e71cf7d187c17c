// The remapper: small sub-graphs that are known patterns become one op each.
#pragma once

#include <string>
#include <vector>

#include "grappler/remapper/pattern.h"

namespace tfmetal {

// All patterns, larger ones first. A family of patterns is a file: add its function to
// TFMETAL_PATTERN_FAMILIES.
const std::vector<Pattern>& patterns();
std::vector<std::string> pattern_names();

// The pass.
int remap(GraphView& view, Context& context);

#define TFMETAL_PATTERN_FAMILIES(X) \
  X(activation_patterns)            \
  X(attention_patterns)             \
  X(cast_patterns)                  \
  X(convolution_patterns)           \
  X(dilation_patterns)              \
  X(dot_product_attention_patterns) \
  X(dropout_patterns)               \
  X(gradient_patterns)              \
  X(loss_patterns)                  \
  X(matmul_patterns)                \
  X(normalization_patterns)

#define TFMETAL_DECLARE_FAMILY(family) std::vector<Pattern> family();
TFMETAL_PATTERN_FAMILIES(TFMETAL_DECLARE_FAMILY)
#undef TFMETAL_DECLARE_FAMILY

}  // namespace tfmetal
