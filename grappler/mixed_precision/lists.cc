// TensorLists: what a loop keeps step by step. A list has one element type, so all that handles it
// is converted together or not at all; what is written into it comes before what is read from it.
#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "grappler/mixed_precision/painter.h"

namespace tfmetal {
namespace {

// Where an op takes a list, and where it gives one.
struct Handles {
  bool every_input = false;  // else input 0 if `takes`
  bool takes = true;
  int gives = 0;  // this many outputs, from 0
};

// Null for what may do anything with a list.
const Handles* handles_of(const GraphNode& node) {
  static const std::unordered_map<std::string_view, Handles> lists = {
      {"EmptyTensorList", {.takes = false, .gives = 1}},
      {"TensorListReserve", {.takes = false, .gives = 1}},
      {"TensorListFromTensor", {.takes = false, .gives = 1}},
      {"TensorListElementShape", {}},
      {"TensorListGather", {}},
      {"TensorListGetItem", {}},
      {"TensorListLength", {}},
      {"TensorListStack", {}},
      {"TensorListPopBack", {.gives = 1}},
      {"TensorListPushBack", {.gives = 1}},
      {"TensorListResize", {.gives = 1}},
      {"TensorListSetItem", {.gives = 1}}};
  static const std::unordered_map<std::string_view, Handles> flow = {
      {"Enter", {.gives = 1}},         {"Exit", {.gives = 1}},   {"Identity", {.gives = 1}},
      {"NextIteration", {.gives = 1}}, {"Switch", {.gives = 2}}, {"Merge", {true, true, 1}}};
  if (const auto it = lists.find(node.op()); it != lists.end()) return &it->second;
  const auto it = flow.find(node.op());
  return it == flow.end() ? nullptr : &it->second;
}

bool takes_list(const Handles& handles, int input) {
  return handles.takes && (handles.every_input || input == 0);
}

// All nodes that handle the list of `maker`, or one that it may be mixed up with.
struct Family {
  std::vector<GraphNode*> nodes;
  bool known = true;  // what all of them do

  explicit Family(GraphNode& maker) {
    add(maker);
    for (size_t i = 0; i < nodes.size(); ++i) follow(*nodes[i]);
  }

 private:
  void add(GraphNode& node) {
    if (seen_.insert(&node).second) nodes.push_back(&node);
  }

  void follow(const GraphNode& node) {
    const Handles& handles = *handles_of(node);
    for (int i = 0; i < int(node.num_inputs()); ++i) {
      if (!takes_list(handles, i)) continue;
      GraphNode& source = *node.input(size_t(i)).node;
      const Handles* gives = handles_of(source);
      known &= gives && node.input(size_t(i)).port < gives->gives;
      if (known) add(source);
    }
    if (!handles.gives) return;
    for (const Use& use : node.data_uses()) {
      if (use.node->input(size_t(use.index)).port >= handles.gives) continue;
      const Handles* takes = handles_of(*use.node);
      known &= takes && takes_list(*takes, use.index);
      if (known) add(*use.node);
    }
  }

  std::unordered_set<const GraphNode*> seen_;
};

}  // namespace

void Painting::group_lists(const GraphView& view, const Context& context) {
  std::unordered_set<const GraphNode*> done;
  for (size_t i = 0; i < view.size(); ++i) {
    GraphNode& maker = view.node(i);
    const Handles* handles = handles_of(maker);
    if (maker.removed() || !handles || handles->takes || done.contains(&maker)) continue;
    const Family family(maker);
    done.insert(family.nodes.begin(), family.nodes.end());
    bool allowed = family.known;
    std::vector<int> members;
    for (const GraphNode* node : family.nodes) {
      const int number = find(*node);
      allowed &= !context.preserved(*node);
      if (number != kNone)
        members.push_back(number);
      else
        allowed &= !node->def().has_attr("element_dtype");
    }
    if (members.empty()) continue;
    join(members, allowed);
    link(members);
  }
}

// Edges by which paths lead from what writes a list to what reads it, over the first member.
void Painting::link(const std::vector<int>& members) {
  const auto edge = [&](int from, int to) {
    if (from == to) return;
    all_[size_t(from)].readers.push_back(to);
    all_[size_t(to)].sources.push_back(from);
  };
  const int hub = members.front();
  for (const int member : members) {
    const Candidate& candidate = all_[size_t(member)];
    const bool reads = std::ranges::count(candidate.outputs, true) > 0;
    const bool writes = std::ranges::count(candidate.inputs, true) > 0;
    if (reads || !writes) edge(hub, member);
    if (writes || !reads) edge(member, hub);
  }
}

}  // namespace tfmetal
