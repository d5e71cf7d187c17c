// Arguments of the shaders for diagonals, one-hot vectors and ranges.
#pragma once

#include "kernels/msl/arguments.h"

// Matrices of rows x columns and their diagonals from `low` to `high`, which are stored highest
// first, each in `length` elements.
struct DiagonalArguments {
  unsigned rows, columns, length;
  int low, high;
  unsigned left_super, left_sub;  // which side shorter diagonals stand at
  unsigned keep;                  // elsewhere is the input's matrix, else the padding
};

struct BandArguments {
  unsigned rows, columns;
  long lower, upper;  // diagonals kept; negative: all
};

struct OneHotArguments {
  unsigned depth, inner;
  unsigned type;  // an ElementType
};

struct RangeArguments {
  float start, delta;
  long whole_start, whole_delta;
};
