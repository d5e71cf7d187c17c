// Arguments of kernels/msl/movement.metal.
#pragma once

#include "kernels/msl/arguments.h"

// What stands for a position outside of the mapped tensor.
enum MapEdge {
  kEdgeValue = 0,      // one value for all
  kEdgeReflect = 1,    // the mirror image, the edge not repeated
  kEdgeSymmetric = 2,  // the mirror image, the edge repeated
  kEdgeWrap = 3,       // the other end
};

// A dense grid whose factors walk over a tensor of other shape: at (i0, i1, ...) the position on
// axis k of the tensor is starts[k] plus the sum of steps[f] * i_f over the factors f with
// axes[f] = k.
struct MapArguments {
  unsigned edge;    // a MapEdge
  unsigned rank;    // factors
  unsigned mapped;  // axes of the tensor
  unsigned chunk;   // elements per thread along the last factor
  unsigned extents[MAX_SHADER_RANK];
  int steps[MAX_SHADER_RANK];
  unsigned axes[MAX_SHADER_RANK];
  int starts[MAX_SHADER_RANK];
  int sizes[MAX_SHADER_RANK];     // of the tensor
  long strides[MAX_SHADER_RANK];  // of the tensor, in elements
};

// A map with one value outside whose factors are the axes of the tensor: blocks of rows.
struct MapRowsArguments {
  int starts[3];          // of the dense grid on the axes: block, row, element
  int sizes[3];           // of the tensor
  unsigned rows, length;  // of the dense grid
};

// MirrorPadGrad: the gradient's extents, and what was added in front of each axis.
struct MirrorGradArguments {
  unsigned type;  // an ElementType
  unsigned rank;
  int sizes[MAX_SHADER_RANK];   // of the result
  int padded[MAX_SHADER_RANK];  // of the gradient
  int left[MAX_SHADER_RANK];
  int repeats_edge;  // 1 for SYMMETRIC
};

struct ReverseSequenceArguments {
  unsigned rank;
  unsigned extents[MAX_SHADER_RANK];
  unsigned batch_axis, sequence_axis;
  unsigned long_lengths;  // int64, else int32
};
