// Sums along the rows of a matrix: what statistics of images with the channels last need.
#pragma once

#include "plugin/host/mps_graph/graph.h"

namespace host {

// sums[j] = sum over i of x[i * columns + j], or of its squared distance from mean[j] when `mean`
// is given. x is of a float type. The order of summation is fixed.
void column_sums(const void* x, DataType type, long rows, long columns, const float* mean,
                 float* sums);

// sums[j] = sum of (x - mean[j]) * dy over x and dy of shape [outer, channels, inner], j a channel.
void centred_products(const void* x, const void* dy, DataType type, long outer, long channels,
                      long inner, const float* mean, float* sums);

// The sum of squared distances of n neighbours from `mean`.
float squared_distances(const float* x, long n, float mean);

}  // namespace host
