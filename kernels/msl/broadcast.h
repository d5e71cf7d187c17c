// Where the operands of an element of a broadcast grid are. For shaders.
#pragma once

#include "kernels/msl/arguments.h"

struct Operands {
  uint a, b;
};

inline Operands locate(uint i, constant BroadcastArguments& s) {
  Operands at = {0, 0};
  for (uint axis = s.rank; axis > 0; --axis) {
    const uint k = axis - 1;
    const uint index = i % s.extents[k];
    i /= s.extents[k];
    at.a += index * s.a_strides[k];
    at.b += index * s.b_strides[k];
  }
  return at;
}
