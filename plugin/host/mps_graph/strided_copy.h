// Copies between strided layouts: what transpose, slice, pad, concat, reverse and tile have in
// common.
#pragma once

#include "plugin/host/mps_graph/graph.h"

namespace host {

// to[sum(i * to_strides)] = from[sum(i * from_strides)] for all i within `shape`. Strides count
// elements and may be zero or negative. Bits are copied as they are; `type` gives their size only.
// The regions must not overlap.
void strided_copy(DataType type, const Shape& shape, const char* from, const Shape& from_strides,
                  char* to, const Shape& to_strides);

}  // namespace host
