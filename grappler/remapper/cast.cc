// cast: Cast(Cast(x)) where the first loses nothing becomes one Cast, or nothing when the second
// only undoes it.
//
//   x: A -> Cast -> B -> Cast -> C      every value of A is one of B
//
// Not from floating point to integers: what does not fit would be cut off by another conversion.
#include <algorithm>

#include "grappler/remapper/remapper.h"

namespace tfmetal {
namespace {

struct Format {
  TF_DataType type;
  bool is_float;
  int digits;  // binary, without the sign
  bool is_signed;
  int max_exponent;  // of floats
};

const Format* format_of(TF_DataType type) {
  static const std::vector<Format> formats = {
      {TF_BOOL, false, 1, false, 0},     {TF_INT8, false, 7, true, 0},
      {TF_UINT8, false, 8, false, 0},    {TF_INT16, false, 15, true, 0},
      {TF_UINT16, false, 16, false, 0},  {TF_INT32, false, 31, true, 0},
      {TF_UINT32, false, 32, false, 0},  {TF_INT64, false, 63, true, 0},
      {TF_UINT64, false, 64, false, 0},  {TF_HALF, true, 11, true, 15},
      {TF_BFLOAT16, true, 8, true, 127}, {TF_FLOAT, true, 24, true, 127},
      {TF_DOUBLE, true, 53, true, 1023}};
  const auto found = std::find_if(formats.begin(), formats.end(),
                                  [&](const Format& format) { return format.type == type; });
  return found == formats.end() ? nullptr : &*found;
}

bool holds_all(const Format& from, const Format& to) {
  if (from.is_float && !to.is_float) return false;
  if (from.is_signed && !to.is_signed) return false;
  if (from.is_float) return from.digits <= to.digits && from.max_exponent <= to.max_exponent;
  return from.digits <= to.digits;
}

bool loses_nothing(const Match& match, Context&) {
  const NodeDef& inner = match.at("inner").node->def();
  const NodeDef& outer = match.root->def();
  if (inner.attr_bool("Truncate", false) || outer.attr_bool("Truncate", false)) return false;
  const Format* a = format_of(inner.attr_type("SrcT"));
  const Format* b = format_of(inner.attr_type("DstT"));
  const Format* c = format_of(outer.attr_type("DstT"));
  // Of integers, the result must not depend on what the middle does with what does not fit.
  return a && b && c && holds_all(*a, *b) && (!b->is_float || c->is_float);
}

GraphNode* fold_casts(GraphView& view, Context& context, const Match& match) {
  GraphNode& root = *match.root;
  GraphNode& inner = *match.at("inner").node;
  const Output x = match.at("x");
  const TF_DataType from = inner.def().attr_type("SrcT"), to = root.def().attr_type("DstT");
  NodeDef def;
  def.device = root.device();
  def.op = from == to ? "Identity" : "Cast";
  if (from == to) {
    def.set_attr("T", AttrValue::of_type(from));
  } else {
    def.set_attr("SrcT", AttrValue::of_type(from));
    def.set_attr("DstT", AttrValue::of_type(to));
    def.set_attr("Truncate", AttrValue::of_bool(false));
  }
  view.redefine(root, std::move(def), {x});
  if (!inner.num_data_uses() && !context.preserved(inner)) view.remove(inner);
  return &root;
}

}  // namespace

std::vector<Pattern> cast_patterns() {
  return {{"cast",
           "chains of `tf.cast` that lose nothing on the way",
           op("Cast", op("Cast", any("x")).as("inner").shared()),
           {{"the first Cast loses nothing", loses_nothing}},
           fold_casts}};
}

}  // namespace tfmetal
