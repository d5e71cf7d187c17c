// The values of sums, products and extremes over nothing.
#pragma once

#include "kernels/native_call.h"

namespace tfmetal {

enum class Empty { kZero, kOne, kLowest, kHighest };

// Fills a tensor with 0, 1, or the lowest or highest finite number of its type.
void fill_empty(NativeCall& call, Empty empty, const TensorInfo& out, BufferSlice to);

}  // namespace tfmetal
