#include "grappler/cluster/candidates.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "grappler/analysis/control_flow.h"
#include "grappler/analysis/topology.h"
#include "grappler/cluster/cluster.h"
#include "grappler/cluster/dissolve.h"
#include "grappler/cluster/member.h"
#include "grappler/cluster/outline.h"
#include "kernels/cluster/shape_arithmetic.h"
#include "kernels/op_def.h"
#include "kernels/op_table.h"

namespace tfmetal {
namespace {

using Role = LevelProblem::Role;
constexpr int kNoGroup = -1;

bool is_member(const GraphNode& node, const Context& context) {
  if (!context.on_device(node)) return false;
  if (node.op() == kClusterOp) return is_fusion(node);
  return can_be_member(node.def()) && !is_shape_arithmetic(node.def()) &&
         !op_def(node.op()).stateful;
}

// Waits for nodes of other devices or processes that the graph does not show.
bool meets_others(const GraphNode& node) { return node.op().starts_with("Collective"); }

class Finder {
 public:
  Finder(const GraphView& view, const Context& context)
      : context_(context),
        nodes_(topological_order(view)),
        loops_(find_loop_entries(view)),
        flow_(view, nodes_),
        number_(view.size(), -1) {}

  Candidates find() {
    for (size_t i = 0; i < nodes_.size(); ++i) {
      number_[nodes_[i]->index()] = int(i);
      add(*nodes_[i], int(i));
    }
    return {std::move(nodes_), std::move(problem_)};
  }

 private:
  void add(const GraphNode& node, int number) {
    Role role = Role::kOutside;
    int group = kNoGroup;
    if (is_member(node, context_) || is_inner(node)) {
      role = Role::kMember;
      group = group_of(node);
    } else if ((node.op() == "Const" && is_inlined(node)) || is_shape_arithmetic(node.def())) {
      group = inherited_group(node);
      if (group != kNoGroup) role = Role::kLight;
    }
    problem_.roles.push_back(role);
    problem_.groups.push_back(group);
    const std::vector<bool> host = role == Role::kMember ? hosts(node) : std::vector<bool>();
    size_t index = 0;  // data inputs come first
    for_each_source(node, [&](Output source) {
      const bool on_host = source.port != kControlPort && index < host.size() && host[index];
      ++index;
      const int from = number_[source.node->index()];
      const bool apart = (on_host && role_of(from) == Role::kMember) ||
                         (role == Role::kLight && needs_value(source, node)) ||
                         meets_others(*source.node);
      problem_.edges.push_back({from, number, apart});
    });
    if (const auto loop = loops_.find(&node); loop != loops_.end())
      for (const GraphNode* entry : loop->second)
        problem_.edges.push_back({number_[entry->index()], number});
  }

  Role role_of(int number) const { return problem_.roles[size_t(number)]; }

  std::vector<bool> hosts(const GraphNode& node) const {
    if (node.op() == kClusterOp)
      return std::vector<bool>(node.def().attr_types("Thost").size(), true);
    return host_inputs(node.def());
  }

  // Takes only values that members and constants give, and gives only to members.
  bool is_inner(const GraphNode& node) {
    if (!context_.on_device(node) || context_.preserved(node) || !can_be_inner(node.def()) ||
        is_shape_arithmetic(node.def()) || op_def(node.op()).stateful)
      return false;
    const int group = group_of(node);
    const auto gives = [&](const Output& source) {
      return is_inlined(*source.node) || group_at(source) == group;
    };
    const auto takes = [&](const Use& use) {
      return is_member(*use.node, context_) && use.node->op() != kClusterOp &&
             !host_inputs(use.node->def())[size_t(use.index)];
    };
    return node.num_data_uses() && std::ranges::all_of(node.data_uses(), takes) &&
           std::ranges::all_of(node.inputs(), gives) &&
           std::ranges::any_of(node.inputs(),
                               [&](const Output& source) { return group_at(source) == group; });
  }

  // Of a member; else kNoGroup.
  int group_at(Output source) const {
    const int number = number_[source.node->index()];
    return role_of(number) == Role::kMember ? problem_.groups[size_t(number)] : kNoGroup;
  }

  int group_of(const GraphNode& node) {
    const auto key = std::make_tuple(node.device(), flow_.frame(node), flow_.liveness(node));
    const auto [entry, is_new] = group_numbers_.emplace(key, int(alive_.size()));
    if (is_new) alive_.emplace_back(flow_.frame(node), flow_.liveness(node));
    return entry->second;
  }

  // Whether `node`, evaluated on the host, reads what a member computes on the device.
  bool needs_value(Output source, const GraphNode& node) const {
    return source.port != kControlPort && !asks_for_shape(node.def()) &&
           role_of(number_[source.node->index()]) == Role::kMember;
  }

  // The group of all members and light nodes that the node depends on, if there is just one, and
  // the node is alive whenever these are.
  int inherited_group(const GraphNode& node) const {
    int group = kNoGroup;
    bool fits = true;
    for_each_source(node, [&](Output source) {
      const int other = problem_.groups[size_t(number_[source.node->index()])];
      if (other == kNoGroup || needs_value(source, node)) return;
      fits &= group == kNoGroup || group == other;
      group = other;
    });
    const auto mine = std::make_pair(flow_.frame(node), flow_.liveness(node));
    return fits && group != kNoGroup && alive_[size_t(group)] == mine ? group : kNoGroup;
  }

  const Context& context_;
  std::vector<GraphNode*> nodes_;
  const LoopEntries loops_;
  ControlFlow flow_;
  std::vector<int> number_;  // by node, in nodes_
  std::map<std::tuple<std::string, int, int>, int> group_numbers_;
  std::vector<std::pair<int, int>> alive_;  // by group: frame and liveness
  LevelProblem problem_;
};

}  // namespace

Candidates find_candidates(const GraphView& view, const Context& context) {
  return Finder(view, context).find();
}

bool is_work(const GraphNode& node) {
  if (node.op() == kClusterOp) return true;
  const OpRow* row = find_row(node.def());
  return row && !row->cluster_only && row->cluster == ClusterPolicy::kAlways;
}

}  // namespace tfmetal
