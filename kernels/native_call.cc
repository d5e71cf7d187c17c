#include "kernels/native_call.h"

#include <algorithm>

#include "plugin/device/blit.h"
#include "plugin/error.h"

namespace tfmetal {

namespace {

// Shaders see their position in the grid as a 32-bit number.
constexpr NSUInteger kMaxGridWidth = 0xffffffff;

}  // namespace

void NativeCall::dispatch(const std::string& shader, mtl::Size threads,
                          const std::vector<ShaderArgument>& arguments, NSUInteger group) {
  if (threads.width > kMaxGridWidth) {
    throw_resource_exhausted(node.describe(), ": ", threads.width, " elements are beyond Metal's ",
                             "grid of ", kMaxGridWidth);
  }
  const mtl::ComputePipelineState pipeline = device_.pipeline(shader);
  const NSUInteger most = std::max<NSUInteger>(1, pipeline.max_total_threads_per_threadgroup());
  if (group < kWholeGroup && most < group) {  // its threads share memory that is made for so many
    throw_internal("shader ", shader, " needs groups of ", group, " threads, the GPU allows ",
                   most);
  }
  const mtl::ComputeCommandEncoder encoder = to_.compute_encoder();
  encoder.set_label(label_.string());
  encoder.set_pipeline(pipeline);
  for (size_t i = 0; i < arguments.size(); ++i) {
    const ShaderArgument& argument = arguments[i];
    if (argument.bytes) {
      encoder.set_bytes(argument.bytes, argument.length, i);
    } else if (argument.buffer.block) {
      encoder.set_buffer(argument.buffer.buffer(), argument.buffer.offset, i);
    }
  }
  const NSUInteger width = std::min({threads.width, most, group});
  encoder.dispatch_threads(threads, {width, 1, 1});
  encoder.end_encoding();
}

void NativeCall::copy(BufferSlice from, BufferSlice to, size_t bytes) {
  encode_copy(device_, to_, label_, to, from, bytes);
}

void NativeCall::clear(BufferSlice to, size_t bytes) {
  encode_fill(device_, to_, label_, to, 0, bytes);
}

namespace {

objc::Ref<mps::Matrix> matrix(const MatrixView& view) {
  const auto unsigned_of = [](int64_t n) { return static_cast<NSUInteger>(n); };
  const auto descriptor =
      mps::MatrixDescriptor::make(unsigned_of(view.rows), unsigned_of(view.columns),
                                  unsigned_of(view.stride) * sizeof(float), mps::DataType::Float32);
  return mps::Matrix::make(view.data.buffer(), view.data.offset, descriptor);
}

}  // namespace

void NativeCall::multiply(const MatrixProduct& p) {
  const int64_t rows = p.result.rows, columns = p.result.columns;
  const int64_t inner = p.transpose_left ? p.left.rows : p.left.columns;
  if (rows == 0 || columns == 0) return;
  if (inner == 0) {
    const bool packed = p.result.stride == columns;
    const int64_t runs = packed ? 1 : rows, length = packed ? rows * columns : columns;
    for (int64_t row = 0; row < runs && !p.accumulate; ++row) {
      const size_t at = static_cast<size_t>(row * p.result.stride) * sizeof(float);
      clear({p.result.data.block, p.result.data.offset + at},
            static_cast<size_t>(length) * sizeof(float));
    }
    return;
  }
  auto& kernel =
      products_[{p.transpose_left, p.transpose_right, rows, columns, inner, p.accumulate}];
  if (!kernel) {
    kernel = mps::MatrixMultiplication::make(
        device_.metal(), p.transpose_left, p.transpose_right, static_cast<NSUInteger>(rows),
        static_cast<NSUInteger>(columns), static_cast<NSUInteger>(inner), 1, p.accumulate ? 1 : 0);
    kernel.set_label(label_.string());
  }
  kernel.encode(to_, matrix(p.left), matrix(p.right), matrix(p.result));
}

std::string shader_name(const std::string& stem, TF_DataType dtype) {
  return stem + "_" + info(dtype).shader;
}

}  // namespace tfmetal
