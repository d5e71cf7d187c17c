// A while loop of a graph, taken apart.
//
//   Enter -> Merge -> Switch -> Exit            one variable: what it starts with, what it is
//              |   \     |   :1                  before and after a step, and behind the loop
//              |  LoopCond \-> ... body ... -> NextIteration -> Merge
//              \-> condition
//   Enter(is_constant) -> ... body ...
#pragma once

#include <optional>
#include <unordered_set>
#include <vector>

#include "grappler/pass.h"

namespace tfmetal {

struct LoopVariable {
  GraphNode *enter, *merge, *choice, *next;
  GraphNode* exit = nullptr;  // null when nothing behind the loop asks for it

  Output initial() const { return enter->input(0); }
  Output before() const { return {choice, 1}; }
  Output after() const { return next->input(0); }
};

struct WhileLoop {
  GraphNode* condition = nullptr;  // LoopCond
  std::vector<LoopVariable> variables;
  std::vector<GraphNode*> constants;           // Enter
  std::unordered_set<const GraphNode*> nodes;  // all from Enter to Exit

  // Calls visit(node) for each Enter.
  template <class Visit>
  void for_each_enter(Visit visit) const {
    for (const LoopVariable& variable : variables) visit(*variable.enter);
    for (GraphNode* constant : constants) visit(*constant);
  }
};

// The loop of a LoopCond. Nothing where it is not of this form, or holds another loop.
std::optional<WhileLoop> parse_loop(GraphNode& condition);

// `output` before the Identity nodes that it went through.
Output source_of(Output output);

// The value of a scalar constant of int32.
std::optional<int64_t> int_constant(Output output);

}  // namespace tfmetal
