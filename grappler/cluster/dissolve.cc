#include "grappler/cluster/dissolve.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "grappler/cluster/cluster.h"
#include "grappler/cluster/outline.h"

namespace tfmetal {
namespace {

Fusion dissolve(GraphView& view, GraphNode& cluster) {
  Fusion fusion{cluster.name(), cluster.def().attr_string("pattern"), {}};
  const GraphView inside(GraphDef::parse(cluster.def().attr_string("graph")));
  view.rename(cluster, view.unique_name(fusion.name + "/dissolved"));
  std::unordered_map<const GraphNode*, GraphNode*> copies;
  const auto outside = [&](Output inner) {
    if (inner.node->op() == "_Arg")
      return cluster.input(size_t(inner.node->def().attr_int("index")));
    return Output{copies.at(inner.node), inner.port};
  };
  for (size_t i = 0; i < inside.size(); ++i) {  // sources come first
    const GraphNode& inner = inside.node(i);
    if (inner.op() == "_Arg") continue;
    if (inner.op() == "_Retval") {
      const int port = int(inner.def().attr_int("index"));
      view.replace_uses({&cluster, port}, outside(inner.input(0)));
      continue;
    }
    std::vector<Output> inputs;
    for (const Output& input : inner.inputs()) inputs.push_back(outside(input));
    NodeDef def = inner.def();
    def.inputs.clear();
    def.name = view.unique_name(def.name);
    def.device = cluster.device();
    GraphNode& copy = view.add(std::move(def), inputs);
    copies.emplace(&inner, &copy);
    if (inner.op() == "Const") continue;
    for (GraphNode* control : cluster.controls()) view.add_control(*control, copy);
    fusion.members.push_back(&copy);
  }
  for (GraphNode* reader : cluster.control_uses()) {
    view.remove_control(cluster, *reader);
    view.add_control(*fusion.members.back(), *reader);
  }
  view.remove(cluster);
  return fusion;
}

// Casts between members, read by others too or not.
std::vector<GraphNode*> casts_between(const std::vector<GraphNode*>& members) {
  const std::unordered_set<const GraphNode*> inside(members.begin(), members.end());
  std::unordered_set<const GraphNode*> seen;
  std::vector<GraphNode*> found;
  for (const GraphNode* member : members) {
    for (const Use& use : member->data_uses()) {
      if (use.node->op() != "Cast" || inside.contains(use.node) || !seen.insert(use.node).second)
        continue;
      if (std::ranges::any_of(use.node->data_uses(),
                              [&](const Use& reader) { return inside.contains(reader.node); }))
        found.push_back(use.node);
    }
  }
  return found;
}

}  // namespace

bool is_fusion(const GraphNode& node) {
  return node.op() == kClusterOp && node.def().attr_string("pattern") != kClusterPattern;
}

std::vector<Fusion> dissolve_fusions(GraphView& view, const Context& context) {
  std::vector<Fusion> fusions;
  const size_t size = view.size();
  for (size_t i = 0; i < size; ++i) {
    GraphNode& node = view.node(i);
    if (!node.removed() && is_fusion(node) && context.on_device(node) && !context.preserved(node))
      fusions.push_back(dissolve(view, node));
  }
  return fusions;
}

void restore_fusions(GraphView& view, Context& context, const std::vector<Fusion>& fusions) {
  for (const Fusion& fusion : fusions) {
    std::vector<GraphNode*> members = fusion.members;
    const std::vector<GraphNode*> casts = casts_between(members);
    members.insert(members.end(), casts.begin(), casts.end());
    GraphNode& cluster = outline(view, members, context, fusion.pattern);
    if (cluster.name() != fusion.name && !view.find(fusion.name)) view.rename(cluster, fusion.name);
  }
}

}  // namespace tfmetal
