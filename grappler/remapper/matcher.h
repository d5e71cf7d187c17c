// Finds the nodes of a pattern, and holds what makes a match legal whatever the pattern is.
//
//   G1  nodes that disappear are read by the match only, and no name of theirs is preserved
//   G2  no control edge begins or ends at them (the root's move to the fused node)
//   G3  all nodes are on the same one of our devices
//   G4  what stays readable from outside (Fate::kShared) is in the root's loop, and lives and dies
//       with the root; and no path leaves the match and comes back
//   G5  all have the root's element type, and a kernel that a cluster can run
//   G6  the pattern's own conditions, which do not guess at shapes that TensorFlow does not know
//
// That the result has the root's type and shape needs no rule: what is made of a match computes its
// members, or says in its file why it is the same.
//
// Members hang together by data edges and are no control flow ops, so they are of one loop; and
// whether one is dead that only the dead root would read makes no difference.
#pragma once

#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "grappler/analysis/control_flow.h"
#include "grappler/remapper/pattern.h"

namespace tfmetal {

// Why a pattern did not fire where its tree did match.
struct Refusal {
  std::string rule;  // "G1: ..."
  const GraphNode* node = nullptr;
};

class Matcher {
 public:
  Matcher(const GraphView& view, Context& context) : view_(view), context_(context) {}

  // The first legal match with this root: larger ones come first. Without one, and if `refusal` is
  // given, why the first match that was found is not legal; its rule is empty if there was none.
  std::optional<Match> find(const Pattern& pattern, GraphNode& root, Refusal* refusal);

  // All nodes, readers before their sources.
  std::vector<GraphNode*> reverse_topological() const;
  // Tells that members of `match` have been replaced by `node`.
  void replaced(const Match& match, const GraphNode& node);

 private:
  std::optional<Refusal> check(const Pattern& pattern, const Match& match);
  std::optional<Refusal> check_inside(const Match& match, const Match::Member& member) const;
  std::optional<Refusal> check_shared(const Match& match);
  bool comes_back(const Match& match);
  bool lives_with_root(const Match& match, const GraphNode& node);
  void number_nodes();
  size_t position(const GraphNode* node) const;

  const GraphView& view_;
  Context& context_;
  std::optional<ControlFlow> flow_;  // of the graph as it came
  std::vector<size_t> positions_;    // in topological order, from 1, by node; empty when stale
  // By Enter node: what decides its loop, and with it all that leaves the loop.
  std::unordered_multimap<const GraphNode*, const GraphNode*> conditions_;
};

}  // namespace tfmetal
