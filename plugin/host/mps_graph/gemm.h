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

// Where a product goes.
struct Target {
  char* data;
  DataType type;
  long row_stride;          // elements
  bool accumulate = false;  // add to what is there; Float32 only
  bool raw = false;         // leave the bits of float32 NaNs as they come
};

// to[m x n] = a[m x k] * b[k x n]. Runs on several threads when it pays. 16-bit operands are
// widened while they are packed; results are rounded once.
void gemm(long m, long n, long k, const Matrix& a, const Matrix& b, const Target& to);
// The same with the rows of the result packed.
inline void gemm(long m, long n, long k, const Matrix& a, const Matrix& b, char* c,
                 DataType result) {
  gemm(m, n, k, a, b, {c, result, n});
}

}  // namespace host
