// Indices of any type, and the rows that they choose. For shaders.
#pragma once

#include "kernels/msl/rows_arguments.h"

inline long index_at(device const uchar* indices, ulong at, uint type) {
  switch (type) {
    case kElementChar:
      return ((device const char*)indices)[at];
    case kElementUChar:
      return indices[at];
    case kElementShort:
      return ((device const short*)indices)[at];
    case kElementUShort:
      return ((device const ushort*)indices)[at];
    case kElementInt:
      return ((device const int*)indices)[at];
    default:
      return ((device const long*)indices)[at];
  }
}

// The row that tuple t chooses; -1 when an index is out of range.
inline long row_of(device const uchar* indices, ulong t, constant RowIndex& x) {
  long row = 0;
  for (uint k = 0; k < x.depth; ++k) {
    const long index = index_at(indices, t * x.depth + k, x.type);
    if (index < 0 || index >= x.extents[k]) return -1;
    row = row * x.extents[k] + index;
  }
  return row;
}
