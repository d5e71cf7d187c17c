// In which order the nodes of a graph can run, and which of them comes after which.
//
// A node comes after what it reads and what it waits for. What a loop carries back to its start
// (NextIteration to Merge) does not count, so the nodes of a loop's body are ordered as within one
// iteration. What leaves a loop comes after all that enters it.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "grappler/graphdef/graph_view.h"

namespace tfmetal {

bool is_merge(const GraphNode& node);
bool is_next_iteration(const GraphNode& node);

// Calls visit(Output) for all that `node` reads or, with kControlPort, waits for, except what a
// loop carries back.
template <class Visit>
void for_each_source(const GraphNode& node, Visit visit) {
  const bool merge = is_merge(node);
  for (size_t i = 0; i < node.num_inputs(); ++i)
    if (const Output source = node.input(i); !merge || !is_next_iteration(*source.node))
      visit(source);
  if (node.num_controls())
    for (GraphNode* source : node.controls()) visit(Output{source, kControlPort});
}

// By LoopCond node: the Enter nodes of its loop, on which all that leaves the loop may depend.
using LoopEntries = std::unordered_map<const GraphNode*, std::vector<GraphNode*>>;
LoopEntries find_loop_entries(const GraphView& view);

// All nodes, each after its sources; what belongs to one branch of the graph stays together.
// Throws FailedPrecondition when there is a cycle.
std::vector<GraphNode*> topological_order(const GraphView& view);

// Which of a few nodes lie on paths to a node, and so run before it: what enters a loop need not
// have run when a loop of no iterations is left. Takes time and memory in nodes times marks / 64.
class Ancestry {
 public:
  // `order`: all nodes, sources first.
  Ancestry(const GraphView& view, const std::vector<GraphNode*>& order,
           const std::vector<GraphNode*>& marks);

  // Whether a path leads from `mark`, one of the marks, to `node`.
  bool leads(const GraphNode& mark, const GraphNode& node) const;

 private:
  size_t words_;
  std::vector<int> mark_of_;    // by node; -1: none
  std::vector<uint64_t> rows_;  // by node: its marked ancestors
};

}  // namespace tfmetal
