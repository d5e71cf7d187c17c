#include "plugin/host/mps.h"

#include "plugin/host/metal/command.h"

namespace host {

MpsCommandBuffer::MpsCommandBuffer(CommandBuffer* first) : root(first) { objc_retain(first); }
MpsCommandBuffer::~MpsCommandBuffer() { objc_release(root); }

void MpsCommandBuffer::commit_and_continue() {
  CommandQueue* queue = root->state->queue;
  const std::string label = root->state->label;
  commit(root);
  auto* next = make<CommandBuffer>(queue);
  next->state->label = label;
  objc_release(root);
  root = next;
}

void MpsCommandBuffer::maybe_commit_and_continue() {
  constexpr unsigned kOneIn = 3;
  if (chaos(kOneIn)) commit_and_continue();
}

HOST_CLASS(MPSCommandBuffer, NSObject);
HOST_CLASS_METHOD(MPSCommandBuffer, "commandBufferFromCommandQueue:", [](Object*, id queue) -> id {
  auto* q = as<CommandQueue>(queue, "commandBufferFromCommandQueue:");
  if (!q) abort_like_apple("+[MPSCommandBuffer commandBufferFromCommandQueue:]: nil queue");
  return make_autoreleased<MpsCommandBuffer>(static_cast<CommandBuffer*>(new_command_buffer(q)));
});
HOST_METHOD(MPSCommandBuffer, "rootCommandBuffer",
            [](MpsCommandBuffer* self) -> id { return self->root; });
HOST_METHOD(MPSCommandBuffer, "commitAndContinue",
            [](MpsCommandBuffer* self) -> void { self->commit_and_continue(); });

// ---- n-dimensional arrays
// ------------------------------------------------------------------------

namespace {

constexpr size_t kRowAlignment = 16;  // bytes; of arrays that do not prefer packed rows
constexpr size_t kMaxDimensions = 16;

size_t elements(const std::vector<long>& shape, size_t dimensions) {
  size_t n = 1;
  for (size_t i = 0; i < dimensions; ++i) n *= static_cast<size_t>(shape[i]);
  return n;
}

id descriptor(mps::DataType type, id shape) {
  std::vector<long> sizes = numbers(shape);
  if (sizes.size() > kMaxDimensions) {
    abort_like_apple(
        "+[MPSNDArrayDescriptor descriptorWithDataType:shape:]: more than 16 "
        "dimensions");
  }
  for (long size : sizes) {
    if (size <= 0) {
      abort_like_apple("+[MPSNDArrayDescriptor descriptorWithDataType:shape:]: a dimension of " +
                       std::to_string(size));
    }
  }
  return make_autoreleased<NDArrayDescriptor>(type, std::move(sizes));
}

}  // namespace

NDArray::NDArray(Buffer* b, size_t o, const NDArrayDescriptor& d)
    : buffer(b), offset(o), type(d.type), shape(d.shape) {
  const size_t columns = shape.empty() ? 1 : static_cast<size_t>(shape.back());
  const size_t rows = shape.empty() ? 1 : elements(shape, shape.size() - 1);
  const size_t packed = columns * mps::size_of(type);
  row_bytes = d.prefer_packed_rows ? packed : (packed + kRowAlignment - 1) & -kRowAlignment;
  const size_t needed = (rows - 1) * row_bytes + packed;
  if (offset > buffer->length || needed > buffer->length - offset) {
    abort_like_apple(
        "-[MPSNDArray initWithBuffer:offset:descriptor:]: buffer is not large enough. "
        "Must be " +
        std::to_string(needed) + " bytes, has " + std::to_string(buffer->length) + " with offset " +
        std::to_string(offset));
  }
  objc_retain(buffer);
}
NDArray::~NDArray() { objc_release(buffer); }

HOST_CLASS(MPSNDArrayDescriptor, NSObject);
HOST_CLASS_METHOD(MPSNDArrayDescriptor,
                  "descriptorWithDataType:shape:", [](Object*, mps::DataType type, id shape) -> id {
                    return descriptor(type, shape);
                  });
HOST_METHOD(MPSNDArrayDescriptor, "setPreferPackedRows:",
            [](NDArrayDescriptor* self, bool on) -> void { self->prefer_packed_rows = on; });

HOST_CLASS(MPSNDArray, NSObject);
HOST_INIT(MPSNDArray, "initWithBuffer:offset:descriptor:",
          [](id buffer, NSUInteger offset, id descriptor) -> id {
            auto* b = as<Buffer>(buffer, "initWithBuffer:");
            auto* d = as<NDArrayDescriptor>(descriptor, "initWithBuffer:offset:descriptor:");
            if (!b || !d) abort_like_apple("-[MPSNDArray initWithBuffer:offset:descriptor:]: nil");
            return make<NDArray>(b, offset, *d);
          });

}  // namespace host
