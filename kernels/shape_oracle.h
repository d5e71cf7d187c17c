// Shapes and validation from TensorFlow itself: its own shape function runs on a graph of one op.
#pragma once

#include <vector>

#include "kernels/node.h"

namespace tfmetal {

// Fills node->outputs from node->def, inputs and host values. Throws what TensorFlow's shape
// function raises; Internal when it leaves a shape open (the op then needs a `run` row).
void infer_outputs(Node* node);

}  // namespace tfmetal
