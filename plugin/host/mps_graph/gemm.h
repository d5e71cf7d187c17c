// Matrix product with float32 accumulation.
#pragma once

#include "plugin/host/mps_graph/types.h"

namespace host {

// A matrix in memory; element (i, j) is at data[i * row_stride + j * column_stride] (elements).
struct Matrix {
  const char* data;
  DataType type;  // Float32, Float16 or BFloat16
  long row_stride, column_stride;
};

// c[m x n, rows packed, of type `result`] = a[m x k] * b[k x n]. Runs on several threads when it
// pays. 16-bit operands are widened while they are packed; results are rounded once.
void gemm(long m, long n, long k, const Matrix& a, const Matrix& b, char* c, DataType result);

}  // namespace host
