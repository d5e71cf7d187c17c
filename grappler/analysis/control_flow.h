// Loops and branches of a graph whose control flow is in nodes (Switch, Merge, Enter, Exit...).
//
// In the branch that is not taken, nodes are "dead": TensorFlow does not run them. A node is alive
// when all its inputs are (a Merge: when one is). What a node's life depends on is kept as a set of
// conditions, each "this Switch goes that way"; nodes with equal sets live and die together. Where
// a Merge joins both ways of a condition, the condition is dropped; a loop whose values all start
// and continue together counts as one condition inside and as none outside.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "grappler/graphdef/graph_view.h"

namespace tfmetal {

class ControlFlow {
 public:
  // `order`: all nodes of the view, sources first.
  ControlFlow(const GraphView& view, const std::vector<GraphNode*>& order);

  // The loop whose body holds the node; 0 outside of loops.
  int frame(const GraphNode& node) const { return frames_of_[node.index()]; }
  int parent(int frame) const { return frames_[size_t(frame)].parent; }
  // The NextIteration nodes of a loop.
  const std::vector<GraphNode*>& continuations(int frame) const {
    return frames_[size_t(frame)].continuations;
  }
  // Of one frame, nodes with equal numbers are alive together or dead together.
  int liveness(const GraphNode& node) const { return lives_[node.index()]; }
  // The liveness of an output, which for Switch differs from that of the node.
  int liveness(Output output);
  // Whether of the two, in one frame, at most one is alive.
  bool exclusive(const GraphNode& a, const GraphNode& b) const;

 private:
  // A way of a Switch: its predicate and the output taken. Or, with another `way`, a condition that
  // is not known any closer: of a node, or of a frame's iteration.
  struct Condition {
    const GraphNode* node;
    int number;  // port of the predicate, or a frame
    int way;
    friend auto operator<=>(const Condition&, const Condition&) = default;
  };
  using Conditions = std::set<Condition>;

  struct Frame {
    int parent = 0;
    std::optional<int> enters, continues;  // liveness of what comes in, and comes back
    bool odd = false;                      // not all of it alive together
    std::vector<GraphNode*> continuations;
  };

  void visit(const GraphNode& node);
  void enter_frame(const GraphNode& node);
  void leave_frame(const GraphNode& node, const Frame& frame);
  int merged(const GraphNode& node, int frame);
  int joined(const GraphNode& node);
  void check_continuations(const std::vector<GraphNode*>& order);
  void expect_same(std::optional<int>& known, int life, Frame& frame);

  int interned(const Conditions& conditions);
  int with(int life, Condition condition);
  int both(int a, int b);
  int unknown(const GraphNode& node);

  std::vector<int> frames_of_, lives_;  // by node
  std::map<std::tuple<int, std::string>, int> frame_numbers_;
  std::vector<Frame> frames_;
  bool found_odd_ = false;
  std::vector<Conditions> sets_;  // by liveness; 0: no condition
  std::map<Conditions, int> numbers_;
};

}  // namespace tfmetal
