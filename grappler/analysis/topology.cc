#include "grappler/analysis/topology.h"

#include "plugin/error.h"

namespace tfmetal {
namespace {

bool is_enter(const GraphNode& node) { return node.op() == "Enter" || node.op() == "RefEnter"; }

std::string frame_name(const GraphNode& enter) { return enter.def().attr_string("frame_name", ""); }

}  // namespace

bool is_merge(const GraphNode& node) { return node.op() == "Merge" || node.op() == "RefMerge"; }

bool is_next_iteration(const GraphNode& node) {
  return node.op() == "NextIteration" || node.op() == "RefNextIteration";
}

LoopEntries find_loop_entries(const GraphView& view) {
  std::unordered_map<std::string, std::vector<GraphNode*>> frames;
  std::vector<GraphNode*> conditions;
  for (size_t i = 0; i < view.size(); ++i) {
    GraphNode& node = view.node(i);
    if (node.removed()) continue;
    if (is_enter(node)) frames[frame_name(node)].push_back(&node);
    if (node.op() == "LoopCond") conditions.push_back(&node);
  }
  LoopEntries out;
  for (const GraphNode* condition : conditions) {
    // Each value of a loop is Switch(Merge(Enter, NextIteration), LoopCond).
    for (const Use& use : condition->data_uses()) {
      const GraphNode& merge = *use.node->input(0).node;
      if (!is_merge(merge)) continue;
      for (const Output& source : merge.inputs())
        if (is_enter(*source.node)) out[condition] = frames[frame_name(*source.node)];
      break;
    }
  }
  return out;
}

std::vector<GraphNode*> topological_order(const GraphView& view) {
  const LoopEntries loops = find_loop_entries(view);
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
      const auto follow = [&](GraphNode& source) {
        const State other = state[source.index()];
        if (other == kOpen) throw_failed_precondition("Cycle through node '", node.name(), "'");
        if (other == kNew) stack.push_back(&source);
      };
      for_each_source(node, [&](Output source) { follow(*source.node); });
      if (const auto loop = loops.find(&node); loop != loops.end())
        for (GraphNode* entry : loop->second) follow(*entry);
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
