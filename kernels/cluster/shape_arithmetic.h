// Arithmetic on shapes inside clusters. A gradient asks which axes were broadcast, a dense layer on
// a batch of unknown size multiplies extents: TensorFlow computes this in int32 on the host, and so
// does a cluster, once per set of shapes, while it prepares.
#pragma once

#include <string>
#include <vector>

#include "kernels/node.h"

namespace tfmetal {

// Whether evaluate() knows the op and its types.
bool is_shape_arithmetic(const NodeDef& node);
// Whether the op reads no value of its inputs but their shapes: these may be on the device.
bool asks_for_shape(const NodeDef& node);

// Fills outputs, and their values into `results`, from inputs with the values `node->host` (none
// are looked at where asks_for_shape()). Throws InvalidArgument where TensorFlow's kernels would.
void evaluate(Node* node, std::vector<std::string>* results);

}  // namespace tfmetal
