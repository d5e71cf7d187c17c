#include "kernels/native_call.h"

#include <algorithm>

#include "plugin/error.h"

namespace tfmetal {

namespace {

// Shaders see their position in the grid as a 32-bit number.
constexpr NSUInteger kMaxGridWidth = 0xffffffff;

}  // namespace

void NativeCall::dispatch(const std::string& shader, mtl::Size threads,
                          const std::vector<ShaderArgument>& arguments) {
  if (threads.width > kMaxGridWidth) {
    throw_resource_exhausted(node.describe(), ": ", threads.width, " elements are beyond Metal's ",
                             "grid of ", kMaxGridWidth);
  }
  const mtl::ComputePipelineState pipeline = device_.pipeline(shader);
  const mtl::ComputeCommandEncoder encoder = to_.compute_encoder();
  encoder.set_label(label_);
  encoder.set_pipeline(pipeline);
  for (size_t i = 0; i < arguments.size(); ++i) {
    const ShaderArgument& argument = arguments[i];
    if (argument.bytes) {
      encoder.set_bytes(argument.bytes, argument.length, i);
    } else if (argument.buffer.block) {
      encoder.set_buffer(argument.buffer.buffer(), argument.buffer.offset, i);
    }
  }
  const NSUInteger width = std::min<NSUInteger>(
      threads.width, std::max<NSUInteger>(1, pipeline.max_total_threads_per_threadgroup()));
  encoder.dispatch_threads(threads, {width, 1, 1});
  encoder.end_encoding();
}

void NativeCall::copy(BufferSlice from, BufferSlice to, size_t bytes) {
  if (bytes == 0) return;
  const mtl::BlitCommandEncoder encoder = to_.blit_encoder();
  encoder.set_label(label_);
  encoder.copy(from.buffer(), from.offset, to.buffer(), to.offset, bytes);
  encoder.end_encoding();
}

std::string shader_name(const std::string& stem, TF_DataType dtype) {
  return stem + "_" + info(dtype).shader;
}

}  // namespace tfmetal
