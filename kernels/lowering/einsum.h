// Einsum of one or two real tensors.
#pragma once

#include <string>

#include "kernels/graph_builder.h"

namespace tfmetal {

// `in` are the operands of `node`; the result has the shape of the node's output.
Tensor einsum(GraphBuilder& g, const Node& node, Inputs in);

}  // namespace tfmetal
