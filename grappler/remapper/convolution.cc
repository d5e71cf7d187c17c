// A convolution and what follows it.
//
//   convolution   Conv2D, Conv3D, DepthwiseConv2dNative, or a transposed one
//                   -> Squeeze?      of a 1D convolution
//                   -> BiasAdd?
//                   -> batch normalization in inference?
//                   -> + other?      a residual; its shape is known to fit
//                   -> activation?
//
//   pad           Pad(x, constant) -> Conv2D, DepthwiseConv2dNative
//                 becomes explicit padding of the convolution. Only if batch and channels are not
//                 padded, and the convolution's own padding is VALID or explicit.
#include <algorithm>

#include "grappler/remapper/remapper.h"
#include "grappler/remapper/trees.h"

namespace tfmetal {
namespace {

struct Paddings {
  std::vector<int64_t> pad, conv;  // begin and end of each axis
};

std::optional<Paddings> paddings_of(const Match& match) {
  const NodeDef& conv = match.root->def();
  const GraphNode& paddings = *match.at("paddings").node;
  if (paddings.op() != "Const") return std::nullopt;
  Paddings out{paddings.def().attr_tensor("value").ints(), std::vector<int64_t>(8, 0)};
  const std::string own = conv.attr_string("padding");
  if (own == "EXPLICIT") out.conv = conv.attr_ints("explicit_paddings");
  if (out.pad.size() != 8 || out.conv.size() != 8 || own == "SAME") return std::nullopt;
  return out;
}

bool pads_space_only(const Match& match, Context&) {
  const auto paddings = paddings_of(match);
  if (!paddings) return false;
  const bool channels_last = match.root->def().attr_string("data_format", "NHWC") == "NHWC";
  const std::vector<int64_t>& pad = paddings->pad;
  const size_t channels = channels_last ? 6 : 2;
  return !pad[0] && !pad[1] && !pad[channels] && !pad[channels + 1] &&
         std::all_of(pad.begin(), pad.end(), [](int64_t extent) { return extent >= 0; });
}

GraphNode* fold_padding(GraphView& view, Context&, const Match& match) {
  GraphNode& conv = *match.root;
  Paddings paddings = *paddings_of(match);
  for (size_t i = 0; i < 8; ++i) paddings.conv[i] += paddings.pad[i];
  conv.set_attr("padding", AttrValue::of_string("EXPLICIT"));
  conv.set_attr("explicit_paddings", AttrValue::of_ints(paddings.conv));
  GraphNode& pad = *conv.input(0).node;
  view.set_input(conv, 0, match.at("x"));
  view.remove(pad);
  return &conv;
}

}  // namespace

std::vector<Pattern> convolution_patterns() {
  const Tree conv = op(kConvolutions).described("convolution");
  const Tree padded = op("Pad", {any("x"), any("paddings")});
  return {
      {"convolution",
       "convolutions with bias, batch normalization (inference), residual, activation",
       with_epilogue(maybe("Squeeze", conv)),
       {kSumKeepsShape}},
      {"pad",
       "`ZeroPadding2D` before a convolution: explicit padding of the convolution",
       op("Conv2D|DepthwiseConv2dNative", {padded, any()}),
       {{"only space is padded, by constants, and the padding is VALID or explicit",
         pads_space_only}},
       fold_padding},
  };
}

}  // namespace tfmetal
