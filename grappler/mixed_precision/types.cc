#include "grappler/mixed_precision/types.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "grappler/mixed_precision/classes.h"
#include "kernels/op_def.h"
#include "kernels/op_table.h"
#include "plugin/error.h"

namespace tfmetal {
namespace {

// The attribute that tells the type of an argument; empty when it is fixed.
const std::string& type_attr(const ArgDef& arg) {
  return arg.type_list_attr.empty() ? arg.type_attr : arg.type_list_attr;
}

bool holds_float(const AttrValue& types) {
  if (types.kind() == AttrValue::Kind::kType) return types.as_type() == TF_FLOAT;
  if (types.kind() != AttrValue::Kind::kList || types.element_kind() != AttrValue::Kind::kType)
    return false;
  return std::ranges::count(types.as_types(), TF_FLOAT) > 0;
}

bool can_have(const NodeDef& node, const std::vector<std::string>& attrs, TF_DataType target) {
  NodeDef def = node;
  for (const std::string& attr : attrs) def.set_attr(attr, changed(node.attr(attr), target));
  return has_kernel(def);
}

std::vector<bool> flags(const std::vector<ArgDef>& args, const NodeDef& node,
                        const std::vector<std::string>& attrs) {
  std::vector<bool> out;
  for (const ArgDef& arg : args) {
    const bool changes = std::ranges::count(attrs, type_attr(arg)) > 0;
    if (changes && !arg.type_list_attr.empty())
      for (const TF_DataType type : node.attr_types(arg.type_list_attr))
        out.push_back(type == TF_FLOAT);
    else
      out.insert(out.end(), arg_length(arg, node), changes);
  }
  return out;
}

uint16_t to_half(float value) { return std::bit_cast<uint16_t>(static_cast<_Float16>(value)); }

uint16_t to_bfloat16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if (std::isnan(value)) return uint16_t(bits >> 16 | 0x40);  // stays NaN without its lower digits
  return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

}  // namespace

std::vector<std::string> float_attrs(const NodeDef& node) try {
  std::vector<std::string> out;
  const OpDef& def = op_def(node.op);
  const OpRow* row = find_row(node);
  const std::string_view kept = row && row->keeps_type ? row->keeps_type : "";
  for (const std::vector<ArgDef>* args : {&def.inputs, &def.outputs}) {
    for (const ArgDef& arg : *args) {
      const std::string& name = type_attr(arg);
      if (!name.empty() && name != kept && !std::ranges::count(out, name) &&
          holds_float(node.attr(name)))
        out.push_back(name);
    }
  }
  const AttrValue* elements = node.find_attr("element_dtype");
  if (out.empty() && elements && holds_float(*elements)) out.push_back("element_dtype");
  return out;
} catch (const Error&) {  // no such op, or an attribute is missing
  return {};
}

std::vector<std::string> changeable_attrs(const NodeDef& node, TF_DataType target) {
  const std::vector<std::string> all = float_attrs(node);
  if (all.empty() || can_have(node, all, target)) return all;
  for (const std::string& attr : all)
    if (can_have(node, {attr}, target)) return {attr};
  return {};
}

AttrValue changed(const AttrValue& types, TF_DataType target) {
  if (types.kind() == AttrValue::Kind::kType) return AttrValue::of_type(target);
  std::vector<TF_DataType> list = types.as_types();
  std::ranges::replace(list, TF_FLOAT, target);
  return AttrValue::of_types(list);
}

std::vector<bool> input_flags(const NodeDef& node, const std::vector<std::string>& attrs) {
  return flags(op_def(node.op).inputs, node, attrs);
}

std::vector<bool> output_flags(const NodeDef& node, const std::vector<std::string>& attrs) {
  return flags(op_def(node.op).outputs, node, attrs);
}

std::optional<double> number_out_of_range(const TensorProto& value, TF_DataType target) {
  const bool half = target == TF_HALF;
  // Halfway between the largest number and the next power of two.
  const double infinite = half ? std::ldexp(1 - 0x1p-12, 16) : std::ldexp(1 - 0x1p-9, 128);
  const double smallest = std::ldexp(1, half ? -14 : -126);
  const std::vector<double> numbers = value.doubles();
  for (const double number : numbers) {
    const double size = std::fabs(number);
    if (size >= infinite && !std::isinf(number)) return number;
    if (numbers.size() == 1 && number != 0 && size < smallest) return number;
  }
  return std::nullopt;
}

TensorProto rounded(const TensorProto& value, TF_DataType target) {
  const std::string data = value.data();
  std::string out(data.size() / 2, '\0');
  for (size_t i = 0; i * sizeof(float) < data.size(); ++i) {
    float number;
    std::memcpy(&number, data.data() + i * sizeof(float), sizeof(float));
    const uint16_t bits = target == TF_HALF ? to_half(number) : to_bfloat16(number);
    std::memcpy(out.data() + i * sizeof(bits), &bits, sizeof(bits));
  }
  return TensorProto::make(target, value.shape().dims, out);
}

}  // namespace tfmetal
