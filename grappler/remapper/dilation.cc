// dilation: a convolution between SpaceToBatchND and BatchToSpaceND is a dilated convolution.
//
//   x -> SpaceToBatchND(block, paddings) -> Conv2D, DepthwiseConv2dNative
//     -> BatchToSpaceND(block, crops)
//
// Only for 2D blocks and constants throughout, channels last, a convolution without padding,
// strides or dilations of its own, and crops that take away no more than was padded.
#include <algorithm>

#include "grappler/remapper/remapper.h"

namespace tfmetal {
namespace {

struct Space {
  std::vector<int64_t> block, explicit_paddings;
};

std::optional<std::vector<int64_t>> constant_values(Output output, size_t count) {
  if (output.node->op() != "Const") return std::nullopt;
  std::vector<int64_t> values = output.node->def().attr_tensor("value").ints();
  if (values.size() != count) return std::nullopt;
  return values;
}

std::optional<Space> space_of(const Match& match) {
  const auto block = constant_values(match.at("block"), 2);
  const auto again = constant_values(match.at("block again"), 2);
  const auto paddings = constant_values(match.at("paddings"), 4);
  const auto crops = constant_values(match.at("crops"), 4);
  if (!block || !paddings || !crops || block != again) return std::nullopt;
  Space out{*block, std::vector<int64_t>(8, 0)};
  for (size_t i = 0; i < 4; ++i) {
    out.explicit_paddings[2 + i] = (*paddings)[i] - (*crops)[i];
    if (out.explicit_paddings[2 + i] < 0) return std::nullopt;
  }
  return out;
}

bool is_dilated_convolution(const Match& match, Context&) {
  const NodeDef& conv = match.at("conv").node->def();
  const std::vector<int64_t> ones(4, 1);
  return conv.attr_ints("strides") == ones && conv.attr_ints("dilations", ones) == ones &&
         conv.attr_string("padding") == "VALID" &&
         conv.attr_string("data_format", "NHWC") == "NHWC" && space_of(match);
}

GraphNode* make_dilated(GraphView& view, Context&, const Match& match) {
  const Space space = *space_of(match);
  GraphNode& root = *match.root;
  GraphNode& conv = *match.at("conv").node;
  GraphNode& to_batch = *match.at("to batch").node;
  NodeDef def = conv.def();
  def.inputs.clear();
  def.set_attr("dilations", AttrValue::of_ints({1, space.block[0], space.block[1], 1}));
  def.set_attr("padding", AttrValue::of_string("EXPLICIT"));
  def.set_attr("explicit_paddings", AttrValue::of_ints(space.explicit_paddings));
  view.redefine(root, std::move(def), {match.at("x"), conv.input(1)});
  view.remove(conv);
  if (!to_batch.num_data_uses()) view.remove(to_batch);
  return &root;
}

}  // namespace

std::vector<Pattern> dilation_patterns() {
  const Tree to_batch =
      op("SpaceToBatchND", {any("x"), any("block"), any("paddings")}).as("to batch").shared();
  const Tree conv = op("Conv2D|DepthwiseConv2dNative", to_batch).as("conv");
  return {{"dilation",
           "convolutions between `tf.space_to_batch` and `tf.batch_to_space`",
           op("BatchToSpaceND", {conv, any("block again"), any("crops")}),
           {{"it is a dilated convolution, with constant blocks, paddings and smaller crops",
             is_dilated_convolution}},
           make_dilated}};
}

}  // namespace tfmetal
