#include "grappler/variables/variables.h"

#include <algorithm>

namespace tfmetal {

Order History::order(const GraphNode& other, const GraphNode& node) const {
  if (ancestry_.leads(other, node)) return Order::kBefore;
  if (ancestry_.leads(node, other)) return Order::kAfter;
  const bool one_frame = flow_.frame(other) == flow_.frame(node);
  return one_frame && flow_.exclusive(other, node) ? Order::kNever : Order::kAny;
}

std::vector<Order> History::writes_around(const GraphNode& node) const {
  std::vector<Order> out;
  for (const Access& access : accesses())
    if (access.kind != AccessKind::kRead && access.node != &node)
      out.push_back(order(*access.node, node));
  return out;
}

std::vector<GraphNode*> History::last_writes(const GraphNode& node) const {
  std::vector<GraphNode*> before, last;
  for (const Access& access : accesses())
    if (access.kind != AccessKind::kRead && ancestry_.leads(*access.node, node))
      before.push_back(access.node);
  for (GraphNode* write : before)
    if (std::ranges::none_of(before, [&](GraphNode* w) { return ancestry_.leads(*write, *w); }))
      last.push_back(write);
  return last;
}

int for_each_history(GraphView& view, Context& context, VisitHistory visit) {
  constexpr size_t kMarksAtOnce = 2048;  // bounds the memory of Ancestry
  const std::vector<GraphNode*> order = topological_order(view);
  ControlFlow flow(view, order);
  const std::vector<Variable> variables = find_variables(view, order);
  int changes = 0;
  for (size_t first = 0, end = 0; first < variables.size(); first = end) {
    std::vector<GraphNode*> marks;
    for (; end < variables.size(); ++end) {
      const std::vector<Access>& accesses = variables[end].accesses;
      if (end > first && marks.size() + accesses.size() > kMarksAtOnce) break;
      for (const Access& access : accesses) marks.push_back(access.node);
    }
    // What visits remove or add is not asked about again.
    const Ancestry ancestry(view, order, marks);
    for (size_t i = first; i < end; ++i)
      changes += visit(view, context, History(variables[i], ancestry, flow), flow);
  }
  return changes;
}

int simplify_variables(GraphView& view, Context& context) {
  const int updates = split_updates(view, context);
  const int reads = remove_reads(view, context);
  return updates + reads + (reads ? merge_duplicates(view, context) : 0);
}

}  // namespace tfmetal
