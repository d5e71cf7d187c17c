#include "grappler/remapper/matcher.h"

#include <algorithm>
#include <unordered_set>

#include "grappler/analysis/topology.h"
#include "grappler/cluster/member.h"
#include "grappler/remapper/search.h"
#include "plugin/error.h"

namespace tfmetal {
namespace {

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
    if (!lives_with_root(match, *member.node))
      return Refusal{"G4: others read it, also when the root is dead", member.node};
    if (comes_back(match)) return Refusal{"G4: a path leaves here and comes back", member.node};
  }
  return std::nullopt;
}

bool Matcher::lives_with_root(const Match& match, const GraphNode& node) {
  if (!flow_) flow_.emplace(view_, topological_order(view_));
  return flow_->frame(node) == flow_->frame(*match.root) &&
         flow_->liveness(node) == flow_->liveness(*match.root);
}

// Whether a path from a member through other nodes ends at a member. The root is the last of them.
bool Matcher::comes_back(const Match& match) {
  if (positions_.empty()) number_nodes();
  const size_t end = position(match.root);
  std::unordered_set<const GraphNode*> seen;
  std::vector<const GraphNode*> open;
  bool found = false;
  const auto visit = [&](const GraphNode* node) {
    if (position(node) < end && seen.insert(node).second) open.push_back(node);
  };
  for (const Match::Member& member : match.members)
    for (const Use& use : member.node->data_uses())
      if (!match.contains(use.node)) visit(use.node);
  while (!open.empty() && !found) {
    const GraphNode* node = open.back();
    open.pop_back();
    if (is_next_iteration(*node)) continue;
    const std::vector<GraphNode*>& waiting = node->control_uses();
    std::vector<const GraphNode*> readers(waiting.begin(), waiting.end());
    for (const Use& use : node->data_uses()) readers.push_back(use.node);
    const auto [begin, last] = conditions_.equal_range(node);
    for (auto it = begin; it != last; ++it) readers.push_back(it->second);
    for (const GraphNode* reader : readers) {
      found |= match.contains(reader);
      visit(reader);
    }
  }
  return found;
}

// A node that came later has no position: it is looked at.
size_t Matcher::position(const GraphNode* node) const {
  return node->index() < positions_.size() ? positions_[node->index()] : 0;
}

void Matcher::number_nodes() {
  positions_.assign(view_.size(), 0);
  size_t next = 0;
  for (const GraphNode* node : topological_order(view_)) positions_[node->index()] = ++next;
  conditions_.clear();
  for (const auto& [condition, entries] : find_loop_entries(view_))
    for (const GraphNode* entry : entries) conditions_.emplace(entry, condition);
}

void Matcher::replaced(const Match& match, const GraphNode& node) {
  // Readers of shared members come after the root's place now.
  const bool stale =
      std::any_of(match.members.begin(), match.members.end(),
                  [](const Match::Member& member) { return member.fate == Fate::kShared; });
  if (stale) positions_.clear();
  if (positions_.empty()) return;
  positions_.resize(view_.size(), 0);
  positions_[node.index()] = position(match.root);
}

std::vector<GraphNode*> Matcher::reverse_topological() const {
  std::vector<GraphNode*> order = topological_order(view_);
  std::reverse(order.begin(), order.end());
  return order;
}

}  // namespace tfmetal
