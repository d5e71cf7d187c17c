// Blocks and patches: space and batch, space and depth, image patches.
#include <algorithm>

#include "kernels/families.h"
#include "kernels/native/movement.h"
#include "plugin/error.h"

namespace tfmetal {

namespace {

// ---- space and batch ---------------------------------------------------------------------------

struct Blocks {
  std::vector<int64_t> sizes;     // of blocks, along the axes behind the batch
  std::vector<int64_t> paddings;  // or crops: pairs
};

Blocks blocks_of(const Node& node) {
  if (node.inputs.size() == 3) return {node.host_ints(1), node.host_ints(2)};
  const int64_t size = node.def->attr_int("block_size", 2);
  return {{size, size}, node.host_ints(1)};
}

// Between space ([batch, space..., rest...], padded) and batches ([offsets * batch, blocks...,
// rest...]): the factors are those of the batches' side.
ElementMap batch_map(const Node& node, const Shape& batches, const Shape& space) {
  const Blocks blocks = blocks_of(node);
  const size_t m = blocks.sizes.size();
  ElementMap map{{}, space, Shape(space.size(), 0)};
  for (size_t i = 0; i < m; ++i) map.factors.push_back({blocks.sizes[i], i + 1});
  map.factors.push_back({space[0], 0});
  for (size_t i = 0; i < m; ++i) {
    map.factors.push_back({batches[i + 1], i + 1, blocks.sizes[i]});
    map.starts[i + 1] = -blocks.paddings[2 * i];
  }
  // What follows is the same on both sides: one axis.
  int64_t rest = 1;
  for (size_t k = m + 1; k < space.size(); ++k) rest *= space[k];
  map.sizes.resize(m + 1);
  map.starts.resize(m + 1);
  map.sizes.push_back(rest);
  map.starts.push_back(0);
  map.factors.push_back({rest, m + 1});
  // Blocks of one element are no factor.
  std::erase_if(map.factors, [](const MapFactor& f) { return f.extent == 1; });
  if (map.factors.empty()) map.factors.push_back({1, m + 1});
  return map;
}

void space_to_batch(NativeCall& call) {
  const Node& node = call.node;
  map_load(call, batch_map(node, node.out().shape, node.in(0).shape), 0);
}

void batch_to_space(NativeCall& call) {
  const Node& node = call.node;
  map_store(call, batch_map(node, node.in(0).shape, node.out().shape), 0);
}

// ---- space and depth ---------------------------------------------------------------------------

// The deep side as factors, each an axis of the tensor or, with its block offset, one half of it.
// `space` is the shape of the wide side; layouts are NHWC, NCHW and NCHW with 4 channels innermost.
struct Depth {
  bool channels_first;
  int64_t batch, height, width, channels, lanes, block;  // of the wide side; lanes: 4 or 1
};

Depth depth_of(const Node& node, const Shape& space) {
  const std::string layout = node.def->attr_string("data_format", "NHWC");
  const int64_t block = node.def->attr_int("block_size", 2);
  if (layout == "NHWC") return {false, space[0], space[1], space[2], space[3], 1, block};
  const int64_t lanes = space.size() == 5 ? space[4] : 1;
  return {true, space[0], space[2], space[3], space[1], lanes, block};
}

// Factors in the order of the deep side over the axes of the wide one.
void space_to_depth(NativeCall& call) {
  const Depth d = depth_of(call.node, call.node.in(0).shape);
  const int64_t h = d.height / d.block, w = d.width / d.block;
  if (d.channels_first) {
    map_load(call,
             {{{d.batch, 0},
               {d.block, 2},
               {d.block, 3},
               {d.channels, 1},
               {h, 2, d.block},
               {w, 3, d.block},
               {d.lanes, 4}},
              {d.batch, d.channels, d.height, d.width, d.lanes},
              {}},
             0);
  } else {
    map_load(call,
             {{{d.batch, 0},
               {h, 1, d.block},
               {w, 2, d.block},
               {d.block, 1},
               {d.block, 2},
               {d.channels, 3}},
              {d.batch, d.height, d.width, d.channels},
              {}},
             0);
  }
}

void depth_to_space(NativeCall& call) {
  const Depth d = depth_of(call.node, call.node.out().shape);
  const int64_t h = d.height / d.block, w = d.width / d.block;
  if (d.channels_first) {  // deep: [batch, block, block, channels, h, w, lanes]
    map_load(
        call,
        {{{d.batch, 0}, {d.channels, 3}, {h, 4}, {d.block, 1}, {w, 5}, {d.block, 2}, {d.lanes, 6}},
         {d.batch, d.block, d.block, d.channels, h, w, d.lanes},
         {}},
        0);
  } else {  // deep: [batch, h, w, block, block, channels]
    map_load(call,
             {{{d.batch, 0}, {h, 1}, {d.block, 3}, {w, 2}, {d.block, 4}, {d.channels, 5}},
              {d.batch, h, w, d.block, d.block, d.channels},
              {}},
             0);
  }
}

// ---- patches -----------------------------------------------------------------------------------

// [batch, out..., kernel... * channels] from [batch, space..., channels].
void extract_patches(NativeCall& call) {
  const Node& node = call.node;
  const Shape &in = node.in(0).shape, &out = node.out().shape;
  const std::vector<int64_t> sizes = node.def->attr_ints("ksizes"),
                             strides = node.def->attr_ints("strides");
  const std::vector<int64_t> rates =
      node.def->attr_ints("rates", std::vector<int64_t>(in.size(), 1));
  const bool same = node.def->attr_string("padding", "VALID") == "SAME";
  const size_t channels = in.size() - 1;
  ElementMap map{{{in[0], 0}}, in, Shape(in.size(), 0)};
  for (size_t k = 1; k < channels; ++k) {
    map.factors.push_back({out[k], k, strides[k]});
    const int64_t reach = (out[k] - 1) * strides[k] + (sizes[k] - 1) * rates[k] + 1;
    if (same) map.starts[k] = -(std::max<int64_t>(reach - in[k], 0) / 2);
  }
  for (size_t k = 1; k < channels; ++k) map.factors.push_back({sizes[k], k, rates[k]});
  map.factors.push_back({in[channels], channels});
  map_load(call, map, 0);
}

}  // namespace

std::vector<OpRow> space_ops() {
  using enum HostUse;
  using enum Precision;
  const std::vector<TypeRule> any = T(kFloats + kIntegers + DTypes{TF_BOOL});
  return {
      {.op = "SpaceToBatchND",
       .types = any,
       .host = {{"block_shape", kKey}, {"paddings", kArg}},
       .launch = space_to_batch,
       .precision = kClear},
      {.op = "SpaceToBatch",
       .types = any,
       .host = {{"paddings", kArg}},
       .launch = space_to_batch,
       .precision = kClear},
      {.op = "BatchToSpaceND",
       .types = any,
       .host = {{"block_shape", kKey}, {"crops", kArg}},
       .launch = batch_to_space,
       .precision = kClear},
      {.op = "BatchToSpace",
       .types = any,
       .host = {{"crops", kArg}},
       .launch = batch_to_space,
       .precision = kClear},
      {.op = "SpaceToDepth", .types = any, .launch = space_to_depth, .precision = kClear},
      {.op = "DepthToSpace", .types = any, .launch = depth_to_space, .precision = kClear},
      {.op = "ExtractImagePatches",
       .types = T(kFloats + kIntegers + DTypes{TF_BOOL, TF_COMPLEX64}),
       .launch = extract_patches,
       .precision = kClear},
      {.op = "ExtractVolumePatches", .types = any, .launch = extract_patches, .precision = kClear},
  };
}

}  // namespace tfmetal
