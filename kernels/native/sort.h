// Stable sorts of the rows of a matrix on the device.
#pragma once

#include "kernels/kernel.h"

namespace tfmetal {

struct RowsToSort {
  BufferSlice values;
  TF_DataType dtype;
  int64_t rows, columns;  // neither is 0
  int64_t kept;           // the first so many of each sorted row are wanted
  bool descending;
  // Element i of the matrix is values[offset + stride * i].
  int64_t offset = 0, stride = 1;
  // The order in which the columns of each row come, as of an earlier sort; no block: as they are.
  BufferSlice order = {};
};

// Columns of each row in sorted order, as uint32[rows, stride]; the first `kept` count.
struct SortedOrder {
  BufferSlice columns;
  int64_t stride;
};

// Encodes the sort. Equal elements keep their order; NaN is larger than every number, and -0 equals
// 0. The result lives as long as the call.
SortedOrder sorted_order(KernelCall& call, const Node& node, const RowsToSort& what);

}  // namespace tfmetal
