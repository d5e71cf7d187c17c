// Host versions of the MPS classes in plugin/metal/mps.h (MPSCommandBuffer is in metal.h).
#pragma once

#include <vector>

#include "plugin/host/metal.h"
#include "plugin/metal/mps.h"

namespace host {

struct NDArrayDescriptor : Object {
  static constexpr const char* kClass = "MPSNDArrayDescriptor";
  NDArrayDescriptor(mps::DataType t, std::vector<long> s) : type(t), shape(std::move(s)) {}
  mps::DataType type;
  std::vector<long> shape;  // slowest dimension first
  bool prefer_packed_rows = false;
};

// An array over a part of a buffer. Dense, except that each row (last dimension) begins at a
// multiple of 16 bytes unless the descriptor preferred packed rows.
struct NDArray : Object {
  static constexpr const char* kClass = "MPSNDArray";
  // Aborts when the array does not fit into the buffer.
  NDArray(Buffer* buffer, size_t offset, const NDArrayDescriptor& descriptor);  // retains buffer
  ~NDArray() override;
  Buffer* buffer;
  size_t offset;  // bytes
  mps::DataType type;
  std::vector<long> shape;  // slowest dimension first
  size_t row_bytes;         // from one row to the next
};

struct MatrixShape {
  size_t rows, columns, row_bytes;
  mps::DataType type;
};

struct MpsMatrixDescriptor : Object {
  static constexpr const char* kClass = "MPSMatrixDescriptor";
  explicit MpsMatrixDescriptor(const MatrixShape& s) : shape(s) {}
  MatrixShape shape;
};

struct MpsMatrix : Object {
  static constexpr const char* kClass = "MPSMatrix";
  // Aborts when the rows, each of row_bytes, do not fit into the buffer.
  MpsMatrix(Buffer* buffer, size_t offset, const MatrixShape& shape);  // retains buffer
  ~MpsMatrix() override;
  Buffer* buffer;
  size_t offset;  // bytes
  MatrixShape shape;
};

}  // namespace host
