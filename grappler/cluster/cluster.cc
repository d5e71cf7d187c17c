#include "grappler/cluster/cluster.h"

#include <algorithm>
#include <map>
#include <unordered_map>
#include <unordered_set>

#include "grappler/analysis/topology.h"
#include "grappler/cluster/candidates.h"
#include "grappler/cluster/member.h"
#include "grappler/cluster/outline.h"
#include "plugin/device/stats.h"

namespace tfmetal {
namespace {

using Role = LevelProblem::Role;
using Nodes = std::vector<GraphNode*>;
using NodeSet = std::unordered_set<const GraphNode*>;

class Former {
 public:
  Former(GraphView& view, Context& context)
      : view_(view),
        context_(context),
        candidates_(find_candidates(view, context)),
        levels_(find_levels(candidates_.problem)),
        number_(view.size(), -1) {
    for (size_t i = 0; i < levels_.size(); ++i) number_[candidates_.nodes[i]->index()] = int(i);
  }

  int form() {
    std::map<std::pair<int, int>, Nodes> sets;  // by level and group
    for (size_t i = 0; i < levels_.size(); ++i)
      if (candidates_.problem.roles[i] == Role::kMember)
        sets[{levels_[i], candidates_.problem.groups[i]}].push_back(candidates_.nodes[i]);
    int count = 0;
    for (auto& [place, members] : sets) {
      drop_needless(members);
      for (size_t first = 0; first < members.size(); first += kMaxClusterMembers) {
        const size_t end = std::min(members.size(), first + kMaxClusterMembers);
        count += form_one({members.begin() + ptrdiff_t(first), members.begin() + ptrdiff_t(end)});
      }
    }
    return count;
  }

 private:
  // Whether `node` has that role in the place of `member`.
  bool is_here(Role role, const GraphNode& node, const GraphNode& member) const {
    const LevelProblem& problem = candidates_.problem;
    if (node.index() >= number_.size()) return false;  // a copy, or a cluster
    const size_t a = size_t(number_[node.index()]), b = size_t(number_[member.index()]);
    return problem.roles[a] == role && problem.groups[a] == problem.groups[b] &&
           levels_[a] == levels_[b];
  }
  bool is_light(const GraphNode& node, const GraphNode& member) const {
    return is_here(Role::kLight, node, member);
  }

  // Leaves out what nobody reads, and what only renames or reshapes a result: that costs nothing
  // outside, and inside a copy. Also what is there only to be waited for, like the Identity that
  // says that a branch was taken: were it the cluster, the branch would begin after the cluster,
  // and TensorFlow, which folds constants that depend on it, would make the cluster wait for
  // itself.
  void drop_needless(Nodes& members) const {
    NodeSet inside(members.begin(), members.end()), dead;
    Nodes kept;
    for (auto it = members.rbegin(); it != members.rend(); ++it) {
      GraphNode& node = **it;
      Nodes readers = node.control_uses();
      for (const Use& use : node.data_uses()) readers.push_back(use.node);
      const bool is_dead = !context_.preserved(node) &&
                           std::ranges::all_of(readers, [&](auto* n) { return dead.contains(n); });
      const bool is_read = std::ranges::any_of(node.data_uses(), [&](const Use& use) {
        return inside.contains(use.node) || is_light(*use.node, node);
      });
      if (!is_dead && (is_read || is_work(node))) {
        kept.push_back(&node);
        continue;
      }
      inside.erase(&node);
      if (is_dead) dead.insert(&node);
    }
    members.assign(kept.rbegin(), kept.rend());
  }

  bool form_one(Nodes members) {
    if (size_t(std::ranges::count_if(members, [](GraphNode* n) { return is_work(*n); })) <
        kMinClusterWork)
      return false;
    const std::string device = members.front()->device();
    const Nodes lights = own_light_nodes(members);
    std::ranges::copy_if(lights, std::back_inserter(members),
                         [](GraphNode* node) { return node->op() != "Const"; });
    outline(view_, members, context_, kClusterPattern).set_device(device);
    count_fusion(kClusterPattern);
    return true;
  }

  // The light nodes that the members read and that depend on them, for use inside. What others read
  // too is copied. None waits for a light node outside any more, which itself waits for the
  // cluster.
  Nodes own_light_nodes(const Nodes& members) {
    NodeSet inside(members.begin(), members.end());
    Nodes found = find_light_nodes(members);
    for (auto it = found.rbegin(); it != found.rend(); ++it)
      if (!is_read_elsewhere(**it, inside)) inside.insert(*it);
    std::unordered_map<const GraphNode*, GraphNode*> copies;
    for (GraphNode*& node : found) {
      if (inside.contains(node)) continue;
      NodeDef def = node->def();
      def.inputs.clear();
      def.name = view_.unique_name(def.name + "/inside");
      GraphNode& copy = view_.add(std::move(def), node->inputs(), node->controls());
      copies.emplace(node, &copy);
      node = &copy;
    }
    for (const Nodes* readers : {&members, static_cast<const Nodes*>(&found)}) {
      for (GraphNode* reader : *readers) {
        for (size_t i = 0; i < reader->num_inputs(); ++i)
          if (const auto copy = copies.find(reader->input(i).node); copy != copies.end())
            view_.set_input(*reader, i, {copy->second, reader->input(i).port});
        wait_for_sources(*reader, *members.front());
      }
    }
    return found;
  }

  // Sources first.
  Nodes find_light_nodes(const Nodes& members) const {
    Nodes found;
    NodeSet seen;
    const auto look_at = [&](const GraphNode& reader) {
      for (const Output& source : reader.inputs())
        if (is_light(*source.node, *members.front()) && seen.insert(source.node).second)
          found.push_back(source.node);
    };
    for (const GraphNode* member : members) look_at(*member);
    for (size_t i = 0; i < found.size(); ++i) look_at(*found[i]);
    std::ranges::sort(found, {}, [&](const GraphNode* node) { return number_[node->index()]; });
    return found;
  }

  // Lets the node wait for what the light nodes that it waits for depend on, in their place.
  void wait_for_sources(GraphNode& node, const GraphNode& member) {
    Nodes lights;
    for (GraphNode* source : node.controls())
      if (is_light(*source, member)) lights.push_back(source);
    for (GraphNode* light : lights) view_.remove_control(*light, node);
    NodeSet seen(lights.begin(), lights.end());
    for (size_t i = 0; i < lights.size(); ++i) {
      for_each_source(*lights[i], [&](Output source) {
        if (is_here(Role::kMember, *source.node, member)) return;
        if (!is_light(*source.node, member))
          view_.add_control(*source.node, node);
        else if (seen.insert(source.node).second)
          lights.push_back(source.node);
      });
    }
  }

  bool is_read_elsewhere(const GraphNode& node, const NodeSet& inside) const {
    return context_.preserved(node) || node.num_control_uses() ||
           std::ranges::any_of(node.data_uses(),
                               [&](const Use& use) { return !inside.contains(use.node); });
  }

  GraphView& view_;
  Context& context_;
  const Candidates candidates_;
  const std::vector<int> levels_;
  std::vector<int> number_;  // by node of the view, in candidates_
};

}  // namespace

int form_clusters(GraphView& view, Context& context) {
  return has_cluster_kernel() ? Former(view, context).form() : 0;
}

}  // namespace tfmetal
