// Softmax of one row, for the methods that contain it.
#pragma once

namespace host {

// y = e^x / sum(e^x) of `n` elements; both may be the same.
void softmax_row(const float* x, float* y, long n);

}  // namespace host
