// What a launch function sees: the node, where its tensors are, and how to dispatch its shaders.
#pragma once

#include <cstring>
#include <map>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "kernels/node.h"
#include "plugin/device/device.h"
#include "plugin/device/label.h"
#include "plugin/metal/mps.h"

namespace tfmetal {

// A buffer argument of a shader, or bytes that are copied into the command buffer.
struct ShaderArgument {
  BufferSlice buffer;
  const void* bytes = nullptr;
  size_t length = 0;
};

// Rows of float32 in device memory, `stride` elements apart.
struct MatrixView {
  BufferSlice data;
  int64_t rows, columns, stride;
};

// result = op(left) * op(right), or added to the result. Computed in float32.
struct MatrixProduct {
  MatrixView left, right, result;
  bool transpose_left = false, transpose_right = false;
  bool accumulate = false;
};

class NativeCall {
 public:
  NativeCall(Device& device, mps::CommandBuffer to, const Node& node,
             std::span<const BufferSlice> inputs, std::span<const BufferSlice> outputs,
             const Label& label)
      : node(node), inputs(inputs), outputs(outputs), device_(device), to_(to), label_(label) {}

  const Node& node;
  // Null blocks for host inputs and tensors without elements.
  const std::span<const BufferSlice> inputs, outputs;

  ShaderArgument in(size_t i) const { return {inputs[i]}; }
  ShaderArgument out(size_t i = 0) const { return {outputs[i]}; }
  template <class T>  // a struct or number; must outlive the dispatch call
  static ShaderArgument value(const T& v) {
    return {{}, &v, sizeof(T)};
  }

  // What the row's `scratch` asked for.
  BufferSlice scratch() const { return outputs[node.outputs.size()]; }

  // Runs `shader` on a grid of `threads`; arguments bind to [[buffer(0)]], [[buffer(1)]], ...
  // Threads that do much each are better in small groups, which the device spreads more evenly.
  void dispatch(const std::string& shader, mtl::Size threads,
                const std::vector<ShaderArgument>& arguments, NSUInteger group = kWholeGroup);
  void dispatch(const std::string& shader, int64_t threads,
                const std::vector<ShaderArgument>& arguments, NSUInteger group = kWholeGroup) {
    dispatch(shader, mtl::Size{static_cast<NSUInteger>(threads), 1, 1}, arguments, group);
  }
  static constexpr NSUInteger kWholeGroup = 1024, kSmallGroup = 32;
  void copy(BufferSlice from, BufferSlice to, size_t bytes);
  void clear(BufferSlice to, size_t bytes);  // to zeros
  // Encodes a product among the dispatches, as a kernel of Metal Performance Shaders: unlike an
  // MPSGraph executable it takes any part of a buffer and costs little to launch, so that a loop
  // over time steps can use it. Products over nothing are zero, products of no elements nothing.
  void multiply(const MatrixProduct& product);

 private:
  using ProductKey = std::tuple<bool, bool, int64_t, int64_t, int64_t, bool>;
  std::map<ProductKey, objc::Ref<mps::MatrixMultiplication>> products_;
  Device& device_;
  mps::CommandBuffer to_;
  const Label& label_;
};

// "add_float": the instance of a shader template for a type.
std::string shader_name(const std::string& stem, TF_DataType dtype);

}  // namespace tfmetal
