// Merges nodes that compute the same from the same (variables.h).
#include <algorithm>
#include <unordered_map>

#include "grappler/cluster/member.h"
#include "grappler/variables/variables.h"
#include "plugin/device/stats.h"

namespace tfmetal {
namespace {

bool is_commutative(const GraphNode& node) {
  return node.op() == "Add" || node.op() == "AddV2" || node.op() == "Mul";
}

// Equal for nodes with equal results.
std::string signature(const GraphNode& node) {
  std::string out = concat(node.op(), "\n", node.device(), "\n");
  std::vector<std::pair<size_t, int>> inputs;
  for (const Output& input : node.inputs()) inputs.emplace_back(input.node->index(), input.port);
  if (is_commutative(node)) std::ranges::sort(inputs);
  for (const auto& [source, port] : inputs) out += concat(source, ":", port, " ");
  std::vector<size_t> controls;
  for (const GraphNode* source : node.controls()) controls.push_back(source->index());
  std::ranges::sort(controls);
  for (const size_t source : controls) out += concat("^", source, " ");
  return out + canonical_attributes(node.def());
}

bool is_candidate(const GraphNode& node, const Context& context) {
  return context.on_device(node) && !context.preserved(node) && node.num_inputs() &&
         can_be_member(node.def()) && is_pure(node);
}

}  // namespace

int merge_duplicates(GraphView& view, Context& context) {
  std::unordered_map<std::string, GraphNode*> known;
  int count = 0;
  for (GraphNode* node : topological_order(view)) {
    if (!is_candidate(*node, context)) continue;
    const auto [entry, is_first] = known.emplace(signature(*node), node);
    if (is_first) continue;
    for (const Use& use : node->data_uses())
      view.set_input(*use.node, size_t(use.index),
                     {entry->second, use.node->input(size_t(use.index)).port});
    view.remove(*node);  // who waited for it waits for its inputs
    count_fusion("variables/duplicate");
    ++count;
  }
  return count;
}

}  // namespace tfmetal
