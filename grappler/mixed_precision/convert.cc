#include "grappler/mixed_precision/convert.h"

#include <algorithm>

#include "grappler/cluster/outline.h"
#include "grappler/mixed_precision/types.h"
#include "kernels/dtype.h"
#include "plugin/error.h"

namespace tfmetal {
namespace {

NodeDef cast_def(std::string name, const std::string& device, TF_DataType from, TF_DataType to) {
  NodeDef def;
  def.name = std::move(name);
  def.op = "Cast";
  def.device = device;
  def.set_attr("SrcT", AttrValue::of_type(from));
  def.set_attr("DstT", AttrValue::of_type(to));
  def.set_attr("Truncate", AttrValue::of_bool(false));
  return def;
}

// What becomes of a Cast whose input has its type by now.
NodeDef identity_def(const std::string& device, TF_DataType type) {
  NodeDef def;
  def.op = "Identity";
  def.device = device;
  def.set_attr("T", AttrValue::of_type(type));
  return def;
}

bool is_cast(const GraphNode& node, const char* attr, TF_DataType type) {
  return node.op() == "Cast" && node.def().attr_type(attr) == type;
}

// Rounds once what the Cast and another one behind it would round twice, or not at all.
bool can_give_reduced(TF_DataType from) { return from != TF_DOUBLE && from != TF_COMPLEX64; }

}  // namespace

int Converter::convert() {
  find_casts();
  const size_t size = view_.size();
  for (size_t i = 0; i < size; ++i) {
    GraphNode& node = view_.node(i);
    if (node.removed()) continue;
    for (size_t k = 0; k < node.num_inputs(); ++k) convert_input(node, int(k));
  }
  for (const Candidate& candidate : painting_.candidates())
    if (candidate.converted)
      for (const std::string& attr : candidate.attrs)
        candidate.node->set_attr(attr, changed(candidate.node->def().attr(attr), target_));
  for (const GraphNode* node : reduced_casts_) {
    GraphNode& cast = view_.node(node->index());
    const Output source = cast.input(0);
    const TF_DataType from = cast.def().attr_type("SrcT");
    view_.redefine(cast,
                   from == target_ ? identity_def(cast.device(), target_)
                                   : cast_def(cast.name(), cast.device(), from, target_),
                   {source});
  }
  for (const auto& [constant, copy] : constants_) {
    GraphNode& node = view_.node(constant->index());
    if (!node.num_data_uses() && !node.num_control_uses() && !context_.preserved(node))
      view_.remove(node);
  }
  return int(casts_.size());
}

void Converter::find_casts() {
  for (size_t i = 0; i < view_.size(); ++i) {
    const GraphNode& node = view_.node(i);
    if (node.removed() || !is_cast(node, "DstT", TF_FLOAT) || !context_.on_device(node) ||
        context_.preserved(node) || !can_give_reduced(node.def().attr_type("SrcT")))
      continue;
    const std::vector<Use> uses = node.data_uses();
    NodeDef def = node.def();
    def.set_attr("DstT", AttrValue::of_type(target_));
    if (!uses.empty() && has_kernel(def) &&
        std::ranges::all_of(uses, [&](const Use& use) { return painting_.is_reduced(use); }))
      reduced_casts_.insert(&node);
  }
}

void Converter::convert_input(GraphNode& reader, int index) {
  const Output source = reader.input(size_t(index));
  const bool is_reduced = painting_.is_reduced(source) || reduced_casts_.contains(source.node);
  const bool wants_reduced = painting_.is_reduced(Use{&reader, index});
  if (is_reduced == wants_reduced || (is_reduced && take_reduced(reader))) return;
  Output converted;
  if (is_reduced)
    converted = cast(source, TF_FLOAT, source.node->device());
  else if (source.node->op() == "Const" && is_small_or_ours(*source.node))
    converted = constant(*source.node);
  else
    converted = cast(source, target_, reader.device());
  view_.set_input(reader, size_t(index), converted);
}

// Whether the reader is a Cast from float32, which takes 16 bits from now on.
bool Converter::take_reduced(GraphNode& cast) {
  if (!is_cast(cast, "SrcT", TF_FLOAT) || !context_.on_device(cast)) return false;
  NodeDef def = cast.def();
  def.inputs.clear();
  def.set_attr("SrcT", AttrValue::of_type(target_));
  if (cast.def().attr_type("DstT") == target_) {
    def = identity_def(cast.device(), target_);
  } else if (!has_kernel(def)) {
    return false;
  }
  view_.redefine(cast, std::move(def), cast.inputs());
  return true;
}

Output Converter::cast(Output source, TF_DataType to, const std::string& device) {
  const auto [it, is_new] =
      casts_.try_emplace({source.node, source.port, to, device}, Output{nullptr, 0});
  if (!is_new) return it->second;
  const std::string name = view_.unique_name(concat(source.node->name(), "/to_", name_of(to)));
  const TF_DataType from = to == TF_FLOAT ? target_ : TF_FLOAT;
  return it->second = {&view_.add(cast_def(name, device, from, to), {source}), 0};
}

// Whether a rounded copy leaves the graph as small as it is.
bool Converter::is_small_or_ours(const GraphNode& constant) const {
  if (is_inlined(constant)) return true;
  if (context_.preserved(constant) || constant.num_control_uses()) return false;
  const std::vector<Use> uses = constant.data_uses();
  return std::ranges::all_of(uses, [&](const Use& use) { return painting_.is_reduced(use); });
}

Output Converter::constant(GraphNode& source) {
  const auto [it, is_new] = constants_.try_emplace(&source, Output{nullptr, 0});
  if (!is_new) return it->second;
  NodeDef def = source.def();
  def.inputs.clear();
  def.name = view_.unique_name(concat(source.name(), "/to_", name_of(target_)));
  def.set_attr("value", AttrValue::of_tensor(rounded(def.attr_tensor("value"), target_)));
  def.set_attr("dtype", AttrValue::of_type(target_));
  return it->second = {&view_.add(std::move(def), {}, source.controls()), 0};
}

}  // namespace tfmetal
