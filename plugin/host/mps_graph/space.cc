// Blocks of space moved into the depth or batch axis and back. With k the position in a block (row
// major, last listed axis fastest), D the depth and P the positions per block, depth d moves to
// d + D * k, or to d * P + k in pixel-shuffle order; batches likewise, k * N + n or n * P + k (M).
// Pure rearrangements: bits stay.
#include <algorithm>

#include "plugin/host/mps_graph/strided_copy.h"

namespace host {
namespace {

struct Blocks {
  std::vector<long> axes;   // spatial
  std::vector<long> sizes;  // of a block along each
  long channel;             // the depth or batch axis
  bool pixel_shuffle;
  long positions() const { return element_count(sizes); }
};

// Loops over (whole, position in the block): the spacious shape has the blocks in its spatial axes,
// the deep one in its channel axis.
struct Loops {
  Shape extents, spacious, deep;  // and the strides on either side
};

Loops make_loops(const Shape& spacious, const Shape& deep, const Blocks& blocks) {
  const Shape from = strides_of(spacious), to = strides_of(deep);
  const long channels = spacious[blocks.channel];
  Loops loops;
  for (size_t i = 0; i < spacious.size(); ++i) {
    const auto at = std::find(blocks.axes.begin(), blocks.axes.end(), long(i));
    const bool is_channel = long(i) == blocks.channel;
    const long block = at == blocks.axes.end() ? 1 : blocks.sizes[at - blocks.axes.begin()];
    loops.extents.push_back(spacious[i] / block);
    loops.spacious.push_back(from[i] * block);
    loops.deep.push_back(is_channel && blocks.pixel_shuffle ? to[i] * blocks.positions() : to[i]);
  }
  long step = to[blocks.channel] * (blocks.pixel_shuffle ? 1 : channels);
  for (size_t i = blocks.axes.size(); i-- > 0; step *= blocks.sizes[i]) {
    loops.extents.push_back(blocks.sizes[i]);
    loops.spacious.push_back(from[blocks.axes[i]]);
    loops.deep.push_back(step);
  }
  return loops;
}

id to_channel(Graph* self, const char* method, Tensor* tensor, const Blocks& blocks) {
  Shape shape = tensor->type.shape;
  for (size_t i = 0; i < blocks.axes.size(); ++i) {
    long& extent = shape[blocks.axes[i]];
    if (blocks.sizes[i] <= 0 || extent % blocks.sizes[i] != 0) {
      abort_inference(method, "block_size (" + std::to_string(blocks.sizes[i]) +
                                  ") must be multiple of height " + std::to_string(extent));
    }
    extent /= blocks.sizes[i];
  }
  shape[blocks.channel] *= blocks.positions();
  const Loops loops = make_loops(tensor->type.shape, shape, blocks);
  return self->add(method, {tensor}, {tensor->type.dtype, shape}, [loops](Views in, Views out) {
    strided_copy(out[0].type->dtype, loops.extents, in[0].data, loops.spacious, out[0].data,
                 loops.deep);
  });
}

id from_channel(Graph* self, const char* method, Tensor* tensor, const Blocks& blocks) {
  Shape shape = tensor->type.shape;
  for (size_t i = 0; i < blocks.axes.size(); ++i) shape[blocks.axes[i]] *= blocks.sizes[i];
  if (blocks.positions() <= 0 || shape[blocks.channel] % blocks.positions() != 0) {
    abort_inference(method, "the channel axis is not a multiple of the block");
  }
  shape[blocks.channel] /= blocks.positions();
  const Loops loops = make_loops(shape, tensor->type.shape, blocks);
  return self->add(method, {tensor}, {tensor->type.dtype, shape}, [loops](Views in, Views out) {
    strided_copy(out[0].type->dtype, loops.extents, in[0].data, loops.deep, out[0].data,
                 loops.spacious);
  });
}

// Axes are not negative and all different. M
Blocks depth_blocks(const Tensor* tensor, const char* method, NSUInteger width, NSUInteger height,
                    NSUInteger depth, NSUInteger size, bool pixel_shuffle) {
  const size_t rank = tensor->type.shape.size();
  const auto check = [&](const char* name, NSUInteger axis) {
    if (axis < rank) return;
    const long shown = std::min<NSUInteger>(axis, kMaxExtent);
    abort_inference(method, std::string("invalid ") + name + " (" + std::to_string(shown) +
                                ") for shape of rank " + std::to_string(rank));
  };
  check("width_axis", width);
  check("height_axis", height);
  check("depth_axis", depth);
  const auto degenerate = [&](const char* a, NSUInteger x, const char* b, NSUInteger y) {
    if (x != y) return;
    abort_inference(method, std::string("Invalid degenerate axes: ") + a + " (" +
                                std::to_string(x) + ") " + b + " (" + std::to_string(y) +
                                ") for shape of rank " + std::to_string(rank));
  };
  degenerate("depth_axis", depth, "height_axis", height);
  degenerate("depth_axis", depth, "width_axis", width);
  degenerate("height_axis", height, "width_axis", width);
  return {{long(height), long(width)}, {long(size), long(size)}, long(depth), pixel_shuffle};
}

id space_to_depth(Graph* self, id x, NSUInteger width, NSUInteger height, NSUInteger depth,
                  NSUInteger size, bool pixel_shuffle, id) {
  Tensor* tensor = operand(x, "spaceToDepth2D");
  return to_channel(
      self, "spaceToDepth2D", tensor,
      depth_blocks(tensor, "spaceToDepth2D", width, height, depth, size, pixel_shuffle));
}
HOST_METHOD(MPSGraph,
            "spaceToDepth2DTensor:widthAxis:heightAxis:depthAxis:blockSize:usePixelShuffleOrder:"
            "name:",
            space_to_depth);
id depth_to_space(Graph* self, id x, NSUInteger width, NSUInteger height, NSUInteger depth,
                  NSUInteger size, bool pixel_shuffle, id) {
  Tensor* tensor = operand(x, "depthToSpace2D");
  return from_channel(
      self, "depthToSpace2D", tensor,
      depth_blocks(tensor, "depthToSpace2D", width, height, depth, size, pixel_shuffle));
}
HOST_METHOD(MPSGraph,
            "depthToSpace2DTensor:widthAxis:heightAxis:depthAxis:blockSize:usePixelShuffleOrder:"
            "name:",
            depth_to_space);

// The lists pair by position. M
Blocks batch_blocks(const Tensor* tensor, const char* method, id axes, NSInteger batch, id sizes,
                    bool pixel_shuffle) {
  const size_t rank = tensor->type.shape.size();
  Blocks blocks{numbers(axes), numbers(sizes), 0, pixel_shuffle};
  const auto resolve = [&](long axis) {
    const long resolved = resolve_axis(axis, rank);
    if (resolved >= 0) return resolved;
    abort_inference(method, "invalid axis: " + std::to_string(axis) +
                                ", axis must be in range - rank <= axis < rank, rank = " +
                                std::to_string(rank));
  };
  for (long& axis : blocks.axes) axis = resolve(axis);
  blocks.channel = resolve(batch);
  if (blocks.axes.size() != blocks.sizes.size()) {
    abort_inference(method, "`spatial_axes` must have same size as `block_dimensions`");
  }
  if (std::find(blocks.axes.begin(), blocks.axes.end(), blocks.channel) != blocks.axes.end()) {
    abort_inference(method, "`batch_axis` must be unique from `spatial_axes`");
  }
  return blocks;
}

id space_to_batch(Graph* self, id x, id axes, NSInteger batch, id sizes, bool pixel_shuffle, id) {
  Tensor* tensor = operand(x, "spaceToBatch");
  return to_channel(self, "spaceToBatch", tensor,
                    batch_blocks(tensor, "spaceToBatch", axes, batch, sizes, pixel_shuffle));
}
HOST_METHOD(MPSGraph,
            "spaceToBatchTensor:spatialAxes:batchAxis:blockDimensions:usePixelShuffleOrder:name:",
            space_to_batch);
id batch_to_space(Graph* self, id x, id axes, NSInteger batch, id sizes, bool pixel_shuffle, id) {
  Tensor* tensor = operand(x, "batchToSpace");
  return from_channel(self, "batchToSpace", tensor,
                      batch_blocks(tensor, "batchToSpace", axes, batch, sizes, pixel_shuffle));
}
HOST_METHOD(MPSGraph,
            "batchToSpaceTensor:spatialAxes:batchAxis:blockDimensions:usePixelShuffleOrder:name:",
            batch_to_space);

}  // namespace
}  // namespace host
