#include "grappler/remapper/matcher.h"

#include <algorithm>
#include <unordered_set>

#include "grappler/cluster/member.h"
#include "grappler/remapper/search.h"
#include "plugin/error.h"

namespace tfmetal {
namespace {

bool is_control_flow(const std::string& op) {
  return op == "Switch" || op == "RefSwitch" || op == "_SwitchN" || op == "Merge" || op == "Enter";
}

std::optional<TF_DataType> element_type(const NodeDef& def) {
  const AttrValue* type = def.find_attr("T");
  if (!type || type->kind() != AttrValue::Kind::kType) return std::nullopt;
  return type->as_type();
}

bool has_other_type(const NodeDef& def, const NodeDef& root) {
  const std::optional<TF_DataType> a = element_type(def), b = element_type(root);
  return a && b && *a != *b;
}

}  // namespace

Matcher::Matcher(const GraphView& view, Context& context) : view_(view), context_(context) {
  for (size_t i = 0; i < view.size() && !has_branches_; ++i)
    has_branches_ = is_control_flow(view.node(i).op());
}

std::optional<Match> Matcher::find(const Pattern& pattern, GraphNode& root, Refusal* refusal) {
  std::optional<Match> found;
  Search().run(pattern.tree, root, [&](const Match& match) {
    if (match.work() < 2 && !pattern.rewrite) return false;  // nothing to fuse
    const std::optional<Refusal> refused = check(pattern, match);
    if (!refused) found = match;
    if (refused && refusal && refusal->rule.empty()) *refusal = *refused;
    return !refused;
  });
  if (found && refusal) *refusal = {};
  return found;
}

std::optional<Refusal> Matcher::check(const Pattern& pattern, const Match& match) {
  for (const Match::Member& member : match.members) {
    const GraphNode& node = *member.node;
    if (!context_.on_device(node) || node.device() != match.root->device())
      return Refusal{"G3: it is on another device", &node};
    if (!pattern.rewrite && !can_be_member(node.def()))
      return Refusal{"G5: a fused op cannot run it", &node};
    if (!pattern.rewrite && has_other_type(node.def(), match.root->def()))
      return Refusal{"G5: its element type is not the root's", &node};
    if (&node == match.root) continue;
    if (auto refused = check_inside(match, member)) return refused;
  }
  for (const Condition& condition : pattern.when)
    if (!condition.holds(match, context_))
      return Refusal{concat("G6: not known that ", condition.says), match.root};
  // A rewriting pattern leaves shared nodes as they are.
  return pattern.rewrite ? std::nullopt : check_shared(match);
}

std::optional<Refusal> Matcher::check_inside(const Match& match,
                                             const Match::Member& member) const {
  const GraphNode& node = *member.node;
  if (node.num_controls() || node.num_control_uses())
    return Refusal{"G2: a control edge begins or ends at it", &node};
  if (member.fate == Fate::kShared) return std::nullopt;
  if (context_.preserved(node)) return Refusal{"G1: its name is preserved", &node};
  for (const Use& use : node.data_uses())
    if (!match.contains(use.node))
      return Refusal{concat("G1: '", use.node->name(), "' reads it too"), &node};
  return std::nullopt;
}

std::optional<Refusal> Matcher::check_shared(const Match& match) {
  for (const Match::Member& member : match.members) {
    if (member.fate != Fate::kShared || member.node == match.root) continue;
    const std::vector<Use> uses = member.node->data_uses();
    const bool is_read = std::any_of(uses.begin(), uses.end(),
                                     [&](const Use& use) { return !match.contains(use.node); });
    if (!is_read && !context_.preserved(*member.node)) continue;
    if (has_branches_) return Refusal{"G4: others read it, and the graph branches", member.node};
    if (comes_back(match)) return Refusal{"G4: a path leaves here and comes back", member.node};
  }
  return std::nullopt;
}

// Whether a path from a member through other nodes ends at a member. The root is the last of them.
bool Matcher::comes_back(const Match& match) {
  number_nodes();
  // A node that came later has no number: it is looked at.
  const auto position = [&](const GraphNode* node) {
    const auto found = position_.find(node);
    return found == position_.end() ? 0 : found->second;
  };
  const size_t end = position(match.root);
  std::unordered_set<const GraphNode*> seen;
  std::vector<const GraphNode*> open;
  const auto visit = [&](const GraphNode* node) {
    if (position(node) < end && seen.insert(node).second) open.push_back(node);
  };
  for (const Match::Member& member : match.members)
    for (const Use& use : member.node->data_uses())
      if (!match.contains(use.node)) visit(use.node);
  bool found = false;
  while (!open.empty() && !found) {
    const GraphNode* node = open.back();
    open.pop_back();
    for (const Use& use : node->data_uses()) {
      found |= match.contains(use.node);
      visit(use.node);
    }
    for (const GraphNode* reader : node->control_uses()) {
      found |= match.contains(reader);
      visit(reader);
    }
  }
  return found;
}

void Matcher::number_nodes() {
  if (numbered_) return;
  numbered_ = true;
  position_.clear();
  const std::vector<GraphNode*> order = reverse_topological();
  for (size_t i = 0; i < order.size(); ++i) position_[order[i]] = order.size() - i;
}

void Matcher::replaced(const Match& match, const GraphNode& node) {
  // Readers of shared members now come after the root's place.
  for (const Match::Member& member : match.members) numbered_ &= member.fate != Fate::kShared;
  if (numbered_) position_[&node] = position_[match.root];
}

std::vector<GraphNode*> Matcher::reverse_topological() const {
  std::vector<GraphNode*> order;
  std::unordered_set<const GraphNode*> seen;
  struct Step {
    GraphNode* node;
    std::vector<GraphNode*> sources;
  };
  std::vector<Step> path;
  const auto enter = [&](GraphNode* node) {
    if (node->removed() || !seen.insert(node).second) return;
    path.push_back({node, node->controls()});
    for (const Output& input : node->inputs()) path.back().sources.push_back(input.node);
  };
  for (size_t i = 0; i < view_.size(); ++i) {
    enter(&view_.node(i));
    while (!path.empty()) {
      if (path.back().sources.empty()) {
        order.push_back(path.back().node);
        path.pop_back();
        continue;
      }
      GraphNode* source = path.back().sources.back();
      path.back().sources.pop_back();
      enter(source);
    }
  }
  std::reverse(order.begin(), order.end());
  return order;
}

}  // namespace tfmetal
