#include "plugin/device/blit.h"

#include <algorithm>

#include "plugin/device/encoder.h"

namespace tfmetal {

namespace {

// Metal's copy of 4 GiB and more fails without an error (pytorch#124335); a grid has fewer than
// 2^32 threads.
constexpr size_t kLargestPiece = size_t{1} << 31;
// Blits want offsets and sizes in multiples of this on macOS (Apple's documentation).
constexpr size_t kBlitAlignment = 4;
constexpr NSUInteger kThreadsPerGroup = 256;

// The bytes of `size` that a blit may do.
size_t blit_part(size_t offsets, size_t size) {
  return offsets % kBlitAlignment == 0 ? size - size % kBlitAlignment : 0;
}

// Calls `piece(offset, size)` for the parts of [begin, end) that Metal can deal with at once.
template <class Piece>
void in_pieces(size_t begin, size_t end, const Piece& piece) {
  for (; begin < end; begin += std::min(end - begin, kLargestPiece)) {
    piece(begin, std::min(end - begin, kLargestPiece));
  }
}

// Runs a shader with one thread per element; it finds their number in its third argument.
void dispatch(mtl::ComputeCommandEncoder encoder, mtl::ComputePipelineState shader,
              uint64_t elements) {
  encoder.set_pipeline(shader);
  encoder.set_bytes(&elements, sizeof elements, 2);
  encoder.dispatch_threads({elements, 1, 1},
                           {std::min<NSUInteger>(elements, kThreadsPerGroup), 1, 1});
}

template <class T>
void fill_elements(Device& device, mps::CommandBuffer buffer, const Label& label, BufferSlice to,
                   const char* shader, T value, size_t begin, size_t end) {
  const mtl::ComputePipelineState pipeline = device.pipeline(shader);
  const Encoder encoder(buffer.compute_encoder(), label);
  encoder->set_bytes(&value, sizeof value, 1);
  in_pieces(begin, end, [&](size_t offset, size_t bytes) {
    encoder->set_buffer(to.buffer(), to.offset + offset, 0);
    dispatch(*encoder, pipeline, bytes / sizeof value);
  });
}

}  // namespace

void encode_copy(Device& device, mps::CommandBuffer buffer, const Label& label, BufferSlice to,
                 BufferSlice from, size_t size) {
  const size_t blit = blit_part(to.offset | from.offset, size);
  if (blit > 0) {
    const Encoder encoder(buffer.blit_encoder(), label);
    in_pieces(0, blit, [&](size_t at, size_t bytes) {
      encoder->copy(from.buffer(), from.offset + at, to.buffer(), to.offset + at, bytes);
    });
  }
  if (blit == size) return;
  const mtl::ComputePipelineState shader = device.pipeline("copy_bytes");
  const Encoder encoder(buffer.compute_encoder(), label);
  in_pieces(blit, size, [&](size_t at, size_t bytes) {
    encoder->set_buffer(to.buffer(), to.offset + at, 0);
    encoder->set_buffer(from.buffer(), from.offset + at, 1);
    dispatch(*encoder, shader, bytes);
  });
}

void encode_fill(Device& device, mps::CommandBuffer buffer, const Label& label, BufferSlice to,
                 uint8_t value, size_t size) {
  const size_t blit = blit_part(to.offset, size);
  if (blit > 0) {
    const Encoder encoder(buffer.blit_encoder(), label);
    in_pieces(0, blit, [&](size_t at, size_t bytes) {
      encoder->fill(to.buffer(), {to.offset + at, bytes}, value);
    });
  }
  if (blit < size) fill_elements(device, buffer, label, to, "fill_1", value, blit, size);
}

void encode_fill32(Device& device, mps::CommandBuffer buffer, const Label& label, BufferSlice to,
                   uint32_t value, size_t size) {
  const uint8_t byte = value & 0xff;
  if (value == byte * 0x01010101u) return encode_fill(device, buffer, label, to, byte, size);
  fill_elements(device, buffer, label, to, "fill_4", value, 0, size);
}

const Label& copy_label() {
  // Never destroyed: work may be in flight while the process exits.
  static const Label& label = *new Label("copy");
  return label;
}

}  // namespace tfmetal
