// The pass "variables": makes what a graph does with its variables visible as plain dataflow, so
// that later passes can put a whole training step together.
//
// 1. Updates become sums (updates.cc):
//
//      AssignAddVariableOp(h, x)   ->   AssignVariableOp(h, AddN(ReadVariableOp(h), x))
//      AssignSubVariableOp(h, x)   ->   AssignVariableOp(h, AddN(ReadVariableOp(h), Neg(x)))
//
//    The numbers are the same, and AddN, unlike Add, wants equal shapes as updates do. The
//    assignment keeps the name. Done where the graph also reads the variable or the device computes
//    x, so that a lone counter stays as it is: an update is atomic, while of two concurrent runs of
//    a graph one may lose the sum of the other. The new read waits for what the update waited for
//    and for the last writes before it.
// 2. A read after a write takes the value that was written (reads.cc).
// 3. Reads of the same value become one.
// 4. So does what is computed from them more than once: Adam's bias correction, which each variable
//    has for itself (duplicates.cc).
//
// Order is what paths in the graph say, control edges included. All of it is left alone where
// another access may come in between: one that is not ordered, or whose effect is not known. What
// has an effect still waits for all that a removed read waited for. Within a loop this is about one
// iteration: where iterations overlap, what comes of it is one of the orders that TensorFlow may
// take, and updates are left alone there.
#pragma once

#include "grappler/analysis/control_flow.h"
#include "grappler/analysis/topology.h"
#include "grappler/pass.h"
#include "grappler/variables/accesses.h"

namespace tfmetal {

// The pass.
int simplify_variables(GraphView& view, Context& context);

// The steps of it. Each returns the number of nodes changed or removed.
int split_updates(GraphView& view, Context& context);
int remove_reads(GraphView& view, Context& context);
int merge_duplicates(GraphView& view, Context& context);

// The order of two accesses of one variable.
enum class Order { kBefore, kAfter, kNever, kAny };  // kNever: at most one of them happens

// One variable and the order of its accesses.
class History {
 public:
  History(const Variable& variable, const Ancestry& ancestry, const ControlFlow& flow)
      : variable_(variable), ancestry_(ancestry), flow_(flow) {}

  const std::vector<Access>& accesses() const { return variable_.accesses; }
  // Whether a path leads from an access to any node.
  bool comes_before(const GraphNode& access, const GraphNode& node) const {
    return ancestry_.leads(access, node);
  }
  // Where `other` stands with respect to `node`.
  Order order(const GraphNode& other, const GraphNode& node) const;
  // How each access that may write stands to `node`, which is not compared with itself.
  std::vector<Order> writes_around(const GraphNode& node) const;
  // The writes before `node` that no other write before it comes after.
  std::vector<GraphNode*> last_writes(const GraphNode& node) const;

 private:
  const Variable& variable_;
  const Ancestry& ancestry_;
  const ControlFlow& flow_;
};

// Calls visit(history, control flow) for each variable.
using VisitHistory = int (*)(GraphView&, Context&, const History&, ControlFlow&);
int for_each_history(GraphView& view, Context& context, VisitHistory visit);

}  // namespace tfmetal
