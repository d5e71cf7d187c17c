// Metal Performance Shaders: command buffers and n-dimensional arrays that MPSGraph works on.
#pragma once

#include "plugin/metal/metal.h"

namespace mps {

using ns::Array;
using ns::Object;
using ns::Ref;
using ns::send;
using ns::String;

// Raw values of MPSDataType.
enum class DataType : uint32_t {
  Invalid = 0,
  Float32 = 0x10000020,
  Float16 = 0x10000010,
  BFloat16 = 0x90000010,
  ComplexFloat32 = 0x11000040,
  Int8 = 0x20000008,
  Int16 = 0x20000010,
  Int32 = 0x20000020,
  Int64 = 0x20000040,
  UInt8 = 8,
  UInt16 = 16,
  UInt32 = 32,
  UInt64 = 64,
  Bool = 0x80000008,
};

// Bytes of one element (Apple's MPSSizeofMPSDataType is an inline function, not an export).
constexpr size_t size_of(DataType type) { return (static_cast<uint32_t>(type) & 0xffff) >> 3; }

// A command buffer that MPSGraph may commit and replace while it encodes: ask root() again after
// every graph that was encoded, and never hold an encoder across one.
struct CommandBuffer : mtl::CommandBuffer {
  using mtl::CommandBuffer::CommandBuffer;
  // Autoreleased.
  static CommandBuffer from_queue(mtl::CommandQueue queue) {
    return send<CommandBuffer>(objc_getClass("MPSCommandBuffer"),
                               OBJC_SEL("commandBufferFromCommandQueue:"), queue);
  }
  mtl::CommandBuffer root() const {
    return send<mtl::CommandBuffer>(raw(), OBJC_SEL("rootCommandBuffer"));
  }
};

struct NDArrayDescriptor : Object {
  using Object::Object;
  // `shape` lists the slowest dimension first. Autoreleased.
  static NDArrayDescriptor make(DataType type, Array shape) {
    return send<NDArrayDescriptor>(objc_getClass("MPSNDArrayDescriptor"),
                                   OBJC_SEL("descriptorWithDataType:shape:"), type, shape);
  }
  void set_prefer_packed_rows(bool on) const {  // macOS 15
    send<void>(raw(), OBJC_SEL("setPreferPackedRows:"), on);
  }
};

struct NDArray : Object {
  using Object::Object;
  // macOS 15: an array over `buffer` that begins `offset` bytes in.
  static Ref<NDArray> make(mtl::Buffer buffer, NSUInteger offset, NDArrayDescriptor descriptor) {
    return Ref(send<NDArray>(send<id>(objc_getClass("MPSNDArray"), OBJC_SEL("alloc")),
                             OBJC_SEL("initWithBuffer:offset:descriptor:"), buffer, offset,
                             descriptor));
  }
};

struct MatrixDescriptor : Object {
  using Object::Object;
  // Autoreleased.
  static MatrixDescriptor make(NSUInteger rows, NSUInteger columns, NSUInteger row_bytes,
                               DataType type) {
    return send<MatrixDescriptor>(objc_getClass("MPSMatrixDescriptor"),
                                  OBJC_SEL("matrixDescriptorWithRows:columns:rowBytes:dataType:"),
                                  rows, columns, row_bytes, type);
  }
};

// Rows of a buffer, from `offset` bytes on.
struct Matrix : Object {
  using Object::Object;
  static Ref<Matrix> make(mtl::Buffer buffer, NSUInteger offset, MatrixDescriptor descriptor) {
    return Ref(send<Matrix>(send<id>(objc_getClass("MPSMatrix"), OBJC_SEL("alloc")),
                            OBJC_SEL("initWithBuffer:offset:descriptor:"), buffer, offset,
                            descriptor));
  }
};

// result = alpha * op(left) * op(right) + beta * result.
struct MatrixMultiplication : Object {
  using Object::Object;
  static Ref<MatrixMultiplication> make(mtl::Device device, bool transpose_left,
                                        bool transpose_right, NSUInteger rows, NSUInteger columns,
                                        NSUInteger inner, double alpha, double beta) {
    return Ref(send<MatrixMultiplication>(
        send<id>(objc_getClass("MPSMatrixMultiplication"), OBJC_SEL("alloc")),
        OBJC_SEL("initWithDevice:transposeLeft:transposeRight:resultRows:resultColumns:"
                 "interiorColumns:alpha:beta:"),
        device, transpose_left, transpose_right, rows, columns, inner, alpha, beta));
  }
  void set_label(String label) const { send<void>(raw(), OBJC_SEL("setLabel:"), label); }
  void encode(mtl::CommandBuffer to, Matrix left, Matrix right, Matrix result) const {
    send<void>(raw(), OBJC_SEL("encodeToCommandBuffer:leftMatrix:rightMatrix:resultMatrix:"), to,
               left, right, result);
  }
};

}  // namespace mps
