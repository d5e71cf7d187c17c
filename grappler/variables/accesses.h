// What a graph does with its resource variables.
//
// A variable is what provides its handle: an `_Arg`, or VarHandleOps of one shared name. Handles
// are followed through Identity, Switch, Merge and the nodes of loops. Two arguments are taken for
// two variables. A caller might pass one variable twice, but then TensorFlow itself orders accesses
// only within each argument, and runs the rest in any order.
#pragma once

#include <vector>

#include "grappler/graphdef/graph_view.h"

namespace tfmetal {

enum class AccessKind {
  kRead,    // ReadVariableOp
  kAssign,  // AssignVariableOp
  kUpdate,  // AssignAddVariableOp, AssignSubVariableOp
  kOther    // may write, in a way that is not known
};

struct Access {
  GraphNode* node;
  AccessKind kind;
};

struct Variable {
  std::vector<Access> accesses;  // each node once
};

// All variables with their accesses, sources first. Questions that change nothing (its shape, some
// of its rows) are left out. What may touch any variable, a call of Python for example, is among
// the accesses of each.
std::vector<Variable> find_variables(const GraphView& view, const std::vector<GraphNode*>& order);

// Whether the node only computes outputs from inputs: it has no effect, knows no resource and gives
// the same for the same.
bool is_pure(const GraphNode& node);

}  // namespace tfmetal
