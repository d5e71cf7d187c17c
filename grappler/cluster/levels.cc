#include "grappler/cluster/levels.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace tfmetal {
namespace {

using Role = LevelProblem::Role;
constexpr int kNever = std::numeric_limits<int>::max() / 2;

class Levels {
 public:
  explicit Levels(const LevelProblem& problem)
      : problem_(problem), size_(problem.roles.size()), level_(size_, 0), latest_(size_, kNever) {
    outgoing_.resize(size_);
    for (const LevelProblem::Edge& edge : problem.edges)
      outgoing_[size_t(edge.from)].push_back({edge.to, rise(edge)});
  }

  std::vector<int> find() {
    find_earliest();
    find_components();
    std::vector<std::vector<int>> at_level(size_t(highest_) + 1);  // nodes, last ones first
    for (int node = int(size_); node-- > 0;) at_level[size_t(level_[size_t(node)])].push_back(node);
    for (int level = highest_; level >= 0; --level) {
      const std::vector<int>& nodes = at_level[size_t(level)];
      find_latest(nodes, Role::kLight);
      for (int node : nodes)
        if (component_[size_t(node)] == node && role(node) == Role::kMember) move_later(node);
      find_latest(nodes, Role::kOutside);
    }
    settle_light();
    return level_;
  }

 private:
  struct Step {
    int to;
    int rise;
  };

  Role role(int node) const { return problem_.roles[size_t(node)]; }
  int group(int node) const { return problem_.groups[size_t(node)]; }

  int rise(const LevelProblem::Edge& edge) const {
    if (edge.apart) return 1;
    if (role(edge.from) == Role::kOutside) return 0;
    return role(edge.to) == Role::kOutside || group(edge.from) != group(edge.to);
  }

  void find_earliest() {
    for (size_t node = 0; node < size_; ++node) {
      highest_ = std::max(highest_, level_[node]);
      for (const Step& step : outgoing_[node])
        level_[size_t(step.to)] = std::max(level_[size_t(step.to)], level_[node] + step.rise);
    }
  }

  int root_of(int node) {
    while (component_[size_t(node)] != node)
      node = component_[size_t(node)] = component_[size_t(component_[size_t(node)])];
    return node;
  }

  bool is_inside(int from, const Step& step) const {
    return step.rise == 0 && role(from) == Role::kMember && role(step.to) == Role::kMember &&
           level_[size_t(from)] == level_[size_t(step.to)];
  }

  void find_components() {
    component_.resize(size_);
    std::iota(component_.begin(), component_.end(), 0);
    for (int node = 0; node < int(size_); ++node)
      for (const Step& step : outgoing_[size_t(node)])
        if (is_inside(node, step)) component_[size_t(root_of(step.to))] = root_of(node);
    members_.resize(size_);
    for (int node = 0; node < int(size_); ++node) {
      component_[size_t(node)] = root_of(node);
      members_[size_t(component_[size_t(node)])].push_back(node);
    }
  }

  // The highest level at which `step` may start.
  int limit(const Step& step) const {
    const std::vector<int>& end = role(step.to) == Role::kMember ? level_ : latest_;
    return end[size_t(step.to)] - step.rise;
  }

  void find_latest(const std::vector<int>& nodes, Role which) {
    for (int node : nodes) {
      if (role(node) != which) continue;
      for (const Step& step : outgoing_[size_t(node)])
        latest_[size_t(node)] = std::min(latest_[size_t(node)], limit(step));
    }
  }

  void move_later(int component) {
    const int now = level_[size_t(component)];
    int latest = kNever, reader = kNever;
    for (int node : members_[size_t(component)]) {
      for (const Step& step : outgoing_[size_t(node)]) {
        if (component_[size_t(step.to)] == component) continue;
        latest = std::min(latest, limit(step));
        if (role(step.to) == Role::kMember && step.rise == 0)
          reader = std::min(reader, level_[size_t(step.to)]);
      }
    }
    if (reader == kNever || reader > latest || reader <= now) return;
    for (int node : members_[size_t(component)]) level_[size_t(node)] = reader;
  }

  void settle_light() {
    for (size_t node = 0; node < size_; ++node)
      if (role(int(node)) == Role::kLight) level_[node] = 0;
    for (int node = 0; node < int(size_); ++node)
      for (const Step& step : outgoing_[size_t(node)])
        if (role(step.to) == Role::kLight && role(node) != Role::kOutside && step.rise == 0)
          level_[size_t(step.to)] = std::max(level_[size_t(step.to)], level_[size_t(node)]);
  }

  const LevelProblem& problem_;
  const size_t size_;
  std::vector<std::vector<Step>> outgoing_;
  std::vector<int> level_, latest_;  // latest: of nodes that are no members
  std::vector<int> component_;       // of members of one level: their first
  std::vector<std::vector<int>> members_;
  int highest_ = 0;
};

}  // namespace

std::vector<int> find_levels(const LevelProblem& problem) { return Levels(problem).find(); }

}  // namespace tfmetal
