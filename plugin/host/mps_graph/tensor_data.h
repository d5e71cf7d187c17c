// What an executable reads and writes: buffers with a shape and a type.
#pragma once

#include "plugin/host/metal.h"
#include "plugin/host/mps_graph/graph.h"

namespace host {

struct ShapedType : Object {
  static constexpr const char* kClass = "MPSGraphShapedType";
  ShapedType(Type t, bool r) : type(std::move(t)), ranked(r) {}
  Type type;
  bool ranked;  // false: shape is nil
};

// A region of a buffer, rows packed. Retains the buffer.
struct TensorData : Object {
  static constexpr const char* kClass = "MPSGraphTensorData";
  // Aborts when the region does not fit.
  TensorData(Buffer* buffer, size_t offset, Type type);
  ~TensorData() override;
  char* data() const { return buffer->bytes + offset; }
  Buffer* buffer;
  size_t offset;  // bytes
  Type type;
};

id shape_object(const Shape& shape);  // autoreleased NSArray<NSNumber *>

}  // namespace host
