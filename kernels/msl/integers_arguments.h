// Arguments of the shaders for integers.
#pragma once

#include "kernels/msl/arguments.h"

enum IntegerOperation {
  kIntegerFloorDiv = 0,
  kIntegerTruncateDiv = 1,
  kIntegerFloorMod = 2,
  kIntegerTruncateMod = 3,
  kIntegerAnd = 4,
  kIntegerOr = 5,
  kIntegerXor = 6,
  kIntegerLeftShift = 7,
  kIntegerRightShift = 8,
  kIntegerPow = 9,
  kIntegerSquaredDifference = 10,
};

enum IntegerFunction {
  kIntegerAbs = 0,
  kIntegerNeg = 1,
  kIntegerSign = 2,
  kIntegerSquare = 3,
  kIntegerInvert = 4,
};

enum IntegerReduction {
  kReduceSum = 0,
  kReduceProd = 1,
  kReduceMin = 2,
  kReduceMax = 3,
};

// Axes of a tensor: extents, and strides in elements.
struct IntegerAxes {
  unsigned rank;
  unsigned extents[MAX_SHADER_RANK];
  long strides[MAX_SHADER_RANK];
};

// Output o combines the `count` elements at kept(o) + reduced(0), ..., in `chunks` parts.
struct IntegerReduceArguments {
  unsigned op;
  unsigned count;
  unsigned chunk, chunks;
  IntegerAxes kept, reduced;
};

// The first extreme of `count` elements, `inner` apart.
struct IntegerArgArguments {
  unsigned count, inner;
  unsigned largest;
  unsigned long_output;
};
