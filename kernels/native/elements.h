// What shaders are told about types and broadcasting.
#pragma once

#include "kernels/msl/arguments.h"
#include "kernels/node.h"

namespace tfmetal {

ElementType element_type(TF_DataType dtype);

// The grid of a node whose inputs `a` and `b` broadcast to its output. Shapes have equal ranks, as
// those of elementwise rows have.
BroadcastArguments broadcast_arguments(const Node& node, unsigned op, size_t a = 0, size_t b = 1);

}  // namespace tfmetal
