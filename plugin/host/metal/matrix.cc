// MPSMatrix and MPSMatrixMultiplication.
#include "plugin/host/mps.h"
#include "plugin/host/mps_graph/kept_operands.h"

namespace host {

namespace {

struct MatrixMultiplication : Object {
  static constexpr const char* kClass = "MPSMatrixMultiplication";
  bool transpose_left, transpose_right;
  size_t rows, columns, inner;
  double alpha, beta;
  std::string label;
};

id descriptor(NSUInteger rows, NSUInteger columns, NSUInteger row_bytes, mps::DataType type) {
  const size_t element = mps::size_of(type);
  if (rows == 0 || columns == 0 || row_bytes < columns * element || row_bytes % element != 0) {
    abort_like_apple(
        "+[MPSMatrixDescriptor matrixDescriptorWithRows:columns:rowBytes:dataType:]: " +
        std::to_string(rows) + " rows of " + std::to_string(columns) + " columns in rowBytes " +
        std::to_string(row_bytes));
  }
  return make_autoreleased<MpsMatrixDescriptor>(MatrixShape{rows, columns, row_bytes, type});
}

id multiplication(id device, bool transpose_left, bool transpose_right, NSUInteger rows,
                  NSUInteger columns, NSUInteger inner, double alpha, double beta) {
  if (!device) abort_like_apple("-[MPSMatrixMultiplication initWithDevice:...]: nil device");
  if (alpha != 1 || (beta != 0 && beta != 1)) {
    abort_like_apple("MPSMatrixMultiplication: the host has alpha 1 and beta 0 or 1 only");
  }
  auto* self = make<MatrixMultiplication>();
  self->transpose_left = transpose_left, self->transpose_right = transpose_right;
  self->rows = rows, self->columns = columns, self->inner = inner;
  self->alpha = alpha, self->beta = beta;
  return self;
}

// The matrix as an operand of the product, which reads `rows` x `columns` of it (transposed:
// `columns` x `rows`).
Matrix operand(const MpsMatrix& m, bool transposed, size_t rows, size_t columns, const char* what) {
  const MatrixShape& shape = m.shape;
  if (shape.rows < (transposed ? columns : rows) || shape.columns < (transposed ? rows : columns)) {
    abort_like_apple(std::string("MPSMatrixMultiplication: the ") + what + " matrix, " +
                     std::to_string(shape.rows) + " x " + std::to_string(shape.columns) +
                     ", is too small");
  }
  const long stride = long(shape.row_bytes / mps::size_of(shape.type));
  return {m.buffer->bytes + m.offset, shape.type, transposed ? 1 : stride, transposed ? stride : 1};
}

bool overlap(const MpsMatrix& a, const MpsMatrix& b) {
  const auto begin = [](const MpsMatrix& m) { return m.buffer->bytes + m.offset; };
  const auto end = [&](const MpsMatrix& m) {
    return begin(m) + (m.shape.rows - 1) * m.shape.row_bytes +
           m.shape.columns * mps::size_of(m.shape.type);
  };
  return begin(a) < end(b) && begin(b) < end(a) && a.shape.row_bytes != b.shape.row_bytes;
}

void encode(MatrixMultiplication* self, id to, id left, id right, id result) {
  const char* method = "-[MPSMatrixMultiplication encodeToCommandBuffer:...]";
  auto* buffer = as<MpsCommandBuffer>(to, method);
  auto *a = as<MpsMatrix>(left, method), *b = as<MpsMatrix>(right, method),
       *c = as<MpsMatrix>(result, method);
  if (!buffer || !a || !b || !c) abort_like_apple(std::string(method) + ": nil");
  const Matrix x = operand(*a, self->transpose_left, self->rows, self->inner, "left");
  const Matrix y = operand(*b, self->transpose_right, self->inner, self->columns, "right");
  const Matrix z = operand(*c, false, self->rows, self->columns, "result");
  if (overlap(*a, *c) || overlap(*b, *c)) abort_like_apple(std::string(method) + ": overlap");
  if (self->beta != 0 && z.type != mps::DataType::Float32) {
    abort_like_apple("MPSMatrixMultiplication: the host adds to float32 results only");
  }
  const Target target{const_cast<char*>(z.data), z.type, z.row_stride, self->beta != 0, true};
  const long m = long(self->rows), n = long(self->columns), k = long(self->inner);
  const Owner owner{b->buffer->bytes, b->buffer->bytes + b->buffer->length};
  const auto multiply = [=] {
    if (!multiply_by_kept(m, n, k, x, y, owner, target)) gemm(m, n, k, x, y, target);
    forget_operands_at(target.data);
  };
  buffer->root->append({self->label, multiply, true}, {self, a->buffer, b->buffer, c->buffer});
}

}  // namespace

MpsMatrix::MpsMatrix(Buffer* b, size_t o, const MatrixShape& s) : buffer(b), offset(o), shape(s) {
  const size_t needed = shape.rows * shape.row_bytes;
  if (offset > buffer->length || needed > buffer->length - offset) {
    abort_like_apple("-[MPSMatrix initWithBuffer:offset:descriptor:]: " + std::to_string(needed) +
                     " bytes from offset " + std::to_string(offset) + " do not fit into " +
                     std::to_string(buffer->length));
  }
  objc_retain(buffer);
}
MpsMatrix::~MpsMatrix() { objc_release(buffer); }

HOST_CLASS(MPSMatrixDescriptor, NSObject);
HOST_CLASS_METHOD(MPSMatrixDescriptor, "matrixDescriptorWithRows:columns:rowBytes:dataType:",
                  [](Object*, NSUInteger rows, NSUInteger columns, NSUInteger row_bytes,
                     mps::DataType type) -> id {
                    return descriptor(rows, columns, row_bytes, type);
                  });

HOST_CLASS(MPSMatrix, NSObject);
HOST_INIT(MPSMatrix, "initWithBuffer:offset:descriptor:",
          [](id buffer, NSUInteger offset, id descriptor) -> id {
            auto* b = as<Buffer>(buffer, "initWithBuffer:");
            auto* d = as<MpsMatrixDescriptor>(descriptor, "initWithBuffer:offset:descriptor:");
            if (!b || !d) abort_like_apple("-[MPSMatrix initWithBuffer:offset:descriptor:]: nil");
            return make<MpsMatrix>(b, offset, d->shape);
          });

HOST_CLASS(MPSMatrixMultiplication, NSObject);
HOST_INIT(MPSMatrixMultiplication,
          "initWithDevice:transposeLeft:transposeRight:resultRows:resultColumns:interiorColumns:"
          "alpha:beta:",
          multiplication);
HOST_METHOD(MPSMatrixMultiplication, "setLabel:", [](MatrixMultiplication* self, id label) -> void {
  auto* text = as<String>(label, "setLabel:");
  self->label = text ? text->text : "";
});
HOST_METHOD(MPSMatrixMultiplication, "encodeToCommandBuffer:leftMatrix:rightMatrix:resultMatrix:",
            [](MatrixMultiplication* self, id to, id left, id right, id result) -> void {
              encode(self, to, left, right, result);
            });

}  // namespace host
