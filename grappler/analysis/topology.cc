#include "grappler/analysis/topology.h"

#include "plugin/error.h"

namespace tfmetal {

bool is_merge(const GraphNode& node) { return node.op() == "Merge" || node.op() == "RefMerge"; }

bool is_next_iteration(const GraphNode& node) {
  return node.op() == "NextIteration" || node.op() == "RefNextIteration";
}

std::vector<GraphNode*> topological_order(const GraphView& view) {
  enum State : char { kNew, kOpen, kDone };
  std::vector<State> state(view.size(), kNew);
  std::vector<GraphNode*> order, stack;
  order.reserve(view.size());
  for (size_t i = 0; i < view.size(); ++i) {
    if (!view.node(i).removed()) stack.push_back(&view.node(i));
    while (!stack.empty()) {
      GraphNode& node = *stack.back();
      State& mine = state[node.index()];
      if (mine != kNew) {
        stack.pop_back();
        if (mine == kOpen) order.push_back(&node);
        mine = kDone;
        continue;
      }
      mine = kOpen;
      for_each_source(node, [&](Output source) {
        const State other = state[source.node->index()];
        if (other == kOpen) throw_failed_precondition("Cycle through node '", node.name(), "'");
        if (other == kNew) stack.push_back(source.node);
      });
    }
  }
  return order;
}

Ancestry::Ancestry(const GraphView& view, const std::vector<GraphNode*>& order,
                   const std::vector<GraphNode*>& marks)
    : words_((marks.size() + 63) / 64), mark_of_(view.size(), -1), rows_(view.size() * words_) {
  for (size_t i = 0; i < marks.size(); ++i) mark_of_[marks[i]->index()] = int(i);
  for (const GraphNode* node : order) {
    uint64_t* row = &rows_[node->index() * words_];
    for_each_source(*node, [&](Output source) {
      const size_t index = source.node->index();
      for (size_t w = 0; w < words_; ++w) row[w] |= rows_[index * words_ + w];
      if (const int mark = mark_of_[index]; mark >= 0) row[mark / 64] |= uint64_t(1) << mark % 64;
    });
  }
}

bool Ancestry::leads(const GraphNode& mark, const GraphNode& node) const {
  const int bit = mark_of_[mark.index()];
  return rows_[node.index() * words_ + size_t(bit / 64)] >> bit % 64 & 1;
}

}  // namespace tfmetal
