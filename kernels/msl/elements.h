// Access to elements whose floating point type is an argument of the launch, the same for all
// threads: one shader serves all types.
#pragma once

#include "kernels/msl/arguments.h"

inline float load_float(device const uchar* data, uint type, ulong i) {
  if (type == kElementHalf) return float(((device const half*)data)[i]);
  if (type == kElementBFloat) return float(((device const bfloat*)data)[i]);
  return ((device const float*)data)[i];
}

inline void store_float(device uchar* data, uint type, ulong i, float value) {
  if (type == kElementHalf) {
    ((device half*)data)[i] = half(value);
  } else if (type == kElementBFloat) {
    ((device bfloat*)data)[i] = bfloat(value);
  } else {
    ((device float*)data)[i] = value;
  }
}
